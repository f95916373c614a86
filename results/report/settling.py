"""The picture of a server that never settled: latency and throughput over the warm-up, for the template to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.records import TrialRecord
from results.summary import StudySummary
from results.text import assigned, figure, milliseconds

_MAX = 4  # pictures; the trials' notes name all
_ROUND = 1


@dataclass(frozen=True)
class SettlingCurve:
    """One quantity over the warm-up: the corners of its line as SVG takes them, and its highest value in words."""

    name: str
    highest: str
    corners: str
    top: int
    bottom: int


@dataclass(frozen=True)
class Settling:
    """One trial's warm-up. Both curves begin at zero and share the time."""

    trial: int
    words: str
    curves: tuple[SettlingCurve, SettlingCurve]
    seconds: str
    width: int = 640
    height: int = 220
    left: int = 84
    right: int = 616


def settlings(study: StudySummary) -> list[Settling]:
    """The pictures of the first few trials whose latest measurement never settled."""
    found = [record for record in map(study.latest, study.records) if len(record.unsettled) > 1]
    return [_settling(record) for record in found[:_MAX]]


def _settling(record: TrialRecord) -> Settling:
    times = [sample.at_s for sample in record.unsettled]
    latencies, rates = [one.p50_ms for one in record.unsettled], [one.qps for one in record.unsettled]
    return Settling(
        record.number,
        assigned(record.configuration),
        (
            SettlingCurve("median latency", milliseconds(max(latencies)), _corners(times, latencies, 30, 90), 30, 90),
            SettlingCurve("answers per second", figure(max(rates)), _corners(times, rates, 120, 180), 120, 180),
        ),
        f"{figure(times[-1] - times[0])} s",
    )


def _corners(times: Sequence[float], values: Sequence[float], top: float, bottom: float) -> str:
    span, highest = times[-1] - times[0] or 1.0, max(values) or 1.0
    return " ".join(
        f"{round(Settling.left + (at - times[0]) / span * (Settling.right - Settling.left), _ROUND)},"
        f"{round(bottom - value / highest * (bottom - top), _ROUND)}"
        for at, value in zip(times, values, strict=True)
    )
