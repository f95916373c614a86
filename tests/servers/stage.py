"""One stage of a chain whose times are known: it works `SERVICE_MS` (of its environment) on a request, `--workers`
requests at a time (the others wait in line), then asks `--next` (a URL), where there is one, and answers.

As in `misbehaving.py` the line is kept by a timer, so a stage costs little CPU and holds workers / service time. Only
the standard library is imported.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from urllib.parse import urlsplit

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAILURE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
QUESTION = b"POST /work HTTP/1.1\r\nHost: next\r\nContent-Length: 0\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stage:
    def __init__(self, service_s: float, workers: int, following: str | None) -> None:
        self.service_s, self.free_at = service_s, [0.0] * workers
        self.following = None if following is None else urlsplit(following)
        self.idle: list[Connection] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
                if length:
                    await reader.readexactly(length)
                writer.write(await self.work() if head.startswith(b"POST") else ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def work(self) -> bytes:
        now, worker = time.perf_counter(), min(range(len(self.free_at)), key=self.free_at.__getitem__)
        self.free_at[worker] = max(now, self.free_at[worker]) + self.service_s
        await asyncio.sleep(self.free_at[worker] - now)
        return ANSWER if self.following is None or await self.ask() else FAILURE

    async def ask(self) -> bool:
        assert self.following is not None
        try:
            reader, writer = (
                self.idle.pop()
                if self.idle
                else await asyncio.open_connection(self.following.hostname, self.following.port)
            )
            writer.write(QUESTION)
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 200"):
                await reader.readexactly(2)
                self.idle.append((reader, writer))
                return True
        except (OSError, asyncio.IncompleteReadError):
            pass
        return False


async def main(options: argparse.Namespace) -> None:
    stage = Stage(float(os.environ["SERVICE_MS"]) / 1e3, options.workers, options.next)
    server = await asyncio.start_server(stage.handle, options.host, options.port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--next")
    asyncio.run(main(parser.parse_args()))
