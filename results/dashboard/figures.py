"""The pictures as Plotly's figures: plain dictionaries, since building its objects takes longer than drawing them.

Plotly shows a part of HTML in its texts, so every text of a spec or a server goes through `plain`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.planning import Plan
from results.records import TrialRecord
from results.report.chart import round_values
from results.report.pictures import cost_ends, importance_bars
from results.series import Kind, LatencyCurve, Point, bins, front_of_cost_and_p99, points, progress
from results.summary import StudySummary
from results.text import figure as number
from results.text import given, metric_name, milliseconds, money, visible
from results.trial_parts import ProbeRecord, TrialEvidence

Figure = dict[str, Any]

# Okabe and Ito's colours, which colour-blind people tell apart; kinds differ in their shape as well.
BLUE, ORANGE, GREEN, GREY, SKY = "#0072b2", "#d55e00", "#009e73", "#7a8590", "#56b4e9"
_KINDS: Mapping[Kind, tuple[str, str, str, int]] = {
    "other": ("trials", GREY, "circle", 7),
    "front": ("alternatives", BLUE, "circle-open", 9),
    "current": ("today", ORANGE, "diamond", 13),
    "best": ("recommended", BLUE, "star", 16),
}
_MAX_BARS = 120  # trials up to which every one has its error bars
SCALE = [[0, "rgba(0,114,178,.10)"], [1, "#0072b2"]]  # the stronger, the better, as in the report
_MAX_POINTS = 1500
_FEW_TRIALS = 10  # of more, Plotly's own ticks are whole numbers
_CELLS = 120  # of a picture's width: points closer than that are one


def plain(text: str) -> str:
    """Text that Plotly shows as it is."""
    return html.escape(visible(text), quote=False)


def cost_over(study: StudySummary, x: str) -> Figure:
    """Cost per million requests over `p99_ms` or `capacity_qps`, with the front of the former."""
    every = [one for one in points(study) if one.cost and (x == "capacity_qps" or one.p99_ms is not None)]
    traces: list[dict[str, Any]] = []
    if x == "p99_ms":
        front = [one for one in front_of_cost_and_p99(study) if one.cost]
        traces.append({
            "type": "scatter", "mode": "lines", "x": [_value(one, x) for one in front],
            "y": [one.cost for one in front], "name": "Pareto front", "hoverinfo": "skip",
            "line": {"color": SKY, "dash": "dot", "shape": "hv"},
        })  # fmt: skip
    for kind, (name, colour, symbol, size) in _KINDS.items():
        shown = _thinned([one for one in every if one.kind == kind], x)
        if not shown:
            continue
        traces.append({
            "type": "scatter", "mode": "markers", "name": name, "x": [_value(one, x) for one in shown],
            "y": [one.cost for one in shown], "text": [_about(study, one) for one in shown], "hoverinfo": "text",
            "customdata": [one.trial for one in shown],
            "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"width": 2, "color": colour}},
            **({"error_x": _spread(shown, x), "error_y": _cost_spread(shown)} if len(every) <= _MAX_BARS else {}),
        })  # fmt: skip
    name = "p99 at the highest rate that held, ms" if x == "p99_ms" else "capacity, requests/s"
    bars = every if len(every) <= _MAX_BARS else []
    limit_ms = study.question.slo.tail_ms or 0.0
    reach = {
        "x": [end for one in bars for end in _ends(one, x)] + [limit_ms if x == "p99_ms" else 0.0],
        "y": [end for one in bars for end in cost_ends(one)],
    }  # fmt: skip
    found = _figure(
        traces, name, axis_title(study, "cost_per_million_requests"), logarithmic="xy", prefix=_prefix(study),
        reach=reach,
    )  # fmt: skip
    if x == "p99_ms" and limit_ms:
        found["layout"]["shapes"] = [_rule("x", limit_ms, ORANGE)]
        words = f"{study.question.slo.tail_name} {milliseconds(limit_ms)} "
        note = _note(math.log10(limit_ms), 1, words, "x", "y domain")
        found["layout"]["annotations"] = [note | {"xanchor": "right", "yanchor": "top"}]
    return found


def latency(curve: LatencyCurve | None) -> Figure:
    """p50, p95, p99 with its interval over the rate, and the limit, the capacity and the knee."""
    if curve is None:
        return nothing("fewer than two rates were measured")
    rates = [one.rate_qps for one in curve.points]
    band = {
        "type": "scatter", "mode": "lines", "fill": "toself", "fillcolor": "rgba(0,114,178,.15)",
        "line": {"width": 0}, "hoverinfo": "skip", "name": "95% interval of p99", "x": [*rates, *reversed(rates)],
        "y": [one.p99_ms.high for one in curve.points] + [one.p99_ms.low for one in reversed(curve.points)],
    }  # fmt: skip
    traces = [band]
    for name, dash, values in (
        ("p50", "dot", [one.p50_ms for one in curve.points]),
        ("p95", "dash", [one.p95_ms for one in curve.points]),
        ("p99", "solid", [one.p99_ms.value for one in curve.points]),
    ):
        symbols = ["circle" if one.held else "x" if one.held is False else "circle-open" for one in curve.points]
        traces.append({
            "type": "scatter", "mode": "lines+markers" if name == "p99" else "lines", "name": name, "x": rates,
            "y": values, "line": {"color": BLUE, "dash": dash}, "marker": {"symbol": symbols, "size": 9},
            "hovertemplate": f"{name} %{{y:,.4~r}} ms at %{{x:,.4~r}} requests/s<extra></extra>",
        })  # fmt: skip
    shapes, notes = [], []
    if curve.limit_ms:
        shapes.append(_rule("y", curve.limit_ms, ORANGE))
        notes.append(
            _note(0, math.log10(curve.limit_ms), f"{curve.limit_name} {milliseconds(curve.limit_ms)}", "x domain")
        )
    for place, (name, rate) in enumerate(
        (("capacity", curve.capacity.value if curve.capacity else None), ("knee", curve.knee_qps))
    ):
        if rate is not None:
            shapes.append(_rule("x", rate, GREY))
            right = rate > curve.points[-1].rate_qps / 2
            note = _note(rate, 0.92 - 0.08 * place, f"{name} {number(rate)} ", "x", "y domain")
            notes.append(note | {"xanchor": "right" if right else "left"})
    found = _figure(traces, "requests/s", "latency, ms", logarithmic="y")
    found["layout"] |= {"shapes": shapes, "annotations": notes}
    found["layout"]["xaxis"]["rangemode"] = "tozero"
    return found


def importance(study: StudySummary) -> Figure:
    """The share of the variance that each parameter is part of."""
    bars = list(reversed(importance_bars(study)))
    if not bars:
        return nothing("known when the search is over")
    found = _figure(
        [{
            "type": "bar", "orientation": "h", "x": [bar.percent for bar in bars], "marker": {"color": BLUE},
            "y": [plain(bar.name) for bar in bars], "hovertemplate": "%{y}: %{x:.0f}%<extra></extra>",
        }], "% of the predicted variance", "",
    )  # fmt: skip
    found["layout"]["yaxis"]["automargin"] = True
    return found


def surface(study: StudySummary) -> Figure:
    """The predicted metric over the two parameters that matter most."""
    shown = None if study.explanation is None else study.explanation.surface
    if study.explanation is None or shown is None:
        return nothing("known when the search is over")
    text = [
        [
            "nothing is expected to serve" if value is None else f"{number(value)} ({number(low)} to {number(high)})"
            for value, low, high in zip(*rows, strict=True)
        ]
        for rows in zip(shown.value, shown.low, shown.high, strict=True)
    ]
    found = _figure(
        [{
            "type": "heatmap", "x": [plain(given(one)) for one in shown.x_values], "text": text,
            "y": [plain(given(one)) for one in shown.y_values], "z": shown.value, "colorscale": SCALE,
            "reversescale": not study.question.maximised, "hoverongaps": False, "xgap": 2, "ygap": 2,
            "colorbar": {"title": {"text": axis_title(study, study.explanation.metric), "side": "right"},
                         "tickprefix": _prefix(study) if study.explanation.metric.startswith("cost") else ""},
            "hovertemplate": "%{x}, %{y}: %{text}<extra></extra>",
        }], plain(shown.x), plain(shown.y),
    )  # fmt: skip
    found["layout"]["xaxis"]["type"] = found["layout"]["yaxis"]["type"] = "category"
    return found


def search(study: StudySummary) -> Figure:
    """The best so far, and what each trial found."""
    steps = progress(study)
    found = [one for one in steps if one.value is not None]
    best = [one for one in steps if one.best is not None]
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": "trial", "x": [one.trial for one in found],
            "y": [one.value for one in found], "marker": {"color": GREY, "size": 7},
            "hovertemplate": "trial %{x}: %{y:,.4~r}<extra></extra>",
        },
        {
            "type": "scatter", "mode": "lines", "name": "best so far", "x": [one.trial for one in best],
            "y": [one.best for one in best], "line": {"color": BLUE, "shape": "hv"}, "hoverinfo": "skip",
        },
    ]  # fmt: skip
    metric = study.question.metrics[0]
    prefix = _prefix(study) if metric.startswith("cost") else ""
    shown = _figure(traces, "trial", axis_title(study, metric), logarithmic="y", prefix=prefix)
    if len(steps) <= _FEW_TRIALS:
        shown["layout"]["xaxis"]["dtick"] = 1  # there is no trial 0.5
    return shown


def histogram(probe: ProbeRecord | None, limit_ms: float | None) -> Figure:
    """The distribution of the latencies of one probe."""
    if probe is None or not probe.histogram:
        return nothing("no histogram is stored")
    bounds, counts = bins(probe.histogram)
    traces = [{
        "type": "bar", "x": bounds, "y": counts, "marker": {"color": BLUE}, "width": [0.09 * one for one in bounds],
        "hovertemplate": "up to %{x:,.4~r} ms: %{y} requests<extra></extra>",
    }]  # fmt: skip
    found = _figure(traces, f"latency at {number(probe.rate_qps)} requests/s, ms", "requests", logarithmic="x")
    if limit_ms:
        found["layout"]["shapes"] = [_rule("x", limit_ms, ORANGE)]
    return found


def usage(record: TrialRecord, evidence: TrialEvidence) -> Figure:
    """Cores and memory over the trial's time."""
    if not evidence.usage:
        return nothing("no use of resources is stored")
    at = [one.at_s for one in evidence.usage]
    traces = [
        {"type": "scatter", "mode": "lines", "name": "cores", "x": at, "line": {"color": BLUE},
         "y": [one.cpu_cores for one in evidence.usage], "hovertemplate": "%{y:,.3~r} cores<extra></extra>"},
        {"type": "scatter", "mode": "lines", "name": "memory, MiB", "x": at, "yaxis": "y2",
         "line": {"color": ORANGE, "dash": "dash"}, "y": [one.memory_bytes / 2**20 for one in evidence.usage],
         "hovertemplate": "%{y:,.4~r} MiB<extra></extra>"},
    ]  # fmt: skip
    found = _figure(traces, f"seconds since the launch of trial {record.number}", "cores")
    found["layout"]["yaxis"]["rangemode"] = "tozero"
    found["layout"]["yaxis2"] = {
        "title": {"text": "memory, MiB"}, "overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False,
        "automargin": True,
    }  # fmt: skip
    return found


def fleet(plan: Plan) -> Figure:
    """The traffic over time, and what the replicas can carry."""
    simulated, each = plan.option.strategy.simulated, plan.option.replica.capacity_qps
    every = max(1, len(plan.traffic.rates) // 600)
    hours = [at * plan.traffic.step_s / 3600 for at in range(0, len(plan.traffic.rates), every)]
    traces = [
        {"type": "scatter", "mode": "lines", "fill": "tozeroy", "name": "traffic", "x": hours, "line": {"color": BLUE},
         "y": [float(rate) for rate in plan.traffic.rates[::every]]},
        {"type": "scatter", "mode": "lines", "name": "what the replicas carry", "x": hours,
         "line": {"color": ORANGE, "shape": "hv", "dash": "dash"},
         "y": [float(count) * each for count in simulated.ready[::every]],
         "text": [f"{float(count):g} replicas" for count in simulated.ready[::every]],
         "hovertemplate": "%{y:,.4~r} requests/s with %{text}<extra></extra>"},
    ]  # fmt: skip
    return _figure(traces, "hours", "requests/s")


def compared(studies: Sequence[tuple[str, StudySummary]]) -> Figure:
    """Cost over capacity of several studies."""
    traces = []
    for (name, study), colour, symbol in zip(studies, (BLUE, ORANGE), ("circle", "diamond"), strict=False):
        shown = _thinned([one for one in points(study) if one.cost], "capacity_qps")
        traces.append({
            "type": "scatter", "mode": "markers", "name": plain(name), "x": [one.capacity.value for one in shown],
            "y": [one.cost for one in shown], "text": [_about(study, one) for one in shown], "hoverinfo": "text",
            "marker": {"color": colour, "symbol": symbol, "size": [16 if one.kind == "best" else 8 for one in shown]},
        })  # fmt: skip
    return _figure(traces, "capacity, requests/s", "cost per million requests", logarithmic="xy")


def nothing(words: str) -> Figure:
    """A sentence in place of a picture."""
    return {
        "data": [],
        "layout": layout_of_all() | {
            "xaxis": {"visible": False}, "yaxis": {"visible": False},
            "annotations": [{"text": plain(words), "showarrow": False, "font": {"size": 14}}],
        },
    }  # fmt: skip


def _thinned(shown: list[Point], x: str) -> list[Point]:
    """The points without those that would lie on another one. Only very many points are thinned out."""
    if len(shown) <= _MAX_POINTS:
        return shown
    xs, ys = [math.log(_value(one, x) or 1e-9) for one in shown], [math.log(one.cost or 1e-9) for one in shown]
    wide, high = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    cells = {
        (int(_CELLS * (a - min_x) / wide), int(_CELLS * (b - min_y) / high)): one
        for min_x, min_y in [(min(xs), min(ys))]
        for a, b, one in zip(xs, ys, shown, strict=True)
    }
    return list(cells.values())


def _value(one: Point, x: str) -> float:
    if x == "capacity_qps":
        return one.capacity.value
    return one.p99_ms.value if one.p99_ms else math.nan


def _about(study: StudySummary, one: Point) -> str:
    p99 = milliseconds(one.p99_ms.value if one.p99_ms else None)
    cost = money(one.cost, study.question.currency)
    return plain(f"trial {one.trial}: {number(one.capacity.value)} requests/s, p99 {p99}, {cost} per million") + (
        f"<br>{plain(one.words)}"
    )


def _spread(shown: Sequence[Point], x: str) -> dict[str, Any]:
    return _bars([(low, _value(one, x), high) for one in shown for low, high in [_ends(one, x)]])


def _ends(one: Point, x: str) -> tuple[float, float]:
    found = one.capacity if x == "capacity_qps" else one.p99_ms
    return (found.low, found.high) if found else (math.nan, math.nan)


def _cost_spread(shown: Sequence[Point]) -> dict[str, Any]:
    return _bars([(low, one.cost or 0.0, high) for one in shown for low, high in [cost_ends(one)]])


def _bars(ends: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1.2, "width": 0, "color": GREY,
        "array": [max(0.0, high - value) for _, value, high in ends],
        "arrayminus": [max(0.0, value - low) for low, value, _ in ends],
    }  # fmt: skip


def _rule(axis: str, value: float, colour: str) -> dict[str, Any]:
    across = {"x": ("y domain", "x"), "y": ("x domain", "y")}[axis]
    other = "y" if axis == "x" else "x"
    return {
        "type": "line", f"{axis}ref": across[1], f"{axis}0": value, f"{axis}1": value, f"{other}ref": across[0],
        f"{other}0": 0, f"{other}1": 1, "line": {"color": colour, "dash": "dash", "width": 1.5},
    }  # fmt: skip


def _note(x: float, y: float, text: str, xref: str = "x", yref: str = "y") -> dict[str, Any]:
    return {
        "x": x, "y": y, "xref": xref, "yref": yref, "text": plain(text), "showarrow": False, "xanchor": "left",
        "yanchor": "bottom",
    }  # fmt: skip


def axis_title(study: StudySummary, metric: str) -> str:
    """A metric in words, with its currency if that has no sign to stand before each number."""
    is_named = metric.startswith("cost") and study.question.currency.isalnum()
    return f"{metric_name(metric)}, {plain(study.question.currency)}" if is_named else metric_name(metric)


def cost_template(study: StudySummary) -> str:
    """How a hover text writes a cost that is on the y axis."""
    currency = plain(study.question.currency)
    return f"%{{y:,.3~r}} {currency}" if study.question.currency.isalnum() else f"{currency}%{{y:,.3~r}}"


def _prefix(study: StudySummary) -> str:
    return "" if study.question.currency.isalnum() else plain(study.question.currency)


def _figure(
    traces: Sequence[Mapping[str, Any]], x: str, y: str, *, logarithmic: str = "", prefix: str = "",
    reach: Mapping[str, Sequence[float]] | None = None,
) -> Figure:  # fmt: skip
    """`reach` holds values besides the traces' own that the axes have to show, such as the ends of error bars."""
    layout = layout_of_all() | {
        "xaxis": {"title": {"text": x}, "type": "log" if "x" in logarithmic else "-", "automargin": True},
        "yaxis": {
            "title": {"text": y, "standoff": 12}, "type": "log" if "y" in logarithmic else "-",
            "automargin": True,
        },
    }  # fmt: skip
    for axis in ("x", "y"):
        found = layout[f"{axis}axis"]
        found |= {"gridcolor": "rgba(128,138,150,.25)", "zeroline": False}
        values = (
            [
                value
                for values in (*(trace.get(axis, ()) for trace in traces), (reach or {}).get(axis, ()))
                for value in values
                if value and value > 0
            ]
            if found["type"] == "log"
            else []
        )
        if values:  # Plotly's own ticks on a logarithmic axis are powers of ten and single digits
            low, high = min(values) / 1.1, max(values) * 1.1
            at = round_values(low, high)
            room = 0.06 * math.log10(high / low)
            found["range"] = [math.log10(low) - room, math.log10(high) + room]
            found |= {"tickvals": list(at), "ticktext": [f"{prefix if axis == 'y' else ''}{number(one)}" for one in at]}
    return {"data": list(traces), "layout": layout}


def layout_of_all() -> dict[str, Any]:
    """What all pictures of the page have alike."""
    return {
        "margin": {"l": 60, "r": 16, "t": 48, "b": 48}, "height": 340, "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)", "font": {"family": "system-ui, sans-serif", "color": "#59636e"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, "hovermode": "closest",
        "uirevision": "kept",
    }  # fmt: skip
