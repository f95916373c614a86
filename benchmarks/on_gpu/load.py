"""A quick load for a table: the highest Poisson rate whose latencies stay within the limit, in about a second.

It is no replacement for `loadtest`, which takes the time to be sure; it is a second instrument beside it. Latency
counts from the scheduled arrival, as there. Timers of asyncio are up to a millisecond late, which counts as latency.
Stretches of a quarter of a second do not show how a queue grows next to saturation: it reads a few percent high there.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

_CONNECTIONS = 400  # with the server's ends, under the 1024 files that a process may often have open
_SATURATE_S, _PROBE_S, _PROBE_REQUESTS, _PROBE_MAX_S = 0.2, 0.25, 100, 0.5
_PROBES = 3
_FIRST = 0.9  # of the burst's rate
_MISSES = 0.01  # p99


class _Connection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._answer: asyncio.Future[int] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """The answer's status; 0 where the connection broke."""
        self._answer = answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        if separator and len(rest) >= int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0]):
            self._data = b""
            self._finish(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(0)

    def _finish(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


@dataclass(frozen=True)
class Probe:
    """One stretch of load: requests/s asked, and latencies in seconds (infinite: failed or given up)."""

    rate: float
    latencies_s: list[float] = field(repr=False)

    def holds(self, limit_s: float) -> bool:
        """Whether at most one in a hundred is late."""
        return sum(one > limit_s for one in self.latencies_s) <= _MISSES * len(self.latencies_s)

    @property
    def p99_ms(self) -> float:
        """The smallest latency that 99% keep within."""
        ordered = sorted(self.latencies_s)
        return 1e3 * ordered[math.ceil(0.99 * len(ordered)) - 1]


@dataclass(frozen=True)
class Capacity:
    """What was found of one configuration; no `p99_ms` where no rate held."""

    capacity_qps: float
    saturated_qps: float
    p99_ms: float | None
    probes: tuple[Probe, ...] = field(repr=False)


class Client:
    """Connections to one server, opened as they are needed."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._idle, self._opened = port, deque[_Connection](), 0
        self._head, self._item = f"POST {path} HTTP/1.1\r\nHost: gpu\r\nContent-Length: ", 0

    async def ask(self) -> int:
        """One request; the answer's status."""
        connection = self._idle.pop() if self._idle else await self._open()
        self._item = (self._item + 7) % 64
        body = f'{{"item": {self._item}}}'
        status = await connection.ask(f"{self._head}{len(body)}\r\n\r\n{body}".encode())
        if status:
            self._idle.append(connection)
        else:
            self._opened -= 1
        return status

    async def _open(self) -> _Connection:
        if self._opened >= _CONNECTIONS:
            while not self._idle:
                await asyncio.sleep(0.001)
            return self._idle.pop()
        self._opened += 1
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self._port)
        return connection

    async def close(self) -> None:
        """Those that are open."""
        while self._idle:
            self._idle.pop().transport.abort()
        await asyncio.sleep(0)  # which is when they are


async def reconfigure(port: int, knobs: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """PUT /config, or with no knobs GET /device; status and answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps(knobs).encode()
        line = (
            f"PUT /config HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n" if knobs else "GET /device HTTP/1.1\r\n\r\n"
        )
        writer.write(line.encode() + (body if knobs else b""))
        head = await reader.readuntil(b"\r\n\r\n")
        text = await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0]))
    finally:
        writer.close()
        await writer.wait_closed()
    return int(head[9:12]), json.loads(text)


async def saturated(client: Client, concurrency: int, seconds: float) -> float:
    """Answers per second with so many requests always under way; 0 where any fails."""
    begun, done, failed = time.perf_counter(), 0, False

    async def user() -> None:
        nonlocal done, failed
        while not failed and time.perf_counter() - begun < seconds:
            failed |= await client.ask() != 200
            done += 1

    await asyncio.gather(*(user() for _ in range(concurrency)))
    return 0.0 if failed else done / (time.perf_counter() - begun)


async def probe(client: Client, rate: float, limit_s: float, seed: int) -> Probe:
    """Poisson arrivals at that rate, until the verdict is plain or the time is over."""
    generator = random.Random(seed)
    planned = max(20, int(rate * min(_PROBE_MAX_S, max(_PROBE_S, _PROBE_REQUESTS / rate))))
    latencies: list[float] = []
    tasks: list[asyncio.Task[None]] = []
    at = begun = time.perf_counter()
    late = 0

    async def request(scheduled: float) -> None:
        nonlocal late
        status = await client.ask()
        latencies.append(time.perf_counter() - scheduled if status == 200 else math.inf)
        late += latencies[-1] > limit_s

    for _ in range(planned):
        at += generator.expovariate(rate)
        wait = at - time.perf_counter()
        await asyncio.sleep(max(0.0, wait))
        tasks.append(asyncio.create_task(request(at)))
        if late > _MISSES * planned + 2 or time.perf_counter() - begun > 3 * _PROBE_MAX_S:
            break  # it cannot hold any more, or this process cannot send so fast
    await asyncio.gather(*tasks)
    return Probe(rate, latencies)


async def capacity(client: Client, at_once: int, limit_s: float, seed: int = 0) -> Capacity:
    """A burst, and then a few rates that close in on the highest that holds."""
    saturated_qps = await saturated(client, 2 * at_once + 2, _SATURATE_S)
    probes: list[Probe] = []
    low, high, rate = 0.0, saturated_qps, _FIRST * saturated_qps
    for number in range(_PROBES if saturated_qps else 0):
        probes.append(await probe(client, rate, limit_s, seed + number))
        low, high = (rate, high) if probes[-1].holds(limit_s) else (low, rate)
        rate = (low + high) / 2 if low else 0.7 * high
    held = [one for one in probes if one.holds(limit_s)]
    best = max(held, key=lambda one: one.rate, default=None)
    return Capacity(low, saturated_qps, None if best is None else best.p99_ms, tuple(probes))
