"""What a load test would have seen of a simulated server: lone requests, bursts, probes at rates of many policies.

The next rate may depend on what was seen so far, never on the truth: where a search probes would tell the network
where the capacity is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.judge.burst import MAX_USERS, BurstResult, burst_is_over, longest_s, next_users
from loadtest.judge.features import Query, Requests, scale_qps
from loadtest.judge.settling import settle_s
from training.servers.arrivals import Pattern
from training.servers.server import Metric, Server, answers, closed_loop

Floats = NDArray[np.float64]
Random = np.random.Generator

MAX_PROBES = 9
_LOOK_S = 0.25
_START_S = 0.5
_LONGEST_S, _MAX_REQUESTS = 300.0, 8_000
_SLOW = 25.0  # lone requests: nobody tests a server in less time


@dataclass(frozen=True)
class Trial:
    """What was seen, in the terms of `loadtest.judge`."""

    lone_s: Floats
    bursts: list[BurstResult]
    probes: list[Requests]
    seconds: float

    @property
    def requests(self) -> int:
        """Those that were judged."""
        return sum(int(probe.counted.sum()) for probe in self.probes)


@dataclass(frozen=True)
class Simulated:
    """A server under some arrivals, and the limit that is of interest."""

    server: Server
    pattern: Pattern
    query: Query
    random: Random

    def _seed(self) -> int:
        return int(self.random.integers(1 << 62))

    @property
    def metric(self) -> Metric:
        """What the limit bounds."""
        return self.query.metric  # type: ignore[return-value]

    def burst(self, users: int, longest: float) -> BurstResult:
        """A closed loop, looked at every so often, until it has said enough."""
        sent, found = closed_loop(self.server, users, longest, self._seed())
        ended = np.sort(np.where(found.failed, np.inf, sent + found.latency))
        passed = longest
        for now in np.arange(_LOOK_S, longest, _LOOK_S):
            if burst_is_over(users, int(np.searchsorted(ended, now)), float(now), longest):
                passed = float(now)
                break
        kept = sent < passed
        return BurstResult.of(users, passed, sent[kept], found.latency[kept], found.failed[kept])

    def bursts(self, max_s: float, base_s: float) -> list[BurstResult]:
        """All bursts of a search of that length."""
        found: list[BurstResult] = []
        while (users := next_users(found, self.query.limit_s)) is not None and users <= MAX_USERS:
            found.append(self.burst(users, longest_s(max_s, base_s)))
        return found

    def lone(self, count: int) -> Floats:
        """Latencies of requests that are sent one after the other."""
        _, found = closed_loop(self.server, 1, 1e9, self._seed(), max_requests=count)
        return found.latency[np.isfinite(found.latency) & ~found.failed]

    def load(self, rate_qps: float, seconds: float) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
        """A stretch of load on an idle server: when requests arrive, their latencies, what is limited, which failed."""
        count = int(rate_qps * seconds * 1.3 + 6 * math.sqrt(rate_qps * seconds) + 10)
        times = self.pattern.times(self.random, rate_qps, count)
        times = times[times <= seconds]
        if len(times) < 2:
            times = np.array([0.4, 0.8]) * seconds
        found = answers(self.server, times, self._seed())
        return times, found.latency, found.values(self.metric), found.failed

    def probe(self, rate_qps: float, seconds: float) -> Requests:
        """From an idle server, for so long; requests that are younger than the limit are not judged."""
        limit = self.query.limit_s
        times, latency, values, failed = self.load(rate_qps, seconds)
        values = np.where(times + latency > seconds, np.inf, values)
        settle = settle_s(limit, seconds)
        counted = (times > settle) & (times <= seconds - limit)
        return Requests(rate_qps, times, values, counted, int((failed & counted).sum()))

    def trial(self, probes: int) -> Trial:
        """A whole trial with so many probes."""
        lone_s = self.lone(int(self.random.integers(2, 9)))
        base_s = float(np.median(lone_s)) if len(lone_s) else self.query.limit_s
        max_s = max(float(np.exp(self.random.uniform(math.log(8), math.log(90)))), _SLOW * base_s)
        bursts = self.bursts(max_s, base_s)
        scale = scale_qps(bursts, base_s)
        policy = _Policy(self.random, scale, self.query.allowed)
        found: list[Requests] = []
        seconds = 0.0
        for _ in range(probes):
            rate = policy.next_rate()
            requests = float(np.exp(self.random.uniform(math.log(8), math.log(2500))))
            length = min(_LONGEST_S, requests / rate + self.query.limit_s + min(_START_S, requests / rate))
            length = min(length, _MAX_REQUESTS / rate + self.query.limit_s)
            found.append(self.probe(rate, length))
            policy.seen(found[-1], self.query.limit_s)
            seconds += length
        return Trial(lone_s, bursts, found, seconds)


class _Policy:
    """Chooses rates by what was seen: mostly a bracket that narrows, sometimes anything, below only or above only."""

    def __init__(self, random: Random, scale: float, allowed: float) -> None:
        self._random, self._scale, self._allowed = random, scale, allowed
        self._kind = str(
            random.choice(["search", "mixed", "random", "below", "above"], p=[0.5, 0.26, 0.12, 0.07, 0.05])
        )
        self._low: float | None = None
        self._high: float | None = None
        self._sharp = float(random.uniform(0.05, 0.6))

    def next_rate(self) -> float:
        """In requests a second."""
        kind = self._kind
        if kind == "mixed":
            kind = "search" if self._random.random() < 0.7 else "random"
        if kind == "below":
            return self._scale * float(self._random.uniform(0.1, 0.7))
        if kind == "above":
            return self._scale * float(self._random.uniform(0.9, 1.6))
        low, high = self._low, self._high
        step = float(np.exp(self._random.uniform(0.03, 0.5)))
        if kind != "random" and high is None and low is not None:
            return min(low * step, 2.5 * self._scale)
        if kind != "random" and low is None and high is not None:
            return float(max(high / step**1.5, 0.03 * self._scale))
        if kind == "random" or low is None or high is None:
            return self._scale * float(np.exp(self._random.normal(-0.35, 0.4)))
        middle, width = 0.5 * math.log(low * high), math.log(high / low)
        return math.exp(middle + float(self._random.normal(0, self._sharp * width + 0.02)))

    def seen(self, probe: Requests, limit_s: float) -> None:
        """Move the bracket, by the share of misses alone."""
        values = probe.values_s[probe.counted]
        if not len(values):
            return
        rate, held = probe.rate_qps, float((values > limit_s).mean()) <= self._allowed
        if held:
            self._low = rate if self._low is None or rate > self._low else self._low
            if self._high is not None and self._high <= rate:
                self._high = rate * 1.1
        else:
            self._high = rate if self._high is None or rate < self._high else self._high
            if self._low is not None and self._low >= rate:
                self._low = rate / 1.1
