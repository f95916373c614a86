"""The search as it went, trial by trial, and the parameters in pairs, as Plotly's figures."""

from __future__ import annotations

import math
import textwrap
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

from results.dashboard.figures import (
    BLUE,
    GREY,
    ORANGE,
    SCALE,
    Figure,
    cost_over,
    cost_template,
    layout_of_all,
    nothing,
    plain,
)
from results.records import TrialRecord
from results.report.pictures import metric_text
from results.series import Point, points
from results.summary import StudySummary
from results.text import assigned, given, metric_name, money, one_line, seen_at
from search_spaces import ParameterValue

_MAX_STEPS = 200  # trials up to which each is a step of the replay
_FEW_STEPS = 100  # of more trials, each of which is a part of them
_MAX_REPLAYED = 20_000  # points of all steps together: every step is sent with all of its points
_REPLAYED = ((GREY, "circle", 8), (BLUE, "star", 16), (ORANGE, "circle-open", 18))
_MAX_BANDS = 200
_MAX_PAIRED = 4  # parameters: six pairs
_SCALE = [[0, "rgba(0,114,178,.15)"], [1, BLUE]]  # the stronger, the better, as in the other pictures
_GAP = 0.08
_LINE = 36  # letters of a line over the picture


def replay(study: StudySummary) -> Figure:
    """Cost over p99 as the trials came; a slider and a button go through them. The newest is orange."""
    known = {one.trial: one for one in points(study) if one.cost and one.p99_ms is not None}
    if len(known) < 2:
        return nothing("two complete trials make a picture")
    records = sorted(study.records, key=lambda one: one.number)
    every = 1 if len(records) <= _MAX_STEPS else -(-len(records) // _FEW_STEPS)
    ends = {*range(every, len(records), every), len(records)}
    max_points, frames = _MAX_REPLAYED // len(ends), []
    before: list[Point] = []
    best: Point | None = None
    for end, record in enumerate(records, start=1):
        now = known.get(record.number)
        if now is not None and (best is None or (now.cost or math.inf) < (best.cost or math.inf)):
            best = now
        if end in ends:
            some = before[:: -(-len(before) // max_points) or 1]
            frames.append(_frame(study, record, (some, [best] if best else [], [now] if now else [])))
        if now is not None:
            before.append(now)
    shown = cost_over(study, "p99_ms")
    layout = shown["layout"] | {
        "height": 500, "margin": {"l": 60, "r": 16, "t": 92, "b": 130}, "showlegend": False,
        "title": frames[-1]["layout"]["title"], "sliders": [_slider(frames)],
        "updatemenus": [{
            "type": "buttons", "direction": "left", "x": 0, "y": -0.55, "xanchor": "left", "yanchor": "bottom",
            "pad": {"t": 0, "r": 8}, "showactive": False,
            "buttons": [_button("Play", None, 400), _button("Pause", [None], 0)],
        }],
    }  # fmt: skip
    return {"data": frames[-1]["data"], "layout": layout, "frames": frames}


def _frame(study: StudySummary, newest: TrialRecord, groups: Sequence[Sequence[Point]]) -> dict[str, Any]:
    """The picture after the newest trial. `groups` are the trials before it (of very many, some), the best so far, and
    the newest.
    """
    cost = cost_template(study)
    traces = [
        {
            "type": "scatter", "mode": "markers", "x": [one.p99_ms.value for one in shown if one.p99_ms],
            "y": [one.cost for one in shown], "marker": {"color": colour, "symbol": symbol, "size": size},
            "customdata": [one.trial for one in shown],
            "hovertemplate": f"trial %{{customdata}}: {cost} per million<extra></extra>",
        }
        for shown, (colour, symbol, size) in zip(groups, _REPLAYED, strict=True)
    ]  # fmt: skip
    return {"name": str(newest.number), "data": traces, "layout": {"title": {
        "text": "<br>".join((*_wrapped(assigned(newest.configuration)), *_wrapped(_came_of(study, newest)))),
        "font": {"size": 13}, "x": 0, "xref": "paper",
    }}}  # fmt: skip


def _came_of(study: StudySummary, record: TrialRecord) -> str:
    if record.state != "complete":
        return f"trial {record.number}: {record.state}" + (f", {record.reason}" if record.reason else "")
    cost = money(record.cost_per_million_requests, study.question.currency)
    shown = [f", {one.name} {one.text(record)}" for one in study.percentiles if one.of(record) is not None]
    where = seen_at(record.latency.latencies_at_qps, None) if shown else None
    return f"trial {record.number}: {cost} per million{''.join(shown)}{f' {where}' if where else ''}"


def _wrapped(text: str) -> list[str]:
    """Two lines at most, each short enough for a phone."""
    lines = textwrap.wrap(one_line(text), _LINE, max_lines=2, placeholder=" \N{HORIZONTAL ELLIPSIS}")
    return [plain(line) for line in lines]


def _slider(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    steps = [_button(one["name"], [one["name"]], 0) for one in frames]
    return {
        "active": len(steps) - 1, "steps": steps, "pad": {"t": 56, "l": 130}, "ticklen": 0,
        "currentvalue": {"prefix": "after trial ", "xanchor": "left"}, "font": {"size": 11},
    }  # fmt: skip


def _button(label: str, names: list[str | None] | None, pause_ms: int) -> dict[str, Any]:
    how = {
        "mode": "immediate", "frame": {"duration": pause_ms, "redraw": True}, "transition": {"duration": 0},
        "fromcurrent": True,
    }  # fmt: skip
    return {"label": label, "method": "animate", "args": [names, how]}


def pairs(study: StudySummary) -> Figure:
    """The best that was measured at each pair of values, for the parameters that matter most."""
    records = [one for one in map(study.latest, study.records) if one.number in study.values]
    varied = [
        name for name in study.question.parameters if len({given(one.configuration.get(name)) for one in records}) > 1
    ]
    importance = study.explanation.importance if study.explanation else {}
    names = sorted(varied, key=lambda name: -importance.get(name, 0.0))[:_MAX_PAIRED]
    if len(names) < 2:
        return nothing("two parameters with several measured values make a picture")
    values = [study.values[one.number] for one in records]
    values.sort(reverse=not study.question.maximised)
    shades = {one.number: _shade(study.values[one.number], values, study.question.maximised) for one in records}
    layout: dict[str, Any] = {
        "height": 520, "margin": {"l": 70, "r": 16, "t": 16, "b": 56}, "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "hovermode": "closest",
        "font": {"family": "system-ui, sans-serif", "color": "#59636e"},
    }  # fmt: skip
    traces = []
    size = 1 / (len(names) - 1)
    for number, (column, row) in enumerate(combinations(range(len(names)), 2), start=1):
        mark = "" if number == 1 else str(number)
        bottom = 1 - row * size
        for axis, name, low, is_outer in (
            ("x", names[column], column * size, row == len(names) - 1), ("y", names[row], bottom, column == 0),
        ):  # fmt: skip
            order = list(dict.fromkeys(map(_label, _sorted(records, name))))
            layout[f"{axis}axis{mark}"] = {
                "type": "category", "categoryorder": "array", "categoryarray": order, "showticklabels": is_outer,
                "domain": [low + _GAP / 4, min(1.0, low + size - _GAP / 2)], "gridcolor": "rgba(128,138,150,.25)",
                "anchor": f"{'y' if axis == 'x' else 'x'}{mark}", "automargin": True,
                "title": {"text": plain(name) if is_outer else ""},
            }  # fmt: skip
        traces.append(_pair(study, records, (names[column], names[row]), shades) | {
            "xaxis": f"x{mark}", "yaxis": f"y{mark}",
        })  # fmt: skip
    return {"data": traces, "layout": layout}


def _pair(
    study: StudySummary, records: Sequence[TrialRecord], names: tuple[str, str], shades: dict[int, float]
) -> dict[str, Any]:
    cells: dict[tuple[str, str], TrialRecord] = {}
    for one in records:
        cell = _label(one.configuration.get(names[0])), _label(one.configuration.get(names[1]))
        if cell not in cells or shades[one.number] > shades[cells[cell].number]:
            cells[cell] = one
    return {
        "type": "scatter", "mode": "markers", "x": [x for x, _ in cells], "y": [y for _, y in cells],
        "text": [plain(_came_of(study, one)) for one in cells.values()], "hoverinfo": "text",
        "marker": {
            "symbol": "square", "size": 16, "color": [shades[one.number] for one in cells.values()], "cmin": 0,
            "cmax": 1, "colorscale": _SCALE, "line": {"width": 1, "color": BLUE},
        },
    }  # fmt: skip


@lru_cache(maxsize=4096, typed=True)
def _label(value: ParameterValue | None) -> str:
    """A parameter's value on an axis: the same few, many thousand times."""
    return plain(given(value))


def _shade(value: float, values: Sequence[float], maximised: bool) -> float:
    """From 0 (the worst) to 1 (the best), by its rank among the values, the worst of which comes first: one bad trial
    does not make all others alike.
    """
    worse = bisect_left(values, value) if maximised else bisect_left(values, -value, key=lambda one: -one)
    return worse / max(1, len(values) - 1)


def _sorted(records: Sequence[TrialRecord], name: str) -> list[Any]:
    values = [one.configuration.get(name) for one in records]
    try:
        return sorted(values, key=lambda value: (value is None, value))
    except TypeError:  # numbers beside words
        return sorted(values, key=given)


def parallel(study: StudySummary) -> Figure:
    """The best trials as bands over their parameters and what came of them; the stronger, the better."""
    known = [one for one in map(study.latest, study.records) if one.number in study.values]
    if len(known) < 2:
        return nothing("two complete trials make a picture")
    known.sort(key=lambda one: study.values[one.number], reverse=study.question.maximised)
    shown = known[:_MAX_BANDS]
    quarters = [min(3, 4 * place // len(shown)) for place in range(len(shown))]
    ends = [study.values[shown[quarters.index(quarter)].number] for quarter in sorted(set(quarters))]
    shown_as = metric_text(study, study.question.metrics[0])
    texts = [plain(shown_as(end)) for end in ends]
    words = [f"from {text} on" if place else f"best: {text}" for place, text in enumerate(texts)]
    dimensions = [
        {"label": plain(name), "values": [_label(one.configuration.get(name)) for one in shown]}
        for name in study.question.parameters
    ]
    names = sorted(set(quarters))
    outcome = {
        "label": metric_name(study.question.metrics[0]), "values": [words[names.index(one)] for one in quarters],
        "categoryorder": "array", "categoryarray": words,
    }  # fmt: skip
    trace = {
        "type": "parcats", "dimensions": [*dimensions, outcome], "hoveron": "color", "arrangement": "freeform",
        "line": {"color": [3 - one for one in quarters], "colorscale": SCALE, "cmin": -1, "cmax": 3},
    }  # fmt: skip
    layout = layout_of_all() | {"margin": {"l": 80, "r": 110, "t": 40, "b": 24}, "height": 380}
    return {"data": [trace], "layout": layout}
