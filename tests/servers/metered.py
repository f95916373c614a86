"""A real small server with metrics for Prometheus: one request at a time, each as long as the next."""

from __future__ import annotations

import argparse
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Histogram, generate_latest

REGISTRY = CollectorRegistry()
LATENCY = Histogram(
    "request_seconds", "of an answer, with its wait", registry=REGISTRY,
    buckets=(0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.18, 0.25, 0.5, 1.0),
)  # fmt: skip
LINE = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service_s = 0.01

    def do_POST(self) -> None:
        begun = time.monotonic()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with LINE:
            time.sleep(self.service_s)
        LATENCY.observe(time.monotonic() - begun)
        self.answer(b'{"ok": true}')

    def do_GET(self) -> None:
        self.answer(generate_latest(REGISTRY) if self.path == "/metrics" else b"ok")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, _format: str, *arguments: object) -> None:
        """Says nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--service-ms", type=float, default=10.0)
    options = parser.parse_args()
    Handler.service_s = options.service_ms / 1e3
    with Server(("127.0.0.1", options.port), Handler) as server:
        print("listening", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
