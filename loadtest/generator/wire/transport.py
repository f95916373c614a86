"""Sends one request over pooled connections and says in a user's words what went wrong.

This is the HTTP library below Locust's FastHttpUser (geventhttpclient), without that user's session: the session
follows redirects to pages that nobody asked to measure, counts an answer that breaks off in its body as good, repeats
what failed (thousands of times, for a GET whose connection is closed), carries cookies from one independent user to
the next, and spends the generator's time on all that.
"""

from __future__ import annotations

import errno
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPResponse, HTTPSocketPoolResponse

from loadtest.plan import LoadPlan
from loadtest.request.answers import Check, checker
from loadtest.request.auth import secret_headers
from loadtest.request.bodies import ALL, Body, Share, by_share, in_turn, read_others
from loadtest.request.decoding import MAX_BODY_BYTES, AnswerError, DecodedLines, decoded_body, too_large
from loadtest.request.prompts import Prompts
from loadtest.request.reply import GOOD, NO_PORT, Reply, Send
from loadtest.request.request_check import PlanError
from loadtest.request.streams import read_stream
from loadtest.request_plan import RequestPlan

_MAX_CONNECTIONS = 20_000  # the library's default would turn an open loop into a closed one
_CONNECT_S = 5.0
_READ_BYTES = 65_536
_MAX_HEAD_BYTES = 256 << 10
_PAUSE_BYTES = 1 << 20
_OURS = (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE)  # no port, no file left on this machine


def _at_once(sock: Any) -> None:
    """Nothing waits for more to be sent: the second record of a large request over TLS waited up to 40 ms."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Pool(ConnectionPool):
    def after_connect(self, sock: Any) -> None:
        _at_once(sock)

    def _is_socket_alive(self, sock: Any) -> bool:
        return _is_open(sock)


class _SecurePool(SSLConnectionPool):
    def after_connect(self, sock: Any) -> None:
        _at_once(sock)

    def _is_socket_alive(self, sock: Any) -> bool:
        return _is_open(sock)


class _Asked(NamedTuple):
    """A request as it is sent, where to, and what its answer has to hold."""

    message: bytes
    target: str
    check: Check | None


class Transport:
    """Sends the plan's request, with the next of its bodies. Raises PlanError for what cannot be sent."""

    def __init__(self, plan: LoadPlan, bodies: Sequence[Body], share: Share = ALL) -> None:
        seed = share.seed(plan.seed)
        parts, request = urlsplit(plan.url), plan.request
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._timeout_s = plan.request_timeout_s
        made: dict[str, Any] = {
            "size": _MAX_CONNECTIONS,
            "connection_timeout": min(_CONNECT_S, self._timeout_s),
            "network_timeout": self._timeout_s,
        }
        self._pool: ConnectionPool = (
            _SecurePool(
                host, port, host, port, insecure=not request.verify_tls, ssl_context_factory=trust(request), **made
            )
            if parts.scheme == "https"
            else _Pool(host, port, host, port, **made)
        )
        self._method = request.method.upper()
        target = parts.path.rstrip("/") + request.path
        secret = secret_headers(request.auth)
        self._message = partial(_message, request, secret, target, parts.netloc)
        # No two processes that load one server may send the same words.
        self._prompts = None if request.llm is None else Prompts(request.llm, seed, secrets.token_hex(8))
        # Made once: to build the head anew for every request would cost more than to send it.
        self._check = None if request.check is None else checker(request.check)
        messages = [_Asked(self._message(body), target, self._check) for body in bodies]
        others = []
        for number, (other, found) in enumerate(zip(request.others, read_others(request), strict=True)):
            there = parts.path.rstrip("/") + other.path
            check = self._check if other.check is None else checker(other.check)
            own = [_Asked(_message(request, secret, there, parts.netloc, body), there, check) for body in found]
            others.append(in_turn(own, request, seed + 2 + number, share))
        shares = [one.share for one in request.others]
        self._next = by_share(in_turn(messages, request, seed, share), others, shares, seed)
        self._streamed = request.stream is not None
        self._several = bool(request.others)  # paths, so that a failure says at which

    def send(self) -> Reply:
        """Block this greenlet until the answer is complete, at most `request_timeout_s`; what came of it."""
        if self._prompts is not None:
            return self._in_time(partial(self._prompted, self._prompts))
        asked = self._next()
        reply = self._in_time(partial(self._exchange, asked.message, asked.check))
        if not self._several or reply.failure in (None, NO_PORT):
            return reply
        return replace(reply, failure=f"{reply.failure} at {asked.target}")

    def _in_time(self, exchange: Send) -> Reply:
        timeout = gevent.Timeout.start_new(self._timeout_s)
        try:
            return exchange()
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise  # the caller's
            return Reply("timeout")
        except Exception as error:  # noqa: BLE001 (whatever it is, the request failed; the kind says how)
            return Reply(_kind(error))
        finally:
            timeout.close()

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._pool.close()

    def _prompted(self, prompts: Prompts) -> Reply:
        """A prompt that nobody has sent before, or the next turn of a conversation."""
        prompt = prompts.take()
        reply = self._exchange(self._message(Body(prompt.body, "application/json")), self._check)
        if reply.failure is None:
            prompts.answered(prompt)
        return reply

    def _exchange(self, message: bytes, check: Check | None) -> Reply:
        begun = time.perf_counter()  # a connection that has to be made is a part of what a user waits
        sock = self._pool.get_socket()
        try:
            sent = sock.send(message)  # sendall() asks the kernel for its buffer's size each time
            if sent < len(message):
                sock.sendall(message[sent:])
        except BaseException:
            self._pool.release_socket(sock)
            raise
        answer = _Answer(sock, self._pool, block_size=_READ_BYTES, method=self._method)
        status: int = answer.get_code()
        if self._streamed and 200 <= status < 300:
            encoding = answer.encoding
            return read_stream(DecodedLines(answer, encoding) if encoding else answer, begun)
        if check is not None:
            failure = check(status, decoded_body(answer, answer.encoding))
            return GOOD if failure is None else Reply(failure)
        _to_the_end(answer)
        return GOOD if 200 <= status < 300 else Reply(f"http {status}")


class _Answer(HTTPSocketPoolResponse):  # type: ignore[misc,unused-ignore]
    """One whose connection goes back to the pool after the answer itself, not after a 1xx before it. What a server may
    send is bounded, and however fast it does, this greenlet lets the clock of its time-out be looked at.
    """

    _fed = 0
    _paused = 0

    def feed(self, data: Any) -> None:
        """Called with whatever is received. Raises AnswerError for endless headers, or what would have to be held."""
        self._fed += len(data)
        if self._fed > _MAX_HEAD_BYTES and not (self.headers_complete and self.get_code() >= 200):
            raise AnswerError(f"broken answer: more than {_MAX_HEAD_BYTES >> 10} KiB before its body")
        if len(self._body_buffer) > MAX_BODY_BYTES:
            raise too_large()
        if self._fed - self._paused > _PAUSE_BYTES:
            self._paused = self._fed
            gevent.sleep(0)  # a socket that always has something never does
        super().feed(data)

    @property
    def encoding(self) -> str:
        """The Content-Encoding; empty without one."""
        found = self.get("content-encoding") or ""
        return ", ".join(found) if isinstance(found, list) else found

    def piece(self) -> bytes:
        """See `loadtest.decoding.Pieces`."""
        try:
            while not self._body_buffer and not self.message_complete:
                if self._sock is None:
                    raise HTTPConnectionClosed("connection closed.")
                self.feed(self._sock.recv(self.block_size))
        except BaseException:
            self.release()
            raise
        found = bytes(self._body_buffer)
        self._body_buffer.clear()
        return found

    def _on_message_complete(self) -> None:
        HTTPResponse._on_message_complete(self)
        if self.get_code() >= 200:
            self.release()


def _to_the_end(answer: Any) -> None:
    """Nobody looks at the body: it is read in pieces, and forgotten."""
    if answer.message_complete:
        return
    while answer.read(_READ_BYTES):
        pass


def trust(request: RequestPlan) -> Callable[..., ssl.SSLContext]:
    """Makes the TLS context: the system's certificates, those of `ca_file`, or any."""
    try:
        context = ssl.create_default_context(cafile=request.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise PlanError(f"request.tls: {request.ca_file} holds no certificates: {error}") from error
    if not request.verify_tls:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return lambda **_: context


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


def _message(request: RequestPlan, secret: dict[str, str], target: str, host: str, body: Body) -> bytes:
    headers = {"Host": host, "User-Agent": "tune-loadtest", "Accept": "*/*", "Accept-Encoding": "identity"}
    if body.content_type is not None:
        headers["Content-Type"] = body.content_type
    given = request.headers | secret
    names = {name.lower() for name in given}
    headers = {name: value for name, value in headers.items() if name.lower() not in names} | given
    if body.content or request.method.upper() in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(len(body.content))
    lines = [f"{request.method.upper()} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body.content


def _kind(error: Exception) -> str:
    """A failure without an answer. The order matters: many of these are kinds of OSError."""
    if isinstance(error, AnswerError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _OURS:
        return NO_PORT
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS error: {error.verify_message}"
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
