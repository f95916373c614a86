"""Does a rate meet its SLO? A test on the share of requests that miss, as evidence comes in.

`p99 <= limit` says that at most 1% of requests miss the limit. Were requests independent, the exact binomial interval
(Clopper and Pearson, Biometrika 26, 1934) would decide. They are not: one long queue makes many of them late. So the
requests are cut into blocks in time, and the variance between blocks over the binomial variance is the design effect
(Kish, Survey Sampling, 1965, section 5.4), by which the sample counts for less than its size.

The test is looked at often, which inflates its error: hence the confidence of each look is above what is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from loadtest.plan import Verdict

_LOOK_CONFIDENCE = 0.98  # one-sided, at each look
_LEAST_DESIGN_EFFECT = 1.5  # few misses say little about how they cluster
_BLOCKS = 12
_MEMORY = 3.0  # latency limits


@dataclass(frozen=True)
class Evidence:
    """Requests and misses per block of time; `least_effect` bounds the design effect from below."""

    requests: NDArray[np.int64]
    misses: NDArray[np.int64]
    least_effect: float

    @classmethod
    def of(cls, missed: NDArray[np.bool_], per_limit: float = 1.0) -> Evidence:
        """Requests in the order of their schedule. `per_limit` of them arrive within one latency limit.

        A queue that makes one request late does so for about that many, and forgets after a few times as many: so
        blocks are no shorter than three limits, and the design effect is at least `per_limit` even where no miss was
        seen that could show it. In simulated queues (M/D/1, M/M/1, M/G/1 and four servers, at their capacity for a
        p99) it is 2 to 10 times `per_limit`.
        """
        parts = np.array_split(missed, max(1, min(_BLOCKS, int(len(missed) / max(1.0, _MEMORY * per_limit)))))
        sizes, misses = [len(part) for part in parts], [int(part.sum()) for part in parts]
        return cls(np.array(sizes), np.array(misses), max(_LEAST_DESIGN_EFFECT, per_limit))

    @property
    def share(self) -> float:
        """The share of requests that missed."""
        total = int(self.requests.sum())
        return float(self.misses.sum()) / total if total else 0.0

    @property
    def design_effect(self) -> float:
        """Variance of the misses between blocks over that of independent requests.

        A variance from few blocks is itself unsure, and overestimating it costs time only: hence the last factor.
        """
        share, blocks = self.share, len(self.requests)
        if blocks < 2 or not 0 < share < 1:
            return self.least_effect
        between = float(((self.misses - share * self.requests) ** 2).sum()) / (blocks - 1)
        binomial = share * (1 - share) * float(self.requests.mean())
        return max(self.least_effect, between / binomial * (1 + 2 / blocks))

    def bounds(self) -> tuple[float, float]:
        """Lower and upper confidence bounds of the share, each one-sided."""
        effect = self.design_effect
        total, missed = float(self.requests.sum()) / effect, float(self.misses.sum()) / effect
        if total <= 0:
            return 0.0, 1.0
        low = float(betaincinv(missed, total - missed + 1, 1 - _LOOK_CONFIDENCE)) if missed > 0 else 0.0
        high = float(betaincinv(missed + 1, total - missed, _LOOK_CONFIDENCE)) if missed < total else 1.0
        return low, high


def decide(evidence: Evidence, allowed: float) -> Verdict:
    """`met` or `missed` where the evidence is enough, `undecided` where it is not."""
    low, high = evidence.bounds()
    if low > allowed:
        return "missed"
    return "met" if high < allowed else "undecided"


@dataclass(frozen=True)
class FailureEvidence:
    """Which requests failed, against the share of failures that is allowed."""

    sample: Evidence
    allowed: float

    @property
    def exceeded(self) -> bool:
        """Whether more failed than is allowed, sure or not."""
        return self.sample.share > self.allowed

    @property
    def verdict(self) -> Verdict:
        """To be sure that at most 0.1% fail would take thousands of requests: without a sign of it, it is met."""
        if decide(self.sample, self.allowed) == "missed":
            return "missed"
        return "undecided" if self.exceeded else "met"


def decide_all(verdicts: Sequence[str]) -> Verdict:
    """One miss decides; all must be met to be met."""
    if "missed" in verdicts:
        return "missed"
    return "met" if all(verdict == "met" for verdict in verdicts) else "undecided"


def judge(samples: Sequence[Evidence], allowed: Sequence[float], failures: FailureEvidence | None = None) -> Verdict:
    """The verdict of one probe on all its limits, and on its failures where they have a limit of their own."""
    verdicts = [decide(*pair) for pair in zip(samples, allowed, strict=True)]
    return decide_all(verdicts if failures is None else [*verdicts, failures.verdict])
