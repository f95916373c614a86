"""The picture of cost over capacity: positions and words; the template draws them as plain SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from results.summary import StudySummary
from results.text import figure, given, money

Kind = Literal["other", "front", "current", "best"]
Ticks = tuple[tuple[float, str], ...]
_DRAWN_LAST: tuple[Kind, ...] = ("other", "front", "current", "best")
_NEAR = 4.0  # highest over lowest value; below it round steps read better than powers of ten


@dataclass(frozen=True)
class Point:
    """A complete trial, in the picture's coordinates; `x_low` and `x_high` are the ends of its capacity's interval."""

    x: float
    y: float
    x_low: float
    x_high: float
    kind: Kind
    label: str


@dataclass(frozen=True)
class Plot:
    """Cost over capacity, both logarithmic: ticks are positions with their numbers. Lower right is better."""

    points: tuple[Point, ...]
    x_ticks: Ticks
    y_ticks: Ticks
    kinds: frozenset[Kind]
    width: int = 640
    height: int = 360
    left: int = 84
    right: int = 616
    top: int = 40
    bottom: int = 292


@dataclass(frozen=True)
class _Shown:
    """A trial with both figures: requests per second with their interval, and money."""

    number: int
    capacity: float
    low: float
    high: float
    cost: float
    words: str


def scatter(study: StudySummary) -> Plot | None:
    """Complete trials by their latest measurement; None where fewer than two have a capacity and a cost above zero."""
    shown = _with_figures(study)
    if len(shown) < 2:
        return None
    place_x, x_ticks = _axis([value for one in shown for value in (one.low, one.high)], Plot.left, Plot.right, figure)
    place_y, y_ticks = _axis([one.cost for one in shown], Plot.bottom, Plot.top, lambda v: money(v, study.currency))
    points = [
        Point(
            place_x(one.capacity), place_y(one.cost), place_x(one.low), place_x(one.high), _kind(study, one.number),
            f"trial {one.number}: {figure(one.capacity)} requests/s, {money(one.cost, study.currency)} per million"
            f" requests; {one.words}",
        )
        for one in shown
    ]  # fmt: skip
    points.sort(key=lambda point: _DRAWN_LAST.index(point.kind))
    return Plot(tuple(points), x_ticks, y_ticks, frozenset(point.kind for point in points))


def _with_figures(study: StudySummary) -> list[_Shown]:
    shown = []
    for record in map(study.latest, study.records):
        capacity, cost = record.capacity_qps, record.cost_per_million_requests
        if record.state != "complete" or capacity is None or cost is None:
            continue
        if not (0 < capacity.value < math.inf and 0 < cost < math.inf):
            continue  # a logarithmic axis has no place for it; the table shows it
        words = " ".join(f"{name}={given(value)}" for name, value in record.configuration.items())
        low = capacity.low if 0 < capacity.low <= capacity.value else capacity.value
        high = capacity.high if capacity.value <= capacity.high < math.inf else capacity.value
        shown.append(_Shown(record.number, capacity.value, low, high, cost, words))
    return shown


def _kind(study: StudySummary, number: int) -> Kind:
    if number == study.recommendation.trial:
        return "best"
    if study.current is not None and number == study.current.number:
        return "current"
    return "front" if any(choice.trial == number for choice in study.recommendation.alternatives) else "other"


def _axis(
    values: list[float], start: float, end: float, text: Callable[[float], str]
) -> tuple[Callable[[float], float], Ticks]:
    """A logarithmic axis over the values, with a margin, and three to seven round ticks within it."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = 0.08 * (high - low) or 0.1
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(start + (math.log10(value) - low) / (high - low) * (end - start), 1)

    return place, tuple((place(value), text(value)) for value in _round_values(10**low, 10**high))


def _round_values(low: float, high: float) -> Sequence[float]:
    if high / low < _NEAR:
        rough = (high - low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        inside = [m * 10.0**e for e in powers for m in mantissas if low <= m * 10.0**e <= high]
        if len(inside) <= 7:
            return inside
    return inside[:: math.ceil(len(inside) / 7)]
