"""The HTTP client for all that is not load: each request has a time-out for the whole of it, and a bound on its answer.

httpx bounds each read, and not their sum: an answer that trickles in, or endless interim answers and headers, would
never time out, and an endless or cleverly compressed body would fill memory. Here the connection itself keeps the time
from when a request is first sent, and counts what comes.
"""

from __future__ import annotations

import contextlib
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import httpx

MAX_ANSWER_BYTES = 64 << 20
_MAX_CONNECTIONS = 16
_EITHER = 32 + zlib.MAX_WBITS  # gzip, or zlib


def bounded_client(
    base_url: str = "", *, timeout_s: float, verify: ssl.SSLContext | bool = True, headers: dict[str, str] | None = None
) -> httpx.Client:
    """A client whose every request ends within its time-out, however the server answers, with httpx's own errors. It
    takes no proxy from the environment: what it asks is on this machine, in this cluster, or named by the user.
    """
    return httpx.Client(
        base_url=base_url, timeout=timeout_s, trust_env=False, transport=_Transport(verify),
        headers={"Accept-Encoding": "identity", **(headers or {})},
    )  # fmt: skip


def bounded_get(url: str, *, timeout_s: float) -> httpx.Response:
    """One answer. Raises as httpx does."""
    with bounded_client(timeout_s=timeout_s) as client:
        return client.get(url)


class _Transport(httpx.BaseTransport):
    """As httpx's own, over connections that keep the time."""

    def __init__(self, verify: ssl.SSLContext | bool) -> None:
        context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify=verify)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_connections=_MAX_CONNECTIONS, network_backend=_Backend()
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx's errors."""
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )  # fmt: skip
        with _as_httpx():
            answer = self._pool.handle_request(asked)
        encoding = b",".join(value for name, value in answer.headers if name.lower() == b"content-encoding")
        kept = [pair for pair in answer.headers if pair[0].lower() not in _ABOUT_ENCODING or not encoding]
        return httpx.Response(
            answer.status, headers=kept, stream=_Body(answer, encoding.decode("latin-1")), extensions=answer.extensions
        )

    def close(self) -> None:
        """All connections."""
        self._pool.close()


_ABOUT_ENCODING = (b"content-encoding", b"content-length")


class _Body(httpx.SyncByteStream):
    """What has come of the body, decoded where it is in gzip or deflate, at most so much."""

    def __init__(self, answer: httpcore.Response, encoding: str) -> None:
        self._answer, self._packed = answer, encoding.strip().lower() in ("gzip", "x-gzip", "deflate")

    def __iter__(self) -> Iterator[bytes]:
        unpack = zlib.decompressobj(_EITHER) if self._packed else None
        received = 0
        stream: Any = self._answer.stream
        with _as_httpx():
            for piece in stream:
                try:
                    part = piece if unpack is None else unpack.decompress(piece, MAX_ANSWER_BYTES + 1)
                except zlib.error as error:
                    raise httpx.DecodingError(f"the answer is not compressed as it says: {error}") from error
                received += len(part)
                if received > MAX_ANSWER_BYTES:
                    raise httpx.DecodingError(f"the answer has more than {MAX_ANSWER_BYTES >> 20} MiB")
                yield part

    def close(self) -> None:
        with _as_httpx():
            self._answer.close()


class _Backend(httpcore.SyncBackend):
    """Connections of the operating system that keep the time."""

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        """As the library's."""
        return _Stream(super().connect_tcp(*args, **kwargs))


class _Stream(httpcore.NetworkStream):
    """The time of a request begins with its first byte, and its answer has to be complete by its end."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._end: float | None = None
        self._received, self._sending = 0, False

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Raises WriteTimeout."""
        if not self._sending:
            self._sending, self._received = True, 0
            self._end = None if timeout is None else time.monotonic() + timeout
        self._stream.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Raises ReadTimeout, and ReadError for more than is ever read."""
        self._sending = False
        data = self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))
        self._received += len(data)
        if self._received > 2 * MAX_ANSWER_BYTES:
            raise httpcore.ReadError(f"the answer has more than {MAX_ANSWER_BYTES >> 20} MiB")
        return data

    def close(self) -> None:
        """As the library's."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same, encrypted."""
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """As the library's."""
        return self._stream.get_extra_info(info)

    def _left(self, timeout: float | None, late: Callable[[str], Exception]) -> float | None:
        if self._end is None:
            return timeout
        left = self._end - time.monotonic()
        if left <= 0:
            raise late("the request took longer than it may")
        return left


_ERRORS = (
    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol
)  # fmt: skip


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    """Map httpcore's errors to those of the same name."""
    try:
        yield
    except _ERRORS as error:
        kind = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error)) from error
