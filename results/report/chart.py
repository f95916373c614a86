"""Charts as positions and words, for one template to draw as plain SVG: no script, and values where one hovers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Ticks = tuple[tuple[float, str], ...]
_MIN_TICKS, _MAX_TICKS = 3, 7
_NEAR = 4.0  # highest over lowest value; below it round steps read better than powers of ten


@dataclass(frozen=True)
class Mark:
    """A shape of an SVG with its class; `title` is what hovering tells. `path` is the `d` of an SVG path."""

    path: str
    css: str
    title: str = ""


@dataclass(frozen=True)
class Note:
    """Words at a place; `anchor` is start, middle or end."""

    x: float
    y: float
    words: str
    anchor: str = "start"
    css: str = ""


@dataclass(frozen=True)
class Axis:
    """Turns values into positions: `low` to `high` is drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def over(
        cls, values: Sequence[float], start: float, end: float, *, logarithmic: bool = False, zero: bool = False
    ) -> Axis:
        """An axis that holds the values with a margin; `zero`: and begins at zero."""
        if logarithmic:
            low, high = math.log10(min(values)), math.log10(max(values))
            margin = 0.08 * (high - low) or 0.1
            return cls(10 ** (low - margin), 10 ** (high + margin), start, end, logarithmic=True)
        low, high = (0.0 if zero else min(values)), max(values)
        margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
        return cls(low if zero else low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """The position of a value."""
        if self.logarithmic:
            share = math.log10(max(value, 1e-300) / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, -0.05), 1.05) * (self.end - self.start), 1)

    def ticks(self, text: Callable[[float], str]) -> Ticks:
        """Three to seven round values within, with their words."""
        values = round_values(self.low, self.high) if self.logarithmic else _steps(self.low, self.high)
        return tuple((self(value), text(value)) for value in values)


@dataclass(frozen=True)
class Frame:
    """The drawing's size, and where its axes' ends are in it."""

    width: int = 640
    height: int = 360
    left: int = 84
    right: int = 616
    top: int = 40
    bottom: int = 292


def abbreviated(text: str, most: int) -> str:
    """At most so many letters: long names differ at their ends as often as at their beginnings."""
    begin, end = most // 2, (most - 1) // 2
    return text if len(text) <= most else f"{text[:begin]}\N{HORIZONTAL ELLIPSIS}{text[-end:]}"


@dataclass(frozen=True)
class Chart:
    """Everything that the template draws. `label` says for a screen reader what is to be seen."""

    label: str
    x_name: str
    y_name: str
    x_ticks: Ticks
    y_ticks: Ticks
    marks: tuple[Mark, ...]
    notes: tuple[Note, ...] = ()
    frame: Frame = Frame()


def line(points: Sequence[tuple[float, float]]) -> str:
    """Through the points."""
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def steps(points: Sequence[tuple[float, float]]) -> str:
    """Each point's height holds until the next."""
    first, *rest = points
    return f"M{first[0]} {first[1]}" + "".join(f"H{x}V{y}" for x, y in rest)


def area(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]]) -> str:
    """Between two lines."""
    return f"{line([*upper, *reversed(lower)])}Z"


def box(x: float, y: float, width: float, height: float) -> str:
    """A rectangle."""
    return f"M{x} {y}h{round(width, 1)}v{round(height, 1)}h{round(-width, 1)}z"


def dot(x: float, y: float, radius: float) -> str:
    """A circle."""
    return f"M{x - radius} {y}a{radius} {radius} 0 1 0 {2 * radius} 0a{radius} {radius} 0 1 0 {-2 * radius} 0z"


def round_values(low: float, high: float) -> Sequence[float]:
    """Values that people read easily, on a logarithmic axis."""
    if high / low < _NEAR:
        return _steps(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        inside = [m * 10.0**e for e in powers for m in mantissas if low <= m * 10.0**e <= high]
        if len(inside) < _MIN_TICKS:
            return _steps(low, high)
        if len(inside) <= _MAX_TICKS:
            return inside
    return inside[:: math.ceil(len(inside) / _MAX_TICKS)]


def _steps(low: float, high: float) -> Sequence[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
