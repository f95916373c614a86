"""The limits of a plan's SLO, and what each of them bounds of a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from loadtest.plan import LoadPlan
from loadtest.request.request_log import GOODPUT_GAPS, Floats, RequestLog
from loadtest.slo import LatencyLimit, Metric

_MIN_TOLERANCE_S = 0.005  # the generator's own lateness, else a tenth of the tightest limit


@dataclass(frozen=True)
class Limit:
    """A limit in seconds, and the share of requests that may miss it. `good_s` are the limits of a goodput, which a
    good request holds all of.
    """

    metric: Metric
    limit_s: float
    allowed: float
    good_s: Mapping[Metric, float] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, asked: LatencyLimit) -> Limit:
        """From the plan's."""
        good_s = {metric: limit_ms / 1e3 for metric, limit_ms in asked.good_ms.items()}
        return cls(asked.metric, asked.limit_ms / 1e3, 1 - asked.percentile / 100, good_s)

    def __str__(self) -> str:
        percentile = f"{100 * (1 - self.allowed):.4g}"
        if self.good_s:
            limits = ", ".join(f"{metric} <= {limit_s * 1e3:.4g} ms" for metric, limit_s in self.good_s.items())
            return f"goodput {percentile}% ({limits})"
        name = "" if self.metric == "latency" else f" {self.metric}"
        return f"p{percentile}{name} <= {self.limit_s * 1e3:.4g} ms"

    @property
    def bounds_s(self) -> Mapping[Metric, float]:
        """What it bounds of each time."""
        return self.good_s or {self.metric: self.limit_s}

    def values(self, sent: RequestLog, *, as_sent: bool = False) -> Floats:
        """What it bounds, for all requests; infinite where one failed or is not answered yet. That of a goodput is its
        worst time, as a multiple of what that may be: a request is late, and not good, when it is beyond `limit_s`.
        """
        if not self.good_s:
            return sent.values(self.metric, as_sent=as_sent, of_gaps=round(100 * (1 - self.allowed), 6))
        worst = [
            sent.values(metric, as_sent=as_sent, of_gaps=GOODPUT_GAPS) / limit_s
            for metric, limit_s in self.good_s.items()
        ]
        return np.asarray(np.max(worst, axis=0) * self.limit_s)


def limits(plan: LoadPlan) -> tuple[Limit, ...]:
    """The plan's limits."""
    return tuple(map(Limit.of, plan.slo.latency))


def tolerance_s(plan: LoadPlan) -> float:
    """How late the generator may send without spoiling a probe. Times of tokens count only where no time from the
    arrival is limited: a request that was sent late has the same gaps, and a time per token that is later by little.
    """
    return _tenth_s(plan, ("latency", "ttft"))


def stall_tolerance_s(plan: LoadPlan) -> float:
    """How long the generator may stand still without a trace. Gaps count as well: whatever is in flight has one that is
    longer by all of it. Their mean counts only where nothing else is limited.
    """
    return _tenth_s(plan, ("latency", "ttft", "itl", "per_token"))


def _tenth_s(plan: LoadPlan, metrics: Collection[Metric]) -> float:
    """A tenth of the tightest limit on one of these, or on any where none is; no less than a generator can keep."""
    bounds = [(metric, limit_s) for limit in limits(plan) for metric, limit_s in limit.bounds_s.items()]
    counting = [limit_s for metric, limit_s in bounds if metric in metrics]
    return max(_MIN_TOLERANCE_S, 0.1 * min(counting or [limit_s for _, limit_s in bounds]))
