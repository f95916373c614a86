"""What runs now: the rate that is sent and a percentile that the SLO limits, second by second, of each trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from results.dashboard.figures import BLUE, ORANGE, Figure, plain
from results.dashboard.source import Source
from results.files import ResultsError
from results.percentiles import P99
from results.text import visible

# Hidden it keeps its width, so that the picture has the right one when it appears.
HIDDEN = {"visibility": "hidden", "height": "0", "overflow": "hidden"}
SHOWN = {"overflow": "hidden"}


def running_now() -> html.Section:
    """The place for it, which is hidden while nothing runs."""
    return html.Section(
        [
            html.H2("Running now"),
            html.Div(id="now-text", role="status"),
            dcc.Graph(id="now-graph", config={"displayModeBar": False, "responsive": True}, style={"height": "220px"}),
        ],
        id="now", style=HIDDEN,
    )  # fmt: skip


def connect_running(app: Dash, source: Source) -> None:
    """Asked every second, as the version is."""

    @app.callback(
        Output("now", "style"), Output("now-text", "children"), Output("now-graph", "figure"),
        Input("clock", "n_intervals"), Input("study", "value"), State("now", "style"),
    )  # fmt: skip
    def now(_: int | None, name: str, style: Mapping[str, str]) -> Any:
        try:
            trials = source.running(name)
        except ResultsError:
            return no_update, no_update, no_update
        if not trials:
            return (no_update if style == HIDDEN else HIDDEN), no_update, no_update
        lines = [html.P(visible(_line(one))) for one in trials]
        return SHOWN, lines, progress_of(trials)


def _line(one: Mapping[str, Any]) -> str:
    return f"Trial {one['number']}: {one['phase']} ({one['fraction']:.0%} of its time). {one['about']}"


def progress_of(trials: Sequence[Mapping[str, Any]]) -> Figure:
    """Requests/s on the left, the limited percentile in ms on the right, over the seconds of each trial."""
    traces = []
    right = plain(", ".join(sorted({f"{one.get('percentile', P99.name)}, ms" for one in trials})))
    for one in trials:
        seconds = [point[0] for point in one["points"]]
        time = plain(f"{one.get('percentile', P99.name)}, ms")
        suffix = plain(f" of trial {one['number']}") if len(trials) > 1 else ""
        for name, place, colour, axis in (("requests/s", 1, BLUE, "y"), (time, 2, ORANGE, "y2")):
            traces.append({
                "type": "scatter", "mode": "lines", "name": name + suffix, "x": seconds,
                "y": [point[place] for point in one["points"]], "line": {"color": colour}, "yaxis": axis,
            })  # fmt: skip
    grid = {"gridcolor": "rgba(128,138,150,.25)", "zeroline": False, "rangemode": "tozero", "automargin": True}
    return {"data": traces, "layout": {
        "height": 220, "margin": {"l": 56, "r": 56, "t": 28, "b": 40}, "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)", "font": {"family": "system-ui, sans-serif", "color": "#59636e"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, "uirevision": "kept",
        "xaxis": grid | {"title": {"text": "seconds of the trial"}}, "yaxis": grid | {"title": {"text": "requests/s"}},
        "yaxis2": grid | {"title": {"text": right}, "overlaying": "y", "side": "right", "showgrid": False},
    }}  # fmt: skip
