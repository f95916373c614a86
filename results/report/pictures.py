"""The report's charts, from the series to marks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from results.report.chart import Axis, Chart, Frame, Mark, Note, abbreviated, area, box, dot, line, steps
from results.series import LatencyCurve, Point, front_of_cost_and_p99, points, progress
from results.summary import StudySummary
from results.text import NONE, duration, figure, given, metric_name, milliseconds, money

_SHADES = 8
_LETTER = 11  # how wide one of a tick is on a phone, in units of the drawing
_Y_TICK, _MIN_TICK = 8, 5  # letters, for which there is room beside the axis and below it


def metric_text(study: StudySummary, metric: str) -> Callable[[float], str]:
    """How its values are written."""
    return (lambda value: money(value, study.question.currency)) if metric.startswith("cost") else figure


def cost_over_p99(study: StudySummary) -> Chart | None:
    """Every complete trial; the front is a line."""
    shown = [one for one in points(study) if one.cost and one.p99_ms is not None and one.p99_ms.value > 0]

    def p99(one: Point) -> float:
        return one.p99_ms.value if one.p99_ms else 0.0

    front = [(p99(one), one.cost or 0.0) for one in front_of_cost_and_p99(study) if one.cost and p99(one) > 0]

    def ends(one: Point) -> tuple[float, float]:
        found = one.p99_ms
        sane = found is not None and 0 < found.low <= found.value <= found.high < math.inf
        return (found.low, found.high) if found is not None and sane else (p99(one), p99(one))

    return _scatter(study, shown, p99, ends, "p99 at the highest rate that held, ms", front, study.question.slo.tail_ms)


def cost_over_capacity(study: StudySummary) -> Chart | None:
    """Every complete trial with the interval of its capacity."""
    shown = [one for one in points(study) if one.cost]
    return _scatter(
        study, shown, lambda one: one.capacity.value, lambda one: (one.capacity.low, one.capacity.high),
        "capacity, requests/s", [], None,
    )  # fmt: skip


def _scatter(
    study: StudySummary, shown: list[Point], value: Callable[[Point], float],
    ends: Callable[[Point], tuple[float, float]], name: str, front: list[tuple[float, float]], limit: float | None,
) -> Chart | None:  # fmt: skip
    if len(shown) < 2:
        return None
    across = [end for one in shown for end in ends(one)] + ([limit] if limit else [])
    x = Axis.over(across, Frame.left, Frame.right, logarithmic=True)
    y = Axis.over([end for one in shown for end in cost_ends(one)], Frame.bottom, Frame.top, logarithmic=True)
    marks, notes = [], []
    if limit:
        marks.append(Mark(f"M{x(limit)} {Frame.top - 8}V{Frame.bottom}", "limit", "the SLO's limit"))
        notes.append(Note(x(limit) - 6, Frame.top + 4, f"{study.question.slo.tail_name} {milliseconds(limit)}", "end"))
    if len(front) > 1:
        marks.append(Mark(steps([(x(at), y(cost)) for at, cost in front]), "front-line", "nothing is better in both"))
    for one in shown:
        at, height = x(value(one)), y(one.cost or 0.0)
        low, high = (x(end) for end in ends(one))
        latency = milliseconds(one.p99_ms.value if one.p99_ms else None)
        paid = f"{money(one.cost, study.question.currency)} per million requests"
        title = f"trial {one.trial}: {figure(one.capacity.value)} requests/s, p99 {latency}, {paid}; {one.words}"
        if high > low:
            marks.append(Mark(f"M{low} {height}H{high}", f"span {one.kind}", title))
        cheap, dear = (y(cost) for cost in cost_ends(one))
        if cheap > dear:
            marks.append(Mark(f"M{at} {cheap}V{dear}", f"span {one.kind}", title))
        marks.append(Mark(_shape(one, at, height), f"point {one.kind}", title))
        if one.kind in ("best", "current"):
            right = at < (Frame.left + Frame.right) / 2
            notes.append(
                Note(
                    at + (14 if right else -14), height + (-8 if one.kind == "best" else 18),
                    "recommended" if one.kind == "best" else "today", "start" if right else "end", "name",
                )
            )  # fmt: skip
    return Chart(
        label=f"Cost per million requests over {name}, a point for every complete trial",
        x_name=name,
        y_name="cost per million requests",
        x_ticks=x.ticks(figure),
        y_ticks=y.ticks(lambda cost: money(cost, study.question.currency)),
        marks=tuple(marks),
        notes=tuple(notes),
    )


def cost_ends(one: Point) -> tuple[float, float]:
    """The interval of a cost. The price is known, so it follows from the interval of the capacity, ends exchanged."""
    cost, capacity = one.cost or 0.0, one.capacity
    return cost * capacity.value / capacity.high, cost * capacity.value / capacity.low


def _shape(one: Point, x: float, y: float) -> str:
    return f"M{x} {y - 9}l9 9l-9 9l-9 -9z" if one.kind == "current" else dot(x, y, 9 if one.kind == "best" else 5)


def latency_picture(curve: LatencyCurve) -> Chart:
    """p50, p95 and p99 with its interval over the rate; the limit, the capacity and the knee."""
    values = [
        value
        for one in curve.points
        for value in (one.p50_ms, one.p95_ms, one.p99_ms.value)
        if value is not None and value > 0
    ]
    values += [curve.limit_ms] if curve.limit_ms else []
    x = Axis.over([0.0, *(one.rate_qps for one in curve.points)], Frame.left, Frame.right, zero=True)
    y = Axis.over(values, Frame.bottom, Frame.top, logarithmic=True)
    marks = []
    above = [(x(one.rate_qps), max(Frame.top - 8, y(one.p99_ms.high))) for one in curve.points]
    below = [(x(one.rate_qps), min(Frame.bottom, y(one.p99_ms.low))) for one in curve.points]
    marks.append(Mark(area(above, below), "tint", "95% interval of p99"))
    names: list[tuple[tuple[float, float], str]] = []
    for css, get in (("faint", "p50_ms"), ("middle", "p95_ms")):
        at = [(x(one.rate_qps), y(value)) for one in curve.points if (value := getattr(one, get))]
        if len(at) > 1:
            marks.append(Mark(line(at), css, get.removesuffix("_ms")))
            names.append((at[-1], get.removesuffix("_ms")))
    names.append(((x(curve.points[-1].rate_qps), y(curve.points[-1].p99_ms.value)), "p99"))
    marks.append(Mark(line([(x(one.rate_qps), y(one.p99_ms.value)) for one in curve.points]), "curve", "p99"))
    for one in curve.points:
        said = {True: "held", False: "missed", None: "open"}[one.held]
        title = f"{figure(one.rate_qps)} requests/s: p99 {milliseconds(one.p99_ms.value)}, SLO {said}"
        marks.append(Mark(dot(x(one.rate_qps), y(one.p99_ms.value), 4), f"point {said}", title))
    notes = _apart(names)
    if curve.limit_ms:
        marks.append(Mark(f"M{Frame.left} {y(curve.limit_ms)}H{Frame.right}", "limit", "the SLO's limit"))
        notes.append(Note(Frame.left + 6, y(curve.limit_ms) - 6, f"{curve.limit_name}: {milliseconds(curve.limit_ms)}"))
    rules = [("knee", curve.knee_qps, 58.0), ("capacity", curve.capacity.value if curve.capacity else None, 40.0)]
    for name, rate, height in rules:
        if rate is not None and rate <= x.high:
            right = x(rate) > (Frame.left + Frame.right) / 2
            marks.append(Mark(f"M{x(rate)} {Frame.top - 8}V{Frame.bottom}", f"rule {name}", name))
            place = x(rate) + (-5 if right else 5)
            notes.append(Note(place, height, f"{name} {figure(rate)}", "end" if right else "start"))
    return Chart(
        label="Latency over the arrival rate: p50, p95, p99 with its interval, the limit, the capacity and the knee",
        x_name="requests/s",
        y_name="latency, ms",
        x_ticks=x.ticks(figure),
        y_ticks=y.ticks(figure),
        marks=tuple(marks),
        notes=tuple(notes),
    )


def _apart(names: list[tuple[tuple[float, float], str]]) -> list[Note]:
    """The name of each line at its end. If two names would overlap, the lower one is moved down."""
    notes: list[Note] = []
    lowest = 0.0
    for (at, height), name in sorted(names, key=lambda one: one[0][1]):
        lowest = max(height, lowest + 14)
        notes.append(Note(min(at, Frame.right) + 6, lowest + 4, name, css="name"))
    return notes


def search_picture(study: StudySummary) -> Chart | None:
    """The best value so far over the trials, and what each trial found."""
    shown = progress(study)
    known = [(one.trial, one.best) for one in shown if one.best is not None]
    values = [one.value for one in shown if one.value is not None and one.value > 0]
    if len(shown) < 2 or not values:
        return None
    text = metric_text(study, study.question.metrics[0])
    x = Axis.over([0.0, float(shown[-1].trial)], Frame.left, Frame.right)
    y = Axis.over(values, Frame.bottom, Frame.top, logarithmic=True)
    best = [(x(trial), y(value)) for trial, value in known if value]
    marks = [Mark(steps([*best, (x(shown[-1].trial), best[-1][1])]), "curve", "the best so far")]
    for one in shown:
        if one.value:
            said = f"trial {one.trial}: {text(one.value)}, after {duration(one.seconds)}"
            marks.append(Mark(dot(x(one.trial), y(one.value), 4), "point other", said))
    return Chart(
        label="The best value so far over the trials",
        x_name="trial",
        y_name=metric_name(study.question.metrics[0]),
        x_ticks=tuple(tick for tick in x.ticks(lambda value: f"{value:g}") if "." not in tick[1]),
        y_ticks=y.ticks(text),
        marks=tuple(marks),
    )


@dataclass(frozen=True)
class Bar:
    """A parameter's share, for a row of the page."""

    name: str
    words: str
    percent: float


def importance_bars(study: StudySummary) -> list[Bar]:
    """The most important first."""
    if study.explanation is None:
        return []
    shares = sorted(study.explanation.importance.items(), key=lambda item: -item[1])
    return [Bar(name, f"{share:.0%}", round(100 * min(1.0, share), 1)) for name, share in shares]


def surface_picture(study: StudySummary) -> Chart | None:
    """The predicted metric over the two parameters that matter most: darker is better."""
    surface = None if study.explanation is None else study.explanation.surface
    if study.explanation is None or surface is None:
        return None
    metric = study.explanation.metric
    known = [value for row in surface.value for value in row if value is not None]
    if not known:
        return None
    text = metric_text(study, metric)
    ranked = sorted(known, reverse=not study.question.maximised)  # the last is the best
    width = (Frame.right - Frame.left) / len(surface.x_values)
    height = (Frame.bottom - Frame.top + 8) / len(surface.y_values)
    whole = box(Frame.left, Frame.top - 8, Frame.right - Frame.left, Frame.bottom - Frame.top + 8)
    marks, notes = [Mark(whole, "under")], []
    for row, (y_value, values) in enumerate(zip(surface.y_values, surface.value, strict=True)):
        for column, (x_value, value) in enumerate(zip(surface.x_values, values, strict=True)):
            left, top = round(Frame.left + column * width, 1), round(Frame.bottom - (row + 1) * height, 1)
            shade = "none" if value is None else str(_SHADES * ranked.index(value) // len(ranked))
            low, high = surface.low[row][column], surface.high[row][column]
            between = "" if low is None or high is None else f" ({text(low)} to {text(high)})"
            said = "nothing is expected to serve" if value is None else f"{text(value)}{between}"
            title = f"{surface.x}={given(x_value)} {surface.y}={given(y_value)}: {said}"
            marks.append(Mark(box(left, top, width, height), f"cell heat-{shade}", title))
            if width > 56 and height > 18:
                css = "strong" if shade != "none" and int(shade) >= _SHADES // 2 else "weak"
                shown = NONE if value is None else text(value)
                notes.append(Note(left + width / 2, top + height / 2 + 5, shown, "middle", f"cell-{css}"))
    skipped = max(1, len(surface.x_values) // 10)
    room = max(_MIN_TICK, int(skipped * width / _LETTER))
    x_ticks = tuple(
        (round(Frame.left + (at + 0.5) * width, 1), abbreviated(given(value), room))
        for at, value in enumerate(surface.x_values)
    )
    y_ticks = tuple(
        (round(Frame.bottom - (at + 0.5) * height, 1), abbreviated(given(value), _Y_TICK))
        for at, value in enumerate(surface.y_values)
    )
    return Chart(
        label=f"Predicted {metric_name(metric)} over {surface.x} and {surface.y}, the others at their best",
        x_name=surface.x,
        y_name=surface.y,
        x_ticks=x_ticks[::skipped],
        y_ticks=y_ticks[:: max(1, len(y_ticks) // 10)],
        marks=tuple(marks),
        notes=tuple(notes),
    )
