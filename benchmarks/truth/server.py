"""A real HTTP server that is one of the known queues. It answers by timer, so it costs little CPU.

The queue is kept in exact time: an answer is due when the queue says so, whenever the timer fires, so that a late timer
delays its own answer only. asyncio's timers are up to a millisecond late, so the last one is waited for in turns of the
loop. Prints its port; ends when standard input closes, and then prints the service times that it drew, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from benchmarks.truth.queues import BATCH, batch_service_s

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


_EARLY_S = 0.0015


def at(moment: float, call: Callable[[Any], object], argument: object) -> None:
    """Call at that moment of the loop's clock, to some tens of microseconds."""
    loop = asyncio.get_running_loop()
    left = moment - loop.time()
    if left <= 0:
        call(argument)
    elif left > _EARLY_S:
        loop.call_later(left - _EARLY_S, at, moment, call, argument)
    else:
        loop.call_soon(at, moment, call, argument)


class Queue:
    """M/D/1, M/D/4 or M/M/1: each request's end is known when it arrives."""

    def __init__(self, kind: str, service_s: float) -> None:
        servers = 4 if kind == "M/D/4" else 1
        self._service_s, self._random = service_s * servers, kind == "M/M/1"
        self._free = [0.0] * servers
        self.drawn: list[float] = []

    def take(self, now: float, transport: asyncio.Transport) -> None:
        """Schedule the answer."""
        server = min(range(len(self._free)), key=self._free.__getitem__)
        service_s = self._service_s
        if self._random:
            service_s = random.expovariate(1 / self._service_s)
            self.drawn.append(service_s)
        self._free[server] = max(self._free[server], now) + service_s
        at(self._free[server], transport.write, ANSWER)


class BatchQueue:
    """Takes up to `BATCH` waiting requests when it is idle."""

    def __init__(self, service_s: float) -> None:
        self._service_s, self._free = service_s, 0.0
        self.drawn: list[float] = []
        self._waiting: deque[tuple[float, asyncio.Transport]] = deque()
        self._busy = False

    def take(self, now: float, transport: asyncio.Transport) -> None:
        """Begin a batch, or wait for the one that runs."""
        self._waiting.append((now, transport))
        if not self._busy:
            self._begin(max(now, self._free))

    def _begin(self, begin: float) -> None:
        batch: list[asyncio.Transport] = []
        while self._waiting and len(batch) < BATCH and self._waiting[0][0] <= begin:
            batch.append(self._waiting.popleft()[1])
        self._busy = True
        self._free = begin + batch_service_s(self._service_s, len(batch))
        at(self._free, self._end, batch)

    def _end(self, batch: list[asyncio.Transport]) -> None:
        for transport in batch:
            transport.write(ANSWER)
        self._busy = False
        if self._waiting:
            self._begin(max(self._free, self._waiting[0][0]))


class Connection(asyncio.Protocol):
    """Counts blank lines, since requests have no body here, and hands each with its moment to `take`, which answers."""

    def __init__(self, take: Callable[[float, asyncio.Transport], None]) -> None:
        self._take = take

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        now = asyncio.get_running_loop().time()
        for _ in range(data.count(b"\r\n\r\n")):
            self._take(now, self._transport)


async def _serve(kind: str, service_s: float) -> None:
    loop = asyncio.get_running_loop()
    queue = BatchQueue(service_s) if kind == "batch" else Queue(kind, service_s)
    server = await loop.create_server(lambda: Connection(queue.take), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(queue.drawn))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("M/D/1", "M/D/4", "M/M/1", "batch"), default="M/D/1")
    parser.add_argument("--service-ms", type=float, default=4.0)
    parser.add_argument("--core", type=int)
    asked = parser.parse_args()
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    asyncio.run(_serve(asked.kind, asked.service_ms / 1e3))


if __name__ == "__main__":
    main()
