"""What the requests of a probe are held to, and when they can be judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtest.generator.load import Load
from loadtest.plan import LoadPlan
from loadtest.request.limits import Limit, limits, tolerance_s
from loadtest.request.request_log import Floats, RequestLog

_STREAMED = 2.0  # times a lone answer's duration: what is streamed under load
_HANGS = 5.0  # times the slowest answer of a probe so far, of so many at least: what takes longer hangs
_MIN_ANSWERS = 20


@dataclass(frozen=True)
class Criteria:
    """The limits of a plan, on a server whose lone requests take `base_s`; 0 where that is not known."""

    plan: LoadPlan
    base_s: float
    limits: tuple[Limit, ...]
    tolerance_s: float  # how late the generator may be

    @classmethod
    def of(cls, plan: LoadPlan, base_s: float) -> Criteria:
        """The limits that a plan has, for a server of that base latency."""
        return cls(plan, base_s, limits(plan), tolerance_s(plan))

    @property
    def longest_s(self) -> float:
        """The longest limit on a time, in seconds: an answer may have to be waited for as long."""
        return max(limit.limit_s for limit in self.limits)

    @property
    def needs_whole_answers(self) -> bool:
        """Whether an answer must be complete before it is judged: before that, only a latency can be too long."""
        return any(limit.metric != "latency" for limit in self.limits)

    @property
    def flattered(self) -> bool:
        """Whether a generator that reads late makes some limit look better kept than it is."""
        return any(limit.flattered for limit in self.plan.slo.latency)

    @property
    def wait_s(self) -> float:
        """How long after it was due a request can be judged, as a rule."""
        streamed_s = min(self.plan.request_timeout_s, _STREAMED * self.base_s) if self.needs_whole_answers else 0.0
        return max(self.longest_s, streamed_s)

    @property
    def memory_s(self) -> float:
        """How long what happened to a request is felt by others."""
        return self.longest_s + (self.base_s if self.needs_whole_answers else 0.0)

    def judgeable_until(self, load: Load, sent: RequestLog, slowest_s: float) -> float:
        """Requests that were due before that time can be judged: those that are answered, and those that have waited
        so much longer than any answer took that none is to be expected. Before this probe, some took `slowest_s`.
        """
        known = load.known_until()
        if not self.needs_whole_answers:
            return known - self.longest_s
        unanswered = np.flatnonzero(np.isnan(sent.latency[: sent.count]))
        oldest = float(sent.scheduled[unanswered[0]]) if len(unanswered) else known
        return max(oldest, known - self._patience_s(sent.answers_s(), slowest_s))

    def _patience_s(self, answers_s: Floats, slowest_s: float) -> float:
        """How long an answer can be waited for. While few have come, the slow ones may all be under way, and so may the
        long ones until the first of them is complete: what came before the probe tells how long they are.
        """
        if len(answers_s) < _MIN_ANSWERS:
            return self.plan.request_timeout_s
        longest_s = max(self.wait_s, _STREAMED * slowest_s, _HANGS * float(answers_s.max()))
        return min(self.plan.request_timeout_s, longest_s)
