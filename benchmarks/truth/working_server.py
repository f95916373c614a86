"""A real HTTP server that answers one request after the other with work of its own: `compute` uses a fixed CPU time for
each, so that it is M/D/1 as long as it has its core for itself; `copy` moves a fixed number of bytes through memory.

Prints its port; ends when standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
COPY_BYTES = 16 * 2**20


def compute(service_s: float) -> None:
    """Use so much CPU time, however long that takes."""
    end = time.thread_time() + service_s
    while time.thread_time() < end:
        pass


def copier(copies: int) -> Callable[[], None]:
    """Copies 16 MiB so often."""
    source, target = bytearray(os.urandom(2**20) * (COPY_BYTES // 2**20)), bytearray(COPY_BYTES)

    def copy() -> None:
        for _ in range(copies):
            target[:] = source

    return copy


class Connection(asyncio.Protocol):
    """Counts blank lines: requests have no body here. The work is done in the loop, so it is a queue of one server."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        for _ in range(data.count(b"\r\n\r\n")):
            self._work()
            self._transport.write(ANSWER)


async def _serve(work: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(work), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("compute", "copy"), default="compute")
    parser.add_argument("--service-ms", type=float, default=4.0)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--core", type=int)
    asked = parser.parse_args()
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    service_s = asked.service_ms / 1e3
    asyncio.run(_serve(copier(asked.copies) if asked.kind == "copy" else lambda: compute(service_s)))


if __name__ == "__main__":
    main()
