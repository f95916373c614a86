"""A real HTTP server, which answers as its path says and remembers what it was asked: in a thread, or as a program."""

from __future__ import annotations

import argparse
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKENS, FIRST_S, BETWEEN_S = 5, 0.05, 0.02


@dataclass
class Request:
    """As it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Api:
    """The server's URL, and what it was asked so far."""

    url: str
    asked: list[Request] = field(default_factory=list)
    token: str | None = None
    slow_s: float = 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait for 40 ms until the client has acknowledged the headers
    api: Api

    def setup(self) -> None:
        time.sleep(self.api.slow_s)  # before the handshake of TLS
        super().setup()

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.api.asked.append(Request(self.command, self.path, headers, body))
        path = self.path.removeprefix("/").partition("?")[0]
        if self.api.token is not None and headers.get("authorization") != f"Bearer {self.api.token}":
            self._answer(401, b"{}")
        elif path.startswith("stream"):
            self._stream(path)
        elif path.isdigit():
            self._answer(int(path), b"" if path == "204" else b"{}")
        else:
            self._answer(200, {
                "empty": b"", "huge": b"x" * 5_000_000, "text": b"hello", "deep": b"[" * 100_000,
                "failed": b'{"error": {"message": "out of memory"}, "outputs": []}',
            }.get(path, b'{"outputs": [{"score": 0.5}, {"score": 0.7}]}'))  # fmt: skip

    do_GET = do_POST  # noqa: N815 (the library's name)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/ok")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, path: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        if path != "stream-nothing":
            for number in range(TOKENS):
                time.sleep(BETWEEN_S if number else FIRST_S)
                self._event({"choices": [{"delta": {"content": f"word{number} "}, "finish_reason": None}]})
                if path == "stream-breaks-off" and number == 2:
                    self.close_connection = True
                    return
                if path == "stream-ends-early" and number == 2:
                    self._chunk(b"")
                    return
        if path == "stream-fails":
            self._event({"error": {"message": "the engine died"}})
        if path == "stream-usage":
            self._event({"choices": [], "usage": {"completion_tokens": 50}})
        if path == "stream-rubbish":
            self._chunk(b"data: {not json\n\n")
        self._chunk(b": a comment\r\n\r\ndata: [DONE]\r\n\r\n")
        self._chunk(b"")

    def _event(self, event: object) -> None:
        self._chunk(f"data: {json.dumps(event)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the certificate hangs up."""


@contextmanager
def serving(
    certificate: Path | None = None, port: int = 0, token: str | None = None, slow_s: float = 0.0
) -> Iterator[Api]:
    """With `certificate`, a PEM file with its key, it speaks TLS; with `token` it asks for that. It looks at a new
    connection after `slow_s`.
    """
    server = _Server(("127.0.0.1", port), _Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if certificate is None else "https"
    api = Api(f"{scheme}://127.0.0.1:{server.server_address[1]}", token=token, slow_s=slow_s)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"api": api})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """The token that it asks for is in its environment, as API_TOKEN."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path)
    asked = parser.parse_args()
    with serving(asked.certificate, asked.port, os.environ.get("API_TOKEN")):
        threading.Event().wait()


if __name__ == "__main__":
    main()
