"""A queue whose truth is known, in simulated time: one server, constant service, Poisson arrivals (M/D/1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loadtest.capacity import Probed
from loadtest.plan import Probe
from loadtest.verdict import Evidence


def latencies(rate_qps: float, service_s: float, count: int, seed: int) -> NDArray[np.float64]:
    """Waiting plus service of `count` requests after 2,000 that are dropped, by Lindley's recursion."""
    generator = np.random.default_rng(seed)
    gaps = generator.exponential(1 / rate_qps, count + 2000)
    waits, wait = np.empty(count + 2000), 0.0
    for index, gap in enumerate(gaps):
        wait = max(0.0, wait + service_s - gap)
        waits[index] = wait
    return np.asarray(waits[2000:] + service_s)


class SimulatedProber:
    """A prober that takes no time: its clock moves by the length of each probe."""

    def __init__(self, service_s: float, limit_s: float, seconds: float, seed: int) -> None:
        self.service_s, self.limit_s, self.left, self.seed = service_s, limit_s, seconds, seed
        self.rates: list[float] = []

    def remaining_s(self) -> float:
        return self.left

    def probe(self, rate_qps: float, at_most_s: float) -> Probed:
        self.left -= at_most_s
        self.rates.append(rate_qps)
        found = latencies(rate_qps, self.service_s, max(1, int(rate_qps * at_most_s)), self.seed + len(self.rates))
        missed = found > self.limit_s
        probe = Probe(
            rate_qps=rate_qps, verdict="undecided", started_s=0, duration_s=at_most_s, requests=len(found),
            completed=len(found), misses=int(missed.sum()), errors=0, achieved_qps=rate_qps, p50_ms=None, p95_ms=None,
            p99_ms=None, late_p99_ms=0, generator_cpu=0, histogram="",
        )  # fmt: skip
        return Probed(probe, (Evidence.of(missed, self.limit_s * rate_qps),), (0.01,))


def true_capacity(service_s: float, limit_s: float) -> float:
    """The rate at which 1% of requests exceed the limit, from long simulations."""
    low, high = 0.1 / service_s, 0.999 / service_s
    for _ in range(18):
        middle = (low + high) / 2
        missed = float((latencies(middle, service_s, 200_000, 5) > limit_s).mean())
        low, high = (middle, high) if missed <= 0.01 else (low, middle)
    return low
