"""Has a service become worse? A sequential test of its capacity, cost and latency (the percentile that the SLO limits)
against an earlier recommendation.

One measurement of a capacity is off by a few percent, and so is the baseline's: how much is the noise floor, estimated
from measurements of one and the same configuration (A/A) together with a cautious guess, as the variance of their
logarithms (its prior weight is that of four measurements). The difference of a mean of n measurements from the
baseline has the variance floor x (1 + 1/n), so that its ratio to that follows Student's t. It is looked at after each
measurement from the second on; the false-alarm rate is shared equally by all looks and metrics (Bonferroni), which is
valid however much they depend on each other. A look also ends the test when a change of the size that matters is as
improbable. Where the last look cannot rule such a change out (with 95%), the gate is inconclusive: it has not passed.

Where the machine's speed was timed, then and now, capacities are compared as they would be at the baseline's: a machine
that is slower today is no regression of the service. What is not known of that effect is one more error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, NamedTuple

from results.machine import NOT_TIMED, TimedWork
from results.percentiles import P99, Percentile
from results.records import Recommendation, TrialRecord
from results.trial_parts import Estimate, MachineEffect

Outcome = Literal["passed", "regressed", "undecided", "inconclusive"]

_GUESS = 0.02  # of one capacity on a shared machine: the standard deviation of its logarithm
_GUESS_P99 = 0.08
_GUESS_WEIGHT = 4.0  # measurements
_LATENCY_SHARE = 0.2  # of the false alarms: the latency at the capacity is near the SLO anyway, and noisy
_MIN_LATENCY = 0.25  # a rise that matters, since the rate at which it is taken moves, too
_MISSES = 0.05  # of changes of the size that matters that may pass
_WIDTH = 2 * 1.96  # of a 95% interval, in standard deviations


@dataclass(frozen=True)
class Setting:
    """`false_alarms` is the share of runs without any change that fail all the same. `detect` is the relative change
    that matters: where it is as improbable, the test is passed. `looks` is how often the test may decide,
    `percentile` what is compared of the latency.
    """

    false_alarms: float = 0.05
    detect: float = 0.10
    looks: int = 3
    percentile: Percentile = P99


@dataclass(frozen=True)
class Comparison:
    """One metric: before and after, the change (0.1: a tenth more) with its 95% interval, what is to be said of it. A
    change `fails_beyond` that, and one that `matters` has to be ruled out. A latency's metric is its `percentile`'s
    column of trials.csv (`p99_ms`).
    """

    metric: str
    before: float
    after: float
    change: float
    low: float
    high: float
    outcome: Outcome
    floor: float
    fails_beyond: float
    matters: float
    percentile: Percentile | None = None


@dataclass(frozen=True)
class GateDecision:
    """What the gate says after so many measurements; `currency` is that of all money, a code or a sign. `machine` is
    None where its speed was not timed. `moved` says it where the run recommends another configuration.
    """

    outcome: Outcome
    findings: tuple[Comparison, ...]
    measurements: int
    reason: str | None = None
    goodput: tuple[Goodput, ...] = ()
    energy: tuple[float, ...] = ()
    currency: str = "$"
    machine: MachineNow | None = None
    moved: str | None = None


class MachineNow(NamedTuple):
    """Its speed over what it was for the baseline, the standard deviation (in logs) of what that did to the capacity,
    and the capacity as it was measured.
    """

    speed: float
    doubt: float
    measured_qps: float


class Goodput(NamedTuple):
    """The share of `of` requests that held all limits of the SLO's goodput, at the capacity."""

    share: float
    of: int | None


@dataclass(frozen=True)
class GateMeasurement:
    """What one measurement of the configuration gave; `cost_per_hour` is the price of one container, `latency` the
    percentile that is compared, in ms, where it was measured. `goodput` is None
    where the SLO asks for none. `work` is the time that fixed work took meanwhile, and `machine`, of a recommendation,
    what that does to the capacity.
    """

    capacity: Estimate
    latency: Estimate | None
    cost_per_hour: float | None
    goodput: Goodput | None = None
    energy_wh: float | None = None
    work: TimedWork = NOT_TIMED
    machine: MachineEffect | None = None

    @classmethod
    def of(cls, one: TrialRecord | Recommendation, percentile: Percentile = P99) -> GateMeasurement | None:
        """None where it holds no capacity: it did not meet the SLO. Of several services the latency is not compared: it
        is that of the one nearest to its limit, now this and now another.
        """
        if one.capacity_qps is None or one.capacity_qps.value <= 0:
            return None
        tokens = one.language
        good = None if tokens is None or tokens.good is None else Goodput(tokens.good, tokens.good_of)
        energy_wh = None if tokens is None else tokens.energy_per_million_output_tokens
        latency = None if one.services else percentile.of(one)
        measured = cls(one.capacity_qps, latency, one.cost_per_hour, good, energy_wh)
        if isinstance(one, TrialRecord):
            return replace(measured, work=TimedWork.of(one))
        if one.machine is None:
            return measured
        return replace(measured, work=TimedWork(math.log(one.machine.work_ms), 0.0), machine=one.machine)

    def at_speed(self, factor: float) -> GateMeasurement:
        """With the capacity that it would have had on a machine on which that is so many times as high."""
        low, high = factor * self.capacity.low, factor * self.capacity.high
        return replace(self, capacity=Estimate(value=factor * self.capacity.value, low=low, high=high))


class _Lag(NamedTuple):
    """In logs: what was seen, what of it is more than its error, and the error of that."""

    seen: float
    sure: float
    error: float


def decide_gate(
    baseline: GateMeasurement, measured: Sequence[GateMeasurement], setting: Setting, *, last: bool,
    pairs: Sequence[tuple[float, float]] = (),
) -> GateDecision:  # fmt: skip
    """The decision after these measurements. `last`: no further one follows. `pairs` are capacities of one
    configuration, measured twice, that tell of the noise floor as well.
    """
    lag, doubt = _lag(baseline, measured), 0.0
    raw_qps = _mean([one.capacity.value for one in measured])
    if lag is not None and (effect := baseline.machine) is not None:
        measured = [one.at_speed(math.exp(effect.sensitivity * lag.sure)) for one in measured]
        doubt = math.hypot(effect.doubt * lag.sure, effect.sensitivity * lag.error)
    capacities = [one.capacity for one in measured]
    exact = all(one.low == one.high for one in (baseline.capacity, *capacities))
    floor = 0.0 if exact else _floor([one.value for one in capacities], _own(baseline.capacity, *capacities), pairs)
    weight = _GUESS_WEIGHT + len(measured) - 1 + len(pairs)
    alpha = setting.false_alarms / setting.looks
    # The baseline's interval may rest on several launches, and so tell more than two or three that happen to agree.
    test = _Test(
        alpha * (1 - _LATENCY_SHARE), floor, weight, len(measured), setting.detect, _own(baseline.capacity), last=last,
        machine_doubt=doubt,
    )  # fmt: skip
    findings = [test.of("capacity_qps", baseline.capacity.value, _mean([one.value for one in capacities]), worse=-1)]
    costs = [one.cost_per_hour / one.capacity.value for one in measured if one.cost_per_hour]
    deciding = 1  # at the same price the cost says what the capacity says
    if baseline.cost_per_hour and len(costs) == len(measured):
        before = baseline.cost_per_hour / baseline.capacity.value
        factor = 1e6 / 3600
        findings.append(test.of("cost_per_million_requests", before * factor, _mean(costs) * factor, worse=1))
        deciding += any(not math.isclose(one.cost_per_hour or 0.0, baseline.cost_per_hour) for one in measured)
    findings += _latency(baseline, measured, setting, replace(test, alpha=alpha, floor=0.0 if exact else floor))
    # What each capacity was measured within: not compared, since a rate is held up to where the share just suffices.
    good = tuple(one.goodput for one in (baseline, *measured) if one.goodput is not None)
    energy = tuple(one.energy_wh for one in (baseline, *measured) if one.energy_wh is not None)
    return GateDecision(
        _together(findings, deciding), tuple(findings), len(measured), goodput=good, energy=energy,
        machine=None if lag is None else MachineNow(math.exp(-lag.seen), doubt, raw_qps),
    )  # fmt: skip


def _latency(
    baseline: GateMeasurement, measured: Sequence[GateMeasurement], setting: Setting, test: _Test
) -> list[Comparison]:
    """The latency's comparison, where every measurement has it. `test` is the capacity's, with all the false alarms of
    the look.
    """
    before, found = baseline.latency, [one.latency for one in measured if one.latency and one.latency.value > 0]
    if before is None or before.value <= 0 or len(found) < len(measured):
        return []
    values, exact = [one.value for one in found], not test.floor
    guess = _GUESS_P99 * max(1.0, noise_beside_p99(setting.percentile.percent))
    spread = 0.0 if exact else max(test.floor, _floor(values, _own(before, *found), (), guess))
    slower = _Test(
        test.alpha * _LATENCY_SHARE, spread, test.weight, test.count, max(_MIN_LATENCY, setting.detect), 0.0,
        last=test.last,
    )  # fmt: skip
    compared = slower.of(setting.percentile.column, before.value, _mean(values), worse=1)
    return [replace(compared, percentile=setting.percentile)]


def noise_beside_p99(percent: float) -> float:
    """How many times as noisy that percentile is as the p99 of as many requests, where the tail is exponential: the
    standard deviations of their logarithms.
    """

    def noise(share: float) -> float:
        return math.sqrt(share / (1 - share)) / -math.log1p(-share)

    return noise(percent / 100) / noise(0.99)


def _lag(baseline: GateMeasurement, measured: Sequence[GateMeasurement]) -> _Lag | None:
    """By how much more time fixed work takes than for the baseline; None where it was not timed, then or now."""
    timed = [one.work for one in measured if not math.isnan(one.work.log)]
    if baseline.machine is None or not timed:
        return None
    seen = fmean(one.log for one in timed) - baseline.work.log
    variance = fmean(one.error**2 for one in timed) / len(timed)
    reliable = max(0.0, 1 - variance / max(seen**2, 1e-12))
    return _Lag(seen, reliable * seen, math.sqrt(reliable * variance))


def judged(before: float, ratios: Sequence[float], baseline_error: float, setting: Setting) -> Comparison:
    """One look at a latency of which each measurement has a reference of its own: `ratios` are to that, `before` is the
    references' mean, `baseline_error` the standard deviation of their logarithm. A change of the size that matters is
    `setting.detect`.
    """
    floor = _floor(ratios, 0.0, (), _GUESS)
    test = _Test(
        setting.false_alarms, floor, _GUESS_WEIGHT + len(ratios) - 1, len(ratios), setting.detect, baseline_error,
        last=True, reference_floor=0.0,
    )  # fmt: skip
    compared = test.of(setting.percentile.column, before, before * _mean(ratios), worse=1)
    return replace(compared, percentile=setting.percentile)


@dataclass(frozen=True)
class _Test:
    alpha: float
    floor: float
    weight: float
    count: int
    detect: float
    baseline_error: float
    last: bool
    reference_floor: float | None = None  # the noise of the baseline besides its error; None: that of one measurement
    machine_doubt: float = 0.0  # of what the machine's speed did, in logs

    def of(self, metric: str, before: float, after: float, *, worse: int) -> Comparison:
        """`worse` is the sign of a change for the worse."""
        from scipy.stats import t

        change = math.log(after / before)
        reference = self.floor if self.reference_floor is None else self.reference_floor
        error = math.hypot(max(reference, self.baseline_error), self.floor / math.sqrt(self.count), self.machine_doubt)
        bound = float(t.ppf(1 - self.alpha, self.weight)) * error
        matters = math.log1p(self.detect) if worse > 0 else -math.log1p(-self.detect)
        outcome: Outcome = "undecided"
        if worse * change > bound + 1e-9:
            outcome = "regressed"
        elif worse * change < matters - self._sight(error, 1 - _MISSES if self.last else 1 - self.alpha):
            outcome = "passed"
        elif self.last:
            outcome = "inconclusive"
        half = float(t.ppf(0.975, self.weight)) * error
        ends = (math.expm1(change - half), math.expm1(change + half))
        limits = (math.expm1(worse * bound), math.expm1(worse * matters))
        return Comparison(metric, before, after, math.expm1(change), *ends, outcome, self.floor, *limits)

    def _sight(self, error: float, confidence: float) -> float:
        """By how much the true change may be worse than the one that was found."""
        from scipy.stats import t

        return float(t.ppf(confidence, self.weight)) * error


def _together(findings: Sequence[Comparison], deciding: int) -> Outcome:
    """The first so many, the capacity and a cost at another price, decide when to stop, and whether anything was seen;
    what the p99 alone leaves open must not hold it up, since it is near the SLO by construction.
    """
    if any(one.outcome == "regressed" for one in findings):
        return "regressed"
    return next((one.outcome for one in findings[:deciding] if one.outcome != "passed"), "passed")


def _floor(values: Sequence[float], own: float, pairs: Sequence[tuple[float, float]], guess: float = _GUESS) -> float:
    """The standard deviation of one measurement's logarithm; never less than a measurement's own interval says."""
    logs = [math.log(value) for value in values]
    mean = sum(logs) / len(logs)
    squares = _GUESS_WEIGHT * max(guess, own) ** 2 + sum((one - mean) ** 2 for one in logs)
    squares += sum(math.log(second / first) ** 2 / 2 for first, second in pairs)
    return math.sqrt(squares / (_GUESS_WEIGHT + len(logs) - 1 + len(pairs)))


def _own(*estimates: Estimate) -> float:
    """One measurement's standard deviation by its own interval: the mean over the measurements."""
    found = [math.log(one.high / one.low) / _WIDTH for one in estimates if 0 < one.low < one.high]
    return sum(found) / len(found) if found else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
