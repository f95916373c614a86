"""Sends one request over pooled connections and says in a user's words what went wrong.

This is the HTTP library below Locust's FastHttpUser (geventhttpclient), without that user's session: the session
follows redirects to pages that nobody asked to measure, counts an answer that breaks off in its body as good, repeats
what failed (thousands of times, for a GET whose connection is closed), carries cookies from one independent user to
the next, and spends the generator's time on all that.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import gevent
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from loadtest.plan import LoadPlan
from loadtest.reply import GOOD, Reply

_MOST_CONNECTIONS = 20_000  # the library's default would turn an open loop into a closed one
_CONNECT_S = 5.0
_READ_BYTES = 65_536


class _Pool(ConnectionPool):
    def _is_socket_alive(self, sock: Any) -> bool:
        return _is_open(sock)


class _SecurePool(SSLConnectionPool):
    def _is_socket_alive(self, sock: Any) -> bool:
        return _is_open(sock)


class Transport:
    """Sends the plan's request, with a body drawn at random for each."""

    def __init__(self, plan: LoadPlan, bodies: Sequence[bytes]) -> None:
        parts = urlsplit(plan.url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        make = _SecurePool if secure else _Pool
        self._timeout_s = plan.request_timeout_s
        self._pool = make(
            host,
            port,
            host,
            port,
            size=_MOST_CONNECTIONS,
            connection_timeout=min(_CONNECT_S, self._timeout_s),
            network_timeout=self._timeout_s,
        )
        self._method = plan.request.method.upper()
        target = parts.path.rstrip("/") + plan.request.path
        # Made once: to build the head anew for every request would cost more than to send it.
        self._messages = [_message(plan, target, parts.netloc, body) for body in bodies or [b""]]
        self._choose: Callable[[Sequence[bytes]], bytes] = random.Random(plan.seed).choice  # noqa: S311 (not for secrets)

    def send(self) -> Reply:
        """Block this greenlet until the answer is complete, at most `request_timeout_s`; what came of it."""
        timeout = gevent.Timeout.start_new(self._timeout_s)
        try:
            return self._exchange(self._choose(self._messages))
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise  # the caller's
            return Reply("timeout")
        except Exception as error:  # noqa: BLE001 (whatever it is, the request failed; the kind says how)
            return Reply(_kind(error))
        finally:
            timeout.close()

    def _exchange(self, message: bytes) -> Reply:
        sock = self._pool.get_socket()
        try:
            sock.sendall(message)
        except BaseException:
            self._pool.release_socket(sock)
            raise
        response = HTTPSocketPoolResponse(sock, self._pool, block_size=_READ_BYTES, method=self._method)
        response.read()
        status: int = response.get_code()
        return GOOD if 200 <= status < 300 else Reply(f"http {status}")


def _is_open(sock: Any) -> bool:
    """Whether an idle connection is still good. The library asks select(), which refuses descriptors over 1,024."""
    try:
        # What is readable while no answer is due is the end of the connection, or rubbish.
        sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)  # below gevent, which would wait
    except BlockingIOError:
        return True
    except (OSError, AttributeError):  # broken; closed on this side
        return False
    return False


def _message(plan: LoadPlan, target: str, host: str, body: bytes) -> bytes:
    headers = {"Host": host, "User-Agent": "tune-loadtest", "Accept": "*/*", "Accept-Encoding": "identity"}
    given = {name.lower() for name in plan.request.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in given} | plan.request.headers
    if body or plan.request.method.upper() in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(len(body))
    lines = [f"{plan.request.method.upper()} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _kind(error: Exception) -> str:
    """A failure without an answer. The order matters: many of these are kinds of OSError."""
    kinds: list[tuple[type[Exception], str]] = [
        (ConnectionRefusedError, "connection refused"),
        (TimeoutError, "timeout"),
        (ssl.SSLError, "TLS error"),
        (socket.gaierror, "unknown host"),
        (HTTPConnectionClosed, "connection closed"),
        (HTTPParseError, "broken answer"),
        (ConnectionError, "connection reset"),
    ]
    return next((text for kind, text in kinds if isinstance(error, kind)), f"{type(error).__name__}: {error}"[:80])
