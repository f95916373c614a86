"""Does a rate meet its SLO? What a stretch of load says about the share of requests that miss a limit, and how surely.

`p99 <= limit` says that at most 1% of requests miss it. Were requests independent, the exact binomial interval would
decide. They are not: one long queue makes many of them late at once. Two things follow.

- Misses come in clusters. In queues near the edge (simulated: M/D/1, M/D/4, M/M/1, lognormal service, batches) the
  variance of a count of misses is close to that of independent requests times the requests that arrive within the
  limit over the share of idle time: the design effect (Kish, Survey Sampling, 1965, section 5.4). `too_many` asks how
  probable so many misses are when clusters of that size arrive at random (compound Poisson).
- A count of a few clusters says little, so the share is estimated from all latencies (`tail`), corrected for the luck
  of the arrivals (`reference`), with the error that blocks of time show (the jackknife over blocks: Kuensch, Annals of
  Statistics 17, 1989), and never less than the clusters imply.

The test is looked at again and again, which inflates its errors; `_SURE` is set so that, with all looks, verdicts are
wrong in at most 2% of simulated runs 3% off the edge: `python -m benchmarks.load_truth --only errors`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, gammaincc, gammaln

from loadtest.judge.reference import Reference, fit
from loadtest.judge.tail import share_beyond
from loadtest.plan import Verdict

Floats = NDArray[np.float64]

_SURE = 2.6  # standard errors, one-sided
_TOO_MANY = 0.001  # probability of so many misses at the edge
_TOO_MANY_FAILED = 0.01
_BLOCKS = 12
_EXCEEDING = 25.0  # effective number of latencies above the threshold from which the tail is drawn
_MAX_EXCEEDING = 0.2
_MIN_EXCEEDING = 0.005
_TAIL_GAIN = 0.64  # variance with the tail's model over that of counting; simulated, as above
_SKEW = 0.2  # the mean of the estimated logit is low by about this times its variance; simulated, as above
_MAX_SKEW = 0.8
_MIN_ERROR = 0.1  # of the logit: no model is better than that
_BUSIEST, _CAUTIOUS = 0.92, 0.82  # utilisations at the edge
_DOUBT = 2.0  # twelve blocks show a design effect only roughly, and less than all of it
_MIN_EFFECTIVE = 8.0
# The shares of late requests at which nothing else need be known, each with the requests that it takes; the second also
# takes so many clusters, and a limit that few may miss.
_NEARLY_ALL, _MIN_NEARLY_ALL = 0.9, 6
_MOST, _MIN_MOST, _MOST_CLUSTERS, _MOST_ALLOWED = 0.5, 20, 4.0, 0.1


@dataclass(frozen=True)
class Stretch:
    """Requests in the order of their schedule: when they were due and what the limit bounds, in seconds.

    `values_s` is infinite for a request that failed. `counted` marks those that have been judged; the others (settling,
    disturbed, too young) are there because the reference queue needs every arrival.
    """

    scheduled_s: Floats
    values_s: Floats
    counted: NDArray[np.bool_]
    rate_qps: float
    correlated_s: float = 0.0  # how long the arrivals themselves remember, as bursts do
    independent: bool = False  # arrivals are a Poisson process, and the values latencies: a reference queue applies


@dataclass(frozen=True)
class Evidence:
    """About one limit that `allowed` of all requests may miss.

    `logit` is the estimated log odds of a miss, `error` its standard error as far as blocks of time show it, and
    `cautious_error` what a verdict is taken on. `cluster` requests are late together; `effective` ones are independent.
    """

    requests: int
    misses: int
    logit: float
    error: float
    cluster: float
    cautious_error: float = math.inf
    effective: float = 0.0
    allowed: float = 0.01

    @classmethod
    def of(cls, stretch: Stretch, limit_s: float, allowed: float, *, edge_utilisation: float = 0.85) -> Evidence:
        """`edge_utilisation` is that of the server at its capacity, as far as it is known."""
        values = stretch.values_s[stretch.counted]
        missed = values > limit_s
        requests, misses = len(values), int(missed.sum())
        effect, cautious_effect = (
            max(1.0, stretch.rate_qps * (limit_s / (1 - busy) + stretch.correlated_s))
            for busy in (min(_BUSIEST, edge_utilisation), min(_BUSIEST, max(_CAUTIOUS, edge_utilisation)))
        )
        if requests < _BLOCKS:
            guess = _logit(misses / requests if misses else allowed)
            return cls(requests, misses, guess, math.inf, max(1.0, cautious_effect / 2), math.inf, 0.0, allowed)
        seen = _design_effect(values)
        threshold_s = _threshold(values, limit_s, missed, seen)
        reference = None
        if stretch.independent and misses < requests / 2:
            known = stretch.counted & np.isfinite(stretch.values_s)
            measured = np.where(np.isfinite(stretch.values_s), stretch.values_s, 0.0)
            reference = fit(stretch.scheduled_s, measured, known, stretch.rate_qps)
        estimate = _estimate(values, limit_s, threshold_s, None if reference is None else
                             (reference, reference.latencies_s[stretch.counted]))  # fmt: skip
        likely = min(effect, max(effect / 3, _DOUBT * seen))
        variance = estimate.unexplained * _TAIL_GAIN / (requests * allowed)
        skew = min(_MAX_SKEW, _SKEW * variance * likely)
        error = math.hypot(_MIN_ERROR, max(estimate.error, math.sqrt(variance * likely)))
        cautious = math.hypot(_MIN_ERROR, max(estimate.error, math.sqrt(variance * cautious_effect)))
        effective = requests / cautious_effect / estimate.unexplained
        return cls(
            requests, misses, estimate.logit + skew, error, max(1.0, cautious_effect / 2), cautious, effective, allowed
        )

    @property
    def share(self) -> float:
        """The estimated share of requests that miss."""
        return 1 / (1 + math.exp(-self.logit))

    @property
    def distance(self) -> float:
        """How far from the edge, in log odds: below 0 the limit is held."""
        return self.logit - _logit(self.allowed)

    @property
    def hopeless(self) -> bool:
        """Whether nearly all are late, or most of many: a server that holds the limit is not like that, however they
        cluster.
        """
        nearly_all = self.requests >= _MIN_NEARLY_ALL and self.misses >= _NEARLY_ALL * self.requests
        many = self.requests >= max(_MIN_MOST, _MOST_CLUSTERS * self.cluster) and self.allowed <= _MOST_ALLOWED
        return (nearly_all and self.allowed < 0.5) or (many and self.misses >= _MOST * self.requests)

    @property
    def too_many(self) -> bool:
        """Whether so many misses are improbable where no more than the allowed share misses."""
        if not self.misses:
            return False
        expected = self.requests * self.allowed / self.cluster  # clusters
        counts = np.arange(1, int(expected + 10 * math.sqrt(expected) + 30))
        of_count = np.exp(counts * math.log(max(expected, 1e-12)) - expected - gammaln(counts + 1))
        return float((of_count * gammaincc(counts, self.misses / self.cluster)).sum()) < _TOO_MANY


@dataclass(frozen=True)
class _MissEstimate:
    logit: float
    error: float
    unexplained: float = 1.0


def _design_effect(values: Floats) -> float:
    """That of requests above the 90th percentile, between blocks of time; at least 1."""
    above = values > np.quantile(values, 0.9, method="lower")
    share = float(above.mean())
    if not 0 < share < 1:
        return 1.0
    blocks = np.array([block.mean() for block in np.array_split(above, _BLOCKS)])
    return max(1.0, float(blocks.var(ddof=1)) / (share * (1 - share) * _BLOCKS / len(values)))


def _threshold(values: Floats, limit_s: float, missed: NDArray[np.bool_], effect: float) -> float:
    """Above which latencies the tail begins; the limit itself where more of them miss than such a tail would have."""
    requests = len(values)
    exceeding = min(_MAX_EXCEEDING, max(_MIN_EXCEEDING, _EXCEEDING * effect / requests))
    threshold_s = float(np.quantile(values, 1 - exceeding, method="lower"))
    share = float(missed.mean())
    surprise = share - share_beyond(values, limit_s, threshold_s)
    return limit_s if surprise > 2 * math.sqrt(max(share, 1e-9) * effect / requests) else threshold_s


def _estimate(
    values: Floats, limit_s: float, threshold_s: float, reference: tuple[Reference, Floats] | None
) -> _MissEstimate:
    """The logit of the share of misses, less what was luck of the arrivals, with the jackknife's error."""
    measured, left_out = _jackknife(values, limit_s, threshold_s)
    if reference is None:
        return _MissEstimate(measured, _error(left_out))
    model, here = reference
    if threshold_s < limit_s:
        threshold_s = float(np.quantile(here, np.mean(values <= threshold_s)))
    lucky, without = _jackknife(here, limit_s, min(threshold_s, limit_s))
    spread = without - without.mean()
    variance = float(spread @ spread)
    weight = min(1.0, max(0.0, float(spread @ (left_out - left_out.mean())) / variance)) if variance > 0 else 0.0
    adjusted = measured - weight * (lucky - _logit(model.share_beyond(limit_s)))
    rest, before = _error(left_out - weight * without), _error(left_out)
    return _MissEstimate(
        adjusted, rest, min(1.0, max(1 - model.explained, (rest / before) ** 2)) if before > 0 else 1.0
    )


def _jackknife(values: Floats, limit_s: float, threshold_s: float) -> tuple[float, Floats]:
    """The logit of the share beyond the limit, and the same without each block of time."""
    keep = np.ones(len(values), dtype=bool)
    left_out = []
    for block in np.array_split(np.arange(len(values)), _BLOCKS):
        keep[block] = False
        left_out.append(_logit(share_beyond(values[keep], limit_s, threshold_s)))
        keep[block] = True
    return _logit(share_beyond(values, limit_s, threshold_s)), np.array(left_out)


def _error(left_out: Floats) -> float:
    return math.sqrt((len(left_out) - 1) / len(left_out) * float(((left_out - left_out.mean()) ** 2).sum()))


def _logit(share: float) -> float:
    share = min(max(share, 1e-7), 1 - 1e-4)
    return math.log(share / (1 - share))


def verdict_of(evidence: Evidence) -> Verdict:
    """`met` or `missed` where the evidence is enough, `undecided` where it is not.

    From fewer requests than one expected miss nothing is met: a tail may be drawn from them, not a promise.
    """
    if evidence.hopeless or evidence.too_many:
        return "missed"
    if evidence.effective < _MIN_EFFECTIVE:
        return "undecided"
    errors, expected = evidence.distance / evidence.cautious_error, evidence.requests * evidence.allowed
    if errors > _SURE and evidence.misses > expected:
        return "missed"
    return "met" if errors < -_SURE and evidence.misses <= expected and expected >= 1 else "undecided"


@dataclass(frozen=True)
class Failures:
    """Requests that failed, against the share of failures that is allowed. Too many are a miss of their own."""

    requests: int
    failed: int
    allowed: float

    @property
    def exceeded(self) -> bool:
        """Whether more failed than is allowed, sure or not."""
        return self.failed > self.allowed * self.requests

    @property
    def verdict(self) -> Verdict:
        """To be sure that at most 0.1% fail would take thousands of requests: without a sign of it, it is met."""
        if not self.exceeded:
            return "met"
        return (
            "missed" if float(bdtrc(self.failed - 1, self.requests, self.allowed)) < _TOO_MANY_FAILED else "undecided"
        )


def verdict_of_all(verdicts: Sequence[Verdict]) -> Verdict:
    """One miss decides; all must be met to be met."""
    if "missed" in verdicts:
        return "missed"
    return "met" if all(verdict == "met" for verdict in verdicts) else "undecided"


def judge(evidence: Sequence[Evidence], failures: Failures | None = None) -> Verdict:
    """The verdict of one probe on all its limits, and on its failures where they have a limit of their own."""
    verdicts = [verdict_of(one) for one in evidence]
    return verdict_of_all(verdicts if failures is None else [*verdicts, failures.verdict])
