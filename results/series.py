"""What the pictures show, in the units of the field: the report draws it as SVG, the dashboard with Plotly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from results.records import TrialRecord
from results.summary import StudySummary
from results.text import assigned
from results.trial_parts import Estimate, TrialEvidence

Kind = Literal["other", "front", "current", "best"]
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Point:
    """A complete trial with all of its launches together; `words` is its configuration."""

    trial: int
    kind: Kind
    words: str
    cost: float | None
    capacity: Estimate
    p99_ms: Estimate | None


@dataclass(frozen=True)
class CurvePoint:
    """Latency at one rate. `held` is what the probe said of the SLO, None where it stayed open."""

    rate_qps: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: Estimate
    held: bool | None


@dataclass(frozen=True)
class LatencyCurve:
    """Latency over the arrival rate of one trial. `knee_qps` is the measured rate with the most requests per second of
    latency: Kleinrock's power (ICC 1979) with the p99; beyond it latency is bought dearly.
    """

    trial: int
    points: tuple[CurvePoint, ...]
    knee_qps: float | None
    limit_ms: float | None
    capacity: Estimate | None
    limit_name: str = "SLO"


@dataclass(frozen=True)
class SearchProgress:
    """The search after one more trial: the best value so far, and the time and money spent (on the servers' price)."""

    trial: int
    value: float | None
    best: float | None
    seconds: float
    spent: float


def points(study: StudySummary) -> list[Point]:
    """Complete trials with a capacity above zero; the recommendation last, so that it is drawn on top."""
    front = {choice.trial for choice in study.recommendation.alternatives}
    current = study.current.number if study.current else None
    found = []
    for one in map(study.latest, study.records):
        if one.state != "complete" or one.capacity_qps is None or not 0 < one.capacity_qps.value < math.inf:
            continue
        kind: Kind = "front" if one.number in front else "other"
        kind = "best" if one.number == study.recommendation.trial else "current" if one.number == current else kind
        found.append(
            Point(
                one.number,
                kind,
                assigned(one.configuration),
                one.cost_per_million_requests,
                _sane(one.capacity_qps),
                one.latency.p99_ms,
            )
        )
    order: tuple[Kind, ...] = ("other", "front", "current", "best")
    return sorted(found, key=lambda point: order.index(point.kind))


def front_of_cost_and_p99(study: StudySummary) -> list[Point]:
    """The points that no other beats in both cost and p99, ordered by p99: the line in the picture."""
    both = [one for one in points(study) if one.cost is not None and one.p99_ms is not None]
    found: list[Point] = []
    for one in sorted(both, key=lambda point: (point.p99_ms.value if point.p99_ms else 0.0, point.cost or 0.0)):
        if not found or (one.cost or 0.0) < (found[-1].cost or 0.0):
            found.append(one)
    return found


def latency_curve(study: StudySummary, number: int, evidence: TrialEvidence) -> LatencyCurve | None:
    """A trial's latency curve; None if fewer than two rates were probed."""
    record = next((study.latest(one) for one in study.records if one.number == number), None)
    usable = [one for one in evidence.probes if one.verdict != "invalid" and one.p99_ms is not None]
    found: dict[float, CurvePoint] = {}
    for probe in sorted(usable, key=lambda one: (one.rate_qps, one.requests)):
        held = {"met": True, "missed": False}.get(probe.verdict)
        assert probe.p99_ms is not None  # noqa: S101 (chosen so)
        found[round(probe.rate_qps, 6)] = CurvePoint(probe.rate_qps, probe.p50_ms, probe.p95_ms, probe.p99_ms, held)
    if len(found) < 2:
        return None
    shown = tuple(found[rate] for rate in sorted(found))
    powers = [(one.rate_qps / one.p99_ms.value, one.rate_qps) for one in shown if one.p99_ms.value > 0]
    knee = max(powers)[1] if powers else None
    limit_ms, name = study.question.slo.tail_ms, study.question.slo.tail_name
    if limit_ms is None and study.question.slo.ttft_ms is not None:
        limit_ms, name = study.question.slo.ttft_ms, "SLO for the first token"
    return LatencyCurve(number, shown, knee, limit_ms, record.capacity_qps if record else None, name)


def recommended_curve(study: StudySummary) -> LatencyCurve | None:
    """The latency curve of the recommendation; None if there is none, or too few of its probes are known."""
    number = study.recommendation.trial
    evidence = None if number is None else study.evidence.get(number)
    return None if number is None or evidence is None else latency_curve(study, number, evidence)


def progress(study: StudySummary) -> list[SearchProgress]:
    """The search after each trial, in their order. Second measurements come last, and only add time and money."""
    best: float | None = None
    seconds = spent = 0.0
    found = []
    for one in study.records:
        value = study.values.get(one.number)
        better = value is not None and (best is None or (value > best if study.question.maximised else value < best))
        best = value if better else best
        seconds, spent = seconds + one.timing.took_s, spent + _spent(one)
        found.append(SearchProgress(one.number, value, best, seconds, spent))
    return found


def total_spent(study: StudySummary) -> tuple[float, float]:
    """Seconds and money of all measurements: what the servers cost while they were measured."""
    every = [*study.records, *(one for launches in study.launches.confirmations.values() for one in launches)]
    return sum(one.timing.took_s for one in every), sum(map(_spent, every))


def bins(histogram: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """Upper bounds in milliseconds, and counts."""
    return [bound for bound, _ in histogram], [count for _, count in histogram]


def _spent(record: TrialRecord) -> float:
    return (record.cost_per_hour or 0.0) * record.timing.took_s / _HOUR_S


def _sane(estimate: Estimate) -> Estimate:
    """An interval that holds its value, for a logarithmic axis."""
    low = estimate.low if 0 < estimate.low <= estimate.value else estimate.value
    high = estimate.high if estimate.value <= estimate.high < math.inf else estimate.value
    return Estimate(value=estimate.value, low=low, high=high)
