"""What one probe shows while it runs: the requests that count so far, and what they say about the SLO."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.arrivals.arrivals import Arrivals
from loadtest.generator.probe.criteria import Criteria
from loadtest.generator.stalls import Stall, undisturbed
from loadtest.judge.capacity import Opinion
from loadtest.judge.features import Requests
from loadtest.judge.verdict import Evidence, Failures, Stretch, judge
from loadtest.plan import LimitedTime, Verdict
from loadtest.request.limits import Limit
from loadtest.request.request_log import Numbers, RequestLog
from loadtest.slo import Metric

_LOW_PRIORITY, _FAST_QPS = 19, 2000.0


@dataclass
class RunningProbe:
    """What one probe is, and what of it counts so far: `count` and `weigh` bring it up to date while the load goes on.

    `disturbed` is how many requests do not count because the generator stood still. `opinion` is the verdict of an
    inference that knows more than this probe, where there is one.
    """

    criteria: Criteria
    rate_qps: float
    edge_utilisation: float
    begun: float
    sent: RequestLog
    counted: Numbers
    disturbed: int = 0
    stretches: tuple[Stretch, ...] = ()  # one per limit, as are `evidence` and `requests`
    evidence: tuple[Evidence, ...] = ()
    failures: Failures | None = None
    requests: tuple[Requests, ...] = ()
    opinion: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        """What is known so far."""
        return self.opinion or judge(self.evidence, self.failures)

    @property
    def hopeless(self) -> bool:
        """Whether so many requests missed some limit that the probe need not go on."""
        return any(one.hopeless for one in self.evidence)

    def count(self, judged: Numbers, stalls: Sequence[Stall], arrivals: Arrivals) -> None:
        """Settle what counts of the `judged` requests, and copy it: the load goes on while it is weighed."""
        plan, sent, users = self.criteria.plan, self.sent, self.criteria.plan.users is not None
        shared = plan.shares_cores or users
        kept = None if shared else undisturbed(sent.scheduled[judged], stalls, self.criteria.memory_s)
        self.counted = judged if kept is None else judged[kept]
        self.disturbed = len(judged) - len(self.counted)
        counts = np.zeros(sent.count, dtype=bool)
        counts[self.counted] = True
        times = sent.scheduled[: sent.count] - self.begun
        rate = sent.count / max(1e-6, float(times[-1])) if users and sent.count else self.rate_qps
        self.stretches = tuple(
            Stretch(
                times.copy(),
                limit.values(sent),
                counts,
                rate,
                arrivals.correlated_s + (0.0 if limit.metric == "latency" else self.criteria.base_s),
                arrivals.poisson and limit.metric == "latency",
            )
            for limit in self.criteria.limits
        )
        allowed = plan.slo.error_rate
        failed = int(sent.failed[self.counted].sum())
        self.failures = None if allowed is None else Failures(len(self.counted), failed, allowed)

    def weigh(self, opinion: Opinion | None) -> None:
        """Make the evidence of what was counted last. It takes milliseconds, and runs in a thread of its own."""
        if self.rate_qps > _FAST_QPS:
            # Arrivals come first, on the one core that there may be. At lower rates they do so anyway, and a thread of
            # low priority that holds the interpreter's lock would let other processes hold the arrivals up.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
        self.evidence = tuple(
            Evidence.of(stretch, limit.limit_s, limit.allowed, edge_utilisation=self.edge_utilisation)
            for stretch, limit in zip(self.stretches, self.criteria.limits, strict=True)
        )
        failed = int(self.sent.failed[self.counted].sum())
        self.requests = tuple(
            Requests(one.rate_qps, one.scheduled_s, one.values_s, one.counted, failed) for one in self.stretches
        )
        if opinion is not None and len(self.counted):
            self.opinion = opinion(self.requests, self.evidence, self.failures)

    def time_ms(self, metric: Metric, percentile: float, now: float) -> float | None:
        """A percentile of a time of the requests that count; None where none has it. What has no answer yet has waited
        until now; a time of tokens is that of those that were streamed.
        """
        if metric == "latency":
            seconds = self.sent.waited(self.counted, now)
        else:
            seconds = self.sent.all_gaps(self.counted) if metric == "itl" else self.sent.values(metric)[self.counted]
        known = seconds[np.isfinite(seconds)]
        return float(np.quantile(known, percentile / 100)) * 1e3 if len(known) else None

    def shown(self, now: float) -> tuple[float | None, LimitedTime | None]:
        """The p99 and what the SLO limits so far. A stream has a gap for each token, so this takes a thread, too."""
        return self.time_ms("latency", 99.0, now), self.limited(now)

    def limited(self, now: float) -> LimitedTime | None:
        """What the SLO limits so far: of its first time the percentile nearest to the 99th, as one that stays. None
        where it limits no percentile of a time.
        """
        times = [one for one in self.criteria.plan.slo.latency if one.metric not in ("goodput", "per_token")]
        if not times:
            return None
        metric = times[0].metric
        percentile = min((one.percentile for one in times if one.metric == metric), key=lambda one: abs(one - 99))
        return LimitedTime(metric=metric, percentile=percentile, ms=self.time_ms(metric, percentile, now))

    def late_by_s(self, now: float) -> float:
        """By how much more requests than are allowed were later than a latency limit; 0 where no more were."""
        if not len(self.counted):
            return 0.0
        waited_s = self.sent.waited(self.counted, now)
        beyond_s = [
            float(np.quantile(waited_s, 1 - limit.allowed, method="lower")) - limit.limit_s
            for limit in self.criteria.limits
            if limit.metric == "latency"
        ]
        return max([0.0, *beyond_s])

    def most_missed(self) -> Limit:
        """The limit that a miss is blamed on: the one that is furthest from holding, or the tightest latency."""
        limits = self.criteria.limits
        by_distance = dict(zip(limits, (one.distance for one in self.evidence), strict=False))
        if any(distance > 0 for distance in by_distance.values()):
            return max(by_distance, key=by_distance.__getitem__)
        return min(limits, key=lambda limit: (limit.metric != "latency", limit.limit_s))
