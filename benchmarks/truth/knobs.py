r"""Services with knobs whose every configuration's capacity is known: each seed is one, and a real HTTP server.

    python -m benchmarks.truth.knobs --service 3 --port 8000 --cpu-cores 2 --memory 1Gi --workers 2 --threads 1 \
        --batch-size 8 --batch-delay-ms 5

Workers take batches from one queue. A batch takes a fixed time and one for each request, which threads shorten by
Amdahl's law; more threads than cores slow one another down. Too little memory ends the server as the kernel would. It
answers by timer, so it costs little CPU. Each launch is a little faster or slower than the last, by `--launch-noise`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.truth import models
from benchmarks.truth.server import Connection, at

LIMIT_MS = 300
MEMORY = {"512Mi": 512, "1Gi": 1024, "2Gi": 2048}
CORES, WORKERS, THREADS = (1, 2), (1, 2, 4), (1, 2, 4)
BATCHES, DELAYS_MS = (1, 2, 4, 8, 16), (0, 5, 20, 100)
CORE_HOUR, GIB_HOUR = 0.04, 0.005  # US dollars
Configuration = Mapping[str, Any]


@dataclass(frozen=True)
class Times:
    """Of one configuration: a batch takes `fixed_s` and about `item_s` for each request, lognormal of `sigma`."""

    workers: int
    batch_size: int
    delay_s: float
    fixed_s: float
    item_s: float
    sigma: float


@dataclass(frozen=True)
class Service:
    """`parallel` is the share of a request's work that threads divide, `contention` the power of the threads a core."""

    fixed_s: float
    item_s: float
    sigma: float
    parallel: float
    contention: float
    base_mib: float
    worker_mib: float
    request_mib: float

    @classmethod
    def drawn(cls, seed: int) -> Service:
        """A service at random: about 10 to 150 requests/s at most, on two cores."""
        draw = random.Random(seed)
        return cls(
            0.004 * 12 ** draw.random(), 0.005 * 6 ** draw.random(), draw.uniform(0.05, 0.6), draw.uniform(0.3, 0.95),
            draw.uniform(1.0, 1.25), draw.uniform(150, 350), draw.uniform(80, 300), draw.uniform(2, 25),
        )  # fmt: skip

    def times(self, configuration: Configuration) -> Times:
        """What every request takes there."""
        workers, threads = int(configuration["workers"]), configuration["threads"]
        slower = max(1.0, workers * threads / configuration["cpu_cores"]) ** self.contention
        shorter = 1 - self.parallel + self.parallel / threads
        return Times(
            workers, int(configuration["batch_size"]), configuration["batch_delay_ms"] / 1e3, slower * self.fixed_s,
            slower * shorter * self.item_s, self.sigma,
        )  # fmt: skip

    def fits(self, configuration: Configuration) -> bool:
        """Whether the memory suffices."""
        each = self.worker_mib + configuration["batch_size"] * self.request_mib
        return bool(self.base_mib + configuration["workers"] * each <= MEMORY[configuration["memory"]])


def configurations() -> list[dict[str, Any]]:
    """All that the spec allows."""
    names = ("cpu_cores", "memory", "workers", "threads", "batch_size", "batch_delay_ms")
    every: Iterator[tuple[Any, ...]] = itertools.product(CORES, MEMORY, WORKERS, THREADS, BATCHES, DELAYS_MS)
    found: list[dict[str, Any]] = [dict(zip(names, one, strict=True)) for one in every]
    return [
        one
        for one in found
        if one["workers"] * one["threads"] <= 2 * one["cpu_cores"]
        and (one["batch_size"] > 1 or not one["batch_delay_ms"])
    ]


def price_per_hour(configuration: Configuration) -> float:
    """In US dollars."""
    return float(CORE_HOUR * configuration["cpu_cores"]) + GIB_HOUR * MEMORY[configuration["memory"]] / 1024


def model(times: Times, clock: models.Clock, draw: random.Random, factor: float = 1.0) -> models.Batches:
    """The server; `factor` is how much slower this launch is."""

    def work() -> float:
        return draw.lognormvariate(-0.5 * times.sigma**2, times.sigma)

    return models.Batches(
        clock, times.batch_size, factor * times.fixed_s, factor * times.item_s, times.delay_s, times.workers, work
    )


class _Clock:
    def at(self, moment: float, call: models.Answer) -> None:
        """See `models.Clock`."""
        at(moment, call, moment)


async def _serve(port: int, times: Times, factor: float) -> None:
    server = model(times, _Clock(), random.Random(), factor)
    ok, head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", asyncio.get_running_loop()

    def take(now: float, transport: asyncio.Transport) -> None:
        server.take(now, lambda _: None if transport.is_closing() else transport.write(ok))

    listening = await head.create_server(lambda: Connection(take), "127.0.0.1", port, backlog=4096)
    await listening.serve_forever()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("service", "port", "cpu-cores", "workers", "threads", "batch-size", "batch-delay-ms"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--memory", choices=MEMORY, required=True)
    parser.add_argument("--launch-noise", type=float, default=0.05, help="sigma of a launch's lognormal factor")
    asked = vars(parser.parse_args())
    service = Service.drawn(asked.pop("service"))
    if not service.fits(asked):
        sys.exit("MemoryError: out of memory")
    factor = math.exp(random.gauss(0.0, asked["launch_noise"]))
    asyncio.run(_serve(asked["port"], service.times(asked), factor))


if __name__ == "__main__":
    main()
