"""A probe in simulated time: the product's own verdict, looked at as the product does, on a simulated queue."""

from __future__ import annotations

import numpy as np

from benchmarks.truth.queues import poisson, sojourn_s
from loadtest.judge.capacity import Probed
from loadtest.judge.verdict import Evidence, Stretch, judge
from loadtest.plan import Probe, Verdict

_LOOK_S, _GROWTH, _SETTLE_S, _MIN_S = 0.25, 1.25, 0.5, 1.5  # as loadtest.generator.probe.prober has them


def simulated_probe(
    kind: str, service_s: float, limit_s: float, rate_qps: float, at_most_s: float, seed: int, *,
    edge_utilisation: float = 0.85, allowed: float = 0.01,
) -> tuple[Verdict, float, Evidence]:  # fmt: skip
    """The verdict, the simulated seconds that it took, and the evidence that it rests on."""
    arrivals = poisson(rate_qps, int(rate_qps * at_most_s * 1.2) + 50, seed)
    latencies = sojourn_s(kind, arrivals, service_s, seed + 1_000_000)
    now, looked = _SETTLE_S, 0
    while True:
        now += _LOOK_S
        over = now >= at_most_s
        counted = (arrivals <= now - limit_s) & (arrivals > _SETTLE_S)
        if not over and counted.sum() < max(10, _GROWTH * looked):
            continue
        looked, sent = int(counted.sum()), arrivals <= now
        values = np.where(arrivals[sent] + latencies[sent] <= now, latencies[sent], np.inf)
        evidence = Evidence.of(
            Stretch(arrivals[sent], values, counted[sent], rate_qps, independent=True), limit_s, allowed,
            edge_utilisation=edge_utilisation,
        )  # fmt: skip
        verdict = judge([evidence])
        if over or (verdict != "undecided" and now - limit_s - _SETTLE_S >= _MIN_S):
            return verdict, now, evidence


class SimulatedProber:
    """A prober that takes no time: its clock moves by the length of each probe."""

    def __init__(self, kind: str, service_s: float, limit_s: float, seconds: float, seed: int) -> None:
        self._queue, self._left, self._seed = (kind, service_s, limit_s), seconds, seed
        self.rates: list[float] = []

    def remaining_s(self) -> float:
        """See `loadtest.judge.capacity.Prober`."""
        return self._left

    def probe(self, rate_qps: float, at_most_s: float, edge_utilisation: float) -> Probed:
        """See `loadtest.judge.capacity.Prober`."""
        self.rates.append(rate_qps)
        kind, service_s, limit_s = self._queue
        verdict, seconds, evidence = simulated_probe(
            kind, service_s, limit_s, rate_qps, min(at_most_s + limit_s, max(0.3, self._left)),
            self._seed * 1000 + len(self.rates), edge_utilisation=edge_utilisation,
        )  # fmt: skip
        self._left -= seconds + 0.5  # half a second to drain
        probe = Probe(
            rate_qps=rate_qps, verdict=verdict, started_s=0, duration_s=seconds, requests=evidence.requests,
            completed=evidence.requests, misses=evidence.misses, errors=0, achieved_qps=rate_qps, p50_ms=None,
            p95_ms=None, p99_ms=None, late_p99_ms=0, generator_cpu=0, histogram="",
        )  # fmt: skip
        return Probed(probe, (evidence,))
