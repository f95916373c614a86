"""Serves one stage of the chain, or all of them in one process (`--stage all`).

    python serve.py --stage decode --port 8001 --workers 2 --next http://127.0.0.1:8002

A request waits until one of `--workers` is free, is worked on with up to `--batch` - 1 others that wait too, and goes
to the next stage, whose answer is the answer.
`GET /times` says how many requests there were so far, and how long all of them took, by this server's own clock.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import threading
import time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import SplitResult, urlsplit

from stages import STAGES, Stage


class Server(ThreadingHTTPServer):
    """A thread per connection, which waits for one of `workers` threads that work."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], stage: Stage, workers: int, batch: int, following: str | None) -> None:
        super().__init__(address, Handler)
        self.stage, self.batch = stage, batch
        self.waiting: queue.SimpleQueue[tuple[bytes, Future[bytes]]] = queue.SimpleQueue()
        self.following = None if following is None else urlsplit(following)
        self.idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        self.lock, self.requests, self.total_s = threading.Lock(), 0, 0.0
        for _ in range(workers):
            threading.Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        """Takes what waits, at most `batch` requests at a time, and never waits for more to come."""
        while True:
            taken = [self.waiting.get()]
            while len(taken) < self.batch and not self.waiting.empty():
                try:
                    taken.append(self.waiting.get_nowait())
                except queue.Empty:  # another worker was faster
                    break
            try:
                for (_, answer), found in zip(taken, self.stage([body for body, _ in taken]), strict=True):
                    answer.set_result(found)
            except Exception as error:  # noqa: BLE001 (each request's error is its answer)
                for _, answer in taken:
                    answer.set_exception(error)

    def answer(self, body: bytes) -> bytes:
        """This stage's work, then the next one's answer."""
        done: Future[bytes] = Future()
        self.waiting.put((body, done))
        found = done.result()
        return found if self.following is None else self.ask(self.following, found)

    def count(self, passed_s: float) -> None:
        """A request was answered, so long after it came."""
        with self.lock:
            self.requests += 1
            self.total_s += passed_s

    def ask(self, following: SplitResult, body: bytes) -> bytes:
        """The next stage's answer, on a connection that is kept."""
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection(following.hostname or "", following.port)
        connection.request("POST", "/", body)
        answer = connection.getresponse()
        found = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the next stage answered {answer.status}")
        self.idle.put(connection)
        return found


class Handler(BaseHTTPRequestHandler):
    """POST anything; GET /healthz and /times."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet

    def parse_request(self) -> bool:
        """The request has come."""
        self.begun = time.perf_counter()
        return super().parse_request()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self.reply(200, self.server.answer(body))
        except Exception as error:  # noqa: BLE001 (a request's error is its answer)
            self.reply(500, str(error).encode())
        self.server.count(time.perf_counter() - self.begun)

    def do_GET(self) -> None:
        times = {"requests": self.server.requests, "total_s": self.server.total_s}
        self.reply(200, json.dumps(times).encode() if self.path == "/times" else b"ok")

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Nothing per request."""


def main() -> None:
    """Blocks until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", choices=sorted(STAGES), required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--next")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    address, stage = (options.host, options.port), STAGES[options.stage]()
    Server(address, stage, options.workers, options.batch, options.next).serve_forever()


if __name__ == "__main__":
    main()
