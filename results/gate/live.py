"""Does a deployment do what its recommendation was measured to do? Its live rate and latency beside the latency curve.

The curve is a percentile of the recommended configuration at each rate that was probed: the one that the SLO limits.
Where the deployment's latencies come from a histogram, the probes' own histograms are put into the same buckets first
and their percentile is read as Prometheus reads it, by a straight line within a bucket: so buckets are no difference
between the two. Each stretch of live traffic is compared with the curve at its own rate, and the ratios are judged with
the gate's statistics (`decision`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from results.gate.decision import Comparison, Setting, judged, noise_beside_p99
from results.percentiles import P99, Percentile
from results.trial_parts import Estimate, ProbeRecord

Floats = NDArray[np.float64]
_MIN_STEPS, _MAX_BATCHES = 5, 10
_BELOW = 0.8  # of the lowest rate that was probed: what comes at lower rates has no figure to be compared with
_IDLE = 0.4  # of the capacity: a peak below leaves most of what is paid for unused

_DISTURBED = (
    "neighbours disturbed all of the recommendation's probes, so it may be faster than its curve says: measure it "
    "again on a machine of its own"
)


@dataclass(frozen=True)
class LiveStep:
    """A stretch of live traffic: requests/s of one replica, and the percentile of their latency that is compared."""

    at_s: float
    qps: float
    latency_ms: float


@dataclass(frozen=True)
class Expected:
    """The percentile at each rate that was probed, rising with it, and the standard deviation of its logarithm.
    `disturbed`: neighbours were at work in all the probes, so that the server itself may be faster.
    """

    rates_qps: Floats
    latency_ms: Floats
    error: float
    disturbed: bool = False

    def at(self, qps: Floats) -> Floats:
        """The latency, in ms, expected at a rate: interpolated by logarithms between probes, that of the nearest beyond
        them.
        """
        return np.asarray(np.exp(np.interp(qps, self.rates_qps, np.log(self.latency_ms))))


@dataclass(frozen=True)
class Live:
    """What the traffic looks like, of one replica, beside what was measured."""

    steps: int
    compared: int
    mean_qps: float
    peak_qps: float
    capacity: Estimate
    probed_qps: tuple[float, float]
    over_capacity: float
    over_limit: float | None


@dataclass(frozen=True)
class Verification:
    """`holds`: the latency is not worse than was measured; `slower`: it surely is; `inconclusive`: the noise, or the
    traffic, does not let it be told, for the `reason`. `advice` says whether to tune again is worth it.
    """

    outcome: Literal["holds", "slower", "inconclusive"]
    comparison: Comparison | None
    live: Live
    reason: str | None
    advice: tuple[str, ...]


def expected_curve(
    probes: Sequence[ProbeRecord], capacity: Estimate, buckets_ms: Sequence[float] = (), percentile: Percentile = P99
) -> Expected | None:
    """The curve from the probes up to the capacity; None if there are none. `buckets_ms` are the live histogram's
    bounds. The p99 alone has an interval, and another percentile's error is taken from its.
    """
    points: list[tuple[float, float, int]] = []
    errors: list[float] = []
    usable = [one for one in probes if one.verdict != "invalid" and one.rate_qps <= capacity.high * 1.02]
    quiet = [one for one in usable if not one.disturbed]
    for probe in quiet or usable:
        measured = percentile.among(probe)
        if probe.p99_ms is None or (measured is None and not probe.histogram):
            continue
        # A probe of an earlier version has not every percentile; its histogram has them all.
        own_ms = [bound for bound, _ in probe.histogram]
        latency = measured.value if measured else quantile(probe.histogram, own_ms, percentile.percent / 100)
        if buckets_ms and probe.histogram:
            latency = quantile(probe.histogram, buckets_ms, percentile.percent / 100)
        if latency > 0 and probe.requests:
            points.append((probe.rate_qps, latency, probe.requests))
            if 0 < probe.p99_ms.low < probe.p99_ms.high:
                errors.append(math.log(probe.p99_ms.high / probe.p99_ms.low) / (2 * 1.96))
    if not points:
        return None
    points.sort()
    logs = _rising([math.log(one) for _, one, _ in points], [float(count) for _, _, count in points])
    # Between two probes half of each counts, and at one that one alone: their errors hardly average out.
    error = float(np.mean(errors)) * noise_beside_p99(percentile.percent) if errors else 0.0
    return Expected(np.array([one for one, _, _ in points]), np.exp(logs), error, not quiet)


def quantile(histogram: Sequence[tuple[float, int]], bounds_ms: Sequence[float], share: float) -> float:
    """A quantile of counts by upper bound (ms), put into other buckets, as Prometheus' `histogram_quantile` gives
    it.
    """
    finite = sorted({bound for bound in bounds_ms if math.isfinite(bound) and bound > 0})
    total = sum(count for _, count in histogram)
    if not finite or not total:
        return 0.0
    below = [sum(count for bound, count in histogram if bound <= edge) for edge in finite]
    wanted = share * total
    for at, reached in enumerate(below):
        if reached >= wanted:
            low, before = (finite[at - 1], below[at - 1]) if at else (0.0, 0)
            return low + (finite[at] - low) * (wanted - before) / max(1, reached - before)
    return finite[-1]


def verified(
    steps: Sequence[LiveStep], expected: Expected, capacity: Estimate, limit_ms: float | None, setting: Setting
) -> Verification:
    """What the live traffic says of the recommendation."""
    rates = np.array([one.qps for one in steps])
    latencies = np.array([one.latency_ms for one in steps])
    fit = (rates >= _BELOW * expected.rates_qps[0]) & (rates <= capacity.high)
    over = float((rates > capacity.high).mean()) if len(steps) else 0.0
    live = Live(
        len(steps), int(fit.sum()), float(rates.mean()) if len(steps) else 0.0, float(rates.max(initial=0.0)), capacity,
        (float(expected.rates_qps[0]), float(expected.rates_qps[-1])), over,
        None if limit_ms is None or not len(steps) else float((latencies > limit_ms).mean()),
    )  # fmt: skip
    if fit.sum() < _MIN_STEPS:
        return Verification("inconclusive", None, live, _why_few(live), _advice(live, None))
    ratios = np.log(latencies[fit] / expected.at(rates[fit]))
    batches = [float(np.exp(part.mean())) for part in np.array_split(ratios, min(_MAX_BATCHES, len(ratios)))]
    before = float(np.exp(np.log(expected.at(rates[fit])).mean()))
    comparison = judged(before, batches, expected.error, setting)
    outcome: Literal["holds", "slower", "inconclusive"] = "inconclusive"
    if comparison.outcome != "inconclusive":
        outcome = "slower" if comparison.outcome == "regressed" else "holds"
    if outcome == "holds" and expected.disturbed:
        return Verification("inconclusive", comparison, live, _DISTURBED, _advice(live, comparison))
    reason = None if outcome != "inconclusive" else (
        f"the noise hides a change of {setting.detect:.0%}: look at a longer time (`range`), or measure the "
        "recommendation longer (load.max_trial)"
    )  # fmt: skip
    return Verification(outcome, comparison, live, reason, _advice(live, comparison))


def _why_few(live: Live) -> str:
    if not live.steps:
        return "there was no traffic at all"
    if live.over_capacity > 0.5:
        return f"a replica got more than the {live.capacity.value:.4g} requests/s that it holds most of the time"
    return (
        f"{live.compared} of {live.steps} stretches of traffic are at rates that were measured: a replica got "
        f"{live.mean_qps:.3g} requests/s on average, and {live.probed_qps[0]:.3g} to {live.probed_qps[1]:.3g} "
        "were probed"
    )


def _advice(live: Live, comparison: Comparison | None) -> tuple[str, ...]:
    said = []
    if comparison is not None and comparison.outcome == "regressed":
        said.append(
            "Tuning again is worth it once what made it slower is known: `tune gate`, with `measure`, tells whether it "
            "is the service itself (an image, a driver, a model) or what runs beside it there."
        )
    if live.over_capacity > 0:
        said.append(
            f"For {live.over_capacity:.0%} of the time a replica got more than it holds within the SLO: more replicas "
            "(`tune plan`), not another configuration, are what is missing."
        )
    elif live.steps and live.peak_qps < _IDLE * live.capacity.value:
        said.append(
            f"At its peak a replica got {live.peak_qps / live.capacity.value:.0%} of what it holds: fewer replicas or "
            "a smaller configuration would do (`tune plan`, with this `traffic`)."
        )
    if not said:
        passed = comparison is not None and comparison.outcome == "passed"
        said.append(
            "Tuning again is not worth it for what is seen here." if passed
            else "Whether tuning again is worth it cannot be said from this."
        )  # fmt: skip
    return tuple(said)


def _rising(values: Sequence[float], weights: Sequence[float]) -> Floats:
    """The closest series that never falls: neighbouring values that fall are pooled (isotonic regression)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            last, one = blocks.pop(), blocks[-1]
            one[0] = (one[0] * one[1] + last[0] * last[1]) / (one[1] + last[1])
            one[1], one[2] = one[1] + last[1], one[2] + last[2]
    return np.repeat([one[0] for one in blocks], [int(one[2]) for one in blocks])
