"""A prober whose server is simulated (`training.servers`): its clock moves by the length of each probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from loadtest.judge.capacity import Probed
from loadtest.judge.features import Requests
from loadtest.judge.percentile import percentile_ms
from loadtest.judge.settling import settle_s
from loadtest.judge.verdict import Evidence, Failures, Stretch, judge
from loadtest.plan import Probe, Verdict
from training.servers.trials import Simulated

_LOOK_S, _GROWTH, _MIN_S, _HOPELESS_S = 0.25, 1.25, 1.5, 0.75  # as the generator's probe has them
_DRAIN_S = 0.5
Opinion = Callable[[tuple[Requests, ...], Sequence[Evidence], Failures | None], Verdict]


class ServerProber:
    """See `loadtest.judge.capacity.Prober`."""

    def __init__(self, simulated: Simulated, seconds: float, error_rate: float | None = None) -> None:
        self.simulated, self._left, self._allowed_errors = simulated, seconds, error_rate
        self.probes = 0

    def remaining_s(self) -> float:
        """See `loadtest.judge.capacity.Prober`."""
        return self._left

    def probe(
        self, rate_qps: float, at_most_s: float, edge_utilisation: float, *, opinion: Opinion | None = None,
    ) -> Probed:  # fmt: skip
        """Simulate it whole, then look at it as it grows until the verdict is sure."""
        query = self.simulated.query
        longest = min(at_most_s + query.limit_s, max(0.3, self._left))
        times, latency, values, failed = self.simulated.load(rate_qps, longest)
        settle = settle_s(query.limit_s, longest, counts_alone=opinion is None)
        looked, now = 0, settle
        while True:
            now = min(now + _LOOK_S, longest)
            over = now >= longest
            counted = (times > settle) & (times <= now - query.limit_s)
            number = int(counted.sum())
            if not over and number < max(10, _GROWTH * looked):
                continue
            looked = number
            sent = times <= now
            seen = np.where(times + latency > now, np.inf, values)[sent]
            errors = int((failed & counted).sum())
            failures = None if self._allowed_errors is None else Failures(number, errors, self._allowed_errors)
            requests = Requests(rate_qps, times[sent], seen, counted[sent], errors)
            evidence = Evidence.of(
                Stretch(times[sent], seen, counted[sent], rate_qps, independent=query.arrivals == "poisson"),
                query.limit_s, query.allowed, edge_utilisation=edge_utilisation,
            )  # fmt: skip
            verdict = judge([evidence], failures) if opinion is None else opinion((requests,), [evidence], failures)
            hopeless = opinion is not None and evidence.hopeless
            min_s = _HOPELESS_S if hopeless else _MIN_S
            if over or (verdict in ("met", "missed") and now - query.limit_s - settle >= min_s):
                break
        self.probes += 1
        self._left -= now + _DRAIN_S
        waited = np.where(np.isfinite(seen), seen, now - times[sent])[counted[sent]]
        probe = Probe(
            rate_qps=rate_qps, verdict=verdict, started_s=0, duration_s=now, requests=number, completed=number,
            misses=evidence.misses, errors=errors, achieved_qps=rate_qps, p50_ms=None, p95_ms=None,
            p99_ms=percentile_ms(waited, 99, rate_qps),
            late_p99_ms=0, generator_cpu=0, histogram="",
        )  # fmt: skip
        return Probed(probe, (evidence,), failures, requests=(requests,), opinion=None if opinion is None else verdict)
