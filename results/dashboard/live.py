"""The callbacks: what is new since the last look, and what a control asks for. Nothing here changes a study."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from results.dashboard import figures, parts, search_views
from results.dashboard.cards import trial_cards, trials_text
from results.dashboard.page import panel
from results.dashboard.running import connect_running
from results.dashboard.source import Source
from results.files import ResultsError
from results.planning import PATTERNS, Terms, Wishes, make_plan, pattern
from results.series import recommended_curve
from results.summary import StudySummary
from results.text import visible

_MIXING_S = 0.4  # a request is to cost less than a second
_LATE_STEP, _MOST_LATE = 0.1, 5.0  # percent of requests
_SEEN = (Input("version", "data"), State("study", "value"))


def connect(app: Dash, source: Source) -> None:
    """Register all callbacks of the page, for the studies of that source."""
    _watch(app, source)
    connect_running(app, source)
    _overview(app, source)
    _trials(app, source)
    _plan(app, source)
    _compare(app, source)
    _export(app, source)


def _watch(app: Dash, source: Source) -> None:
    @app.callback(
        Output("version", "data"), Input("clock", "n_intervals"), Input("study", "value"), State("version", "data")
    )
    def look(_: int | None, name: str, known: str | None) -> Any:
        try:
            version = f"{name}\n{source.version(name)}"
        except ResultsError:
            return no_update  # a database that is away comes back; the page shows what it showed
        return no_update if version == known else version

    @app.callback(Output("hero", "children"), Output("state", "children"), Output("origin", "children"), *_SEEN)
    @_or_said(3)
    def head(_: str, name: str) -> Any:
        study = source.summary(name)
        return parts.hero(study), parts.state(study), parts.origin(study, source.raw(name))

    @app.callback(Output("panel", "children"), Input("tab", "value"))
    def choose(tab: str) -> Any:
        return panel(tab, source.names())


def _overview(app: Dash, source: Source) -> None:
    drawn = _OncePerSummary(_overview_of)

    @app.callback(
        Output("findings", "children"), Output("cost-p99", "figure"), Output("cost-capacity", "figure"),
        Output("latency", "figure"), Output("search", "figure"), Output("importance", "figure"),
        Output("surface", "figure"), Output("parallel", "figure"), Output("pairs", "figure"),
        Output("replay", "figure"), *_SEEN,
    )  # fmt: skip
    @_or_said(10)
    def overview(_: str, name: str) -> Any:
        return drawn.of(name, source.summary(name))


def _overview_of(study: StudySummary) -> tuple[Any, ...]:
    return (
        parts.found(study), figures.cost_over(study, "p99_ms"), figures.cost_over(study, "capacity_qps"),
        figures.latency(recommended_curve(study)), figures.search(study), figures.importance(study),
        figures.surface(study), search_views.parallel(study), search_views.pairs(study), search_views.replay(study),
    )  # fmt: skip


class _OncePerSummary:
    """Something made from a study's latest summary, and kept until there is a newer one, so that it is made only once
    however many requests ask for it.
    """

    def __init__(self, make: Callable[[StudySummary], Any]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._known: dict[str, tuple[StudySummary, Any]] = {}

    def of(self, name: str, study: StudySummary) -> Any:
        """The thing for the study of that name."""
        with self._lock:
            if name not in self._known or self._known[name][0] is not study:
                self._known[name] = (study, self._make(study))
            return self._known[name][1]


def _trials(app: Dash, source: Source) -> None:
    @app.callback(
        Output("grid", "columnDefs"), Output("grid", "rowData"), Output("cards", "children"), Input("states", "value"),
        *_SEEN,
    )  # fmt: skip
    def grid(states: list[str], _: str, name: str) -> Any:
        try:
            study = source.summary(name)
        except ResultsError:
            return no_update, no_update, no_update
        return parts.columns(study), parts.rows(study, states), trial_cards(study, states)

    @app.callback(
        Output("trials-file", "data"), Input("trials-csv", "n_clicks"), Input("trials-json", "n_clicks"),
        State("study", "value"), prevent_initial_call=True,
    )  # fmt: skip
    def download(_csv: int | None, _json: int | None, name: str) -> Any:
        if not (_csv or _json):
            return no_update
        try:
            study = source.summary(name)
        except ResultsError:
            return no_update
        kind = "json" if ctx.triggered_id == "trials-json" else "csv"
        return dcc.send_string(trials_text(study, kind), f"trials.{kind}")

    @app.callback(Output("trial", "children"), Input("grid", "selectedRows"), State("study", "value"))
    @_or_said(1)
    def trial(selected: list[dict[str, Any]] | None, name: str) -> Any:
        if not selected:
            return []
        number, study = selected[0]["number"], source.summary(name)
        record = next((one for one in study.records if one.number == number), None)
        return [] if record is None else parts.trial(study, record, source.evidence(name, number))


def _plan(app: Dash, source: Source) -> None:
    @app.callback(
        Output("qps", "max"), Output("qps", "step"), Output("qps", "value"), Output("misses", "min"),
        Output("misses", "step"), Output("misses", "max"), Output("misses", "value"), Input("study", "value"),
        Input("tab", "value"),
    )  # fmt: skip
    def scale(name: str, _: str) -> Any:
        """Traffic for up to twenty of the recommended replicas, and as many late requests as the SLO allows."""
        capacity, late = None, 1.0
        with suppress(ResultsError):
            study = source.summary(name)
            capacity, late = study.recommendation.capacity_qps, round(100 * study.question.slo.late, 6)
        max_qps = 20 * capacity.value if capacity else 100.0
        step = 10.0 ** math.floor(math.log10(max_qps) - 2)
        least = min(_LATE_STEP, late)  # a goodput of 99.95% is finer than the slider is
        most = max(_MOST_LATE, 2 * late)  # that of a p90 is 10%
        return round(max_qps / step) * step, step, round(max_qps / 4 / step) * step, least, least, most, late

    @app.callback(
        Output("plan", "children"), Output("fleet", "figure"), Input("qps", "value"), Input("pattern", "value"),
        Input("misses", "value"), Input("spare", "value"), Input("spot-share", "value"), Input("spot-price", "value"),
        *_SEEN,
    )  # fmt: skip
    @_or_said(2)
    def plan(
        qps: float | None, kind: Any, misses: float, spare: int, spot_share: float, spot_price: float, _: str, name: str
    ) -> Any:
        qps = _number(qps, 1e-6, 1e9, 1.0)
        spare, spot_share = int(_number(spare, 0, 1000, 0)), _number(spot_share, 0, 100, 0)
        misses, spot_price = _number(misses, 1e-6, 100, 0.1), _number(spot_price, 0, 100, 30)
        if kind not in PATTERNS:
            raise ValueError("no such pattern")
        terms = Terms(spot=spot_price / 100, spot_share=spot_share / 100) if spot_share else Terms()
        wishes = Wishes(misses=misses / 100, spare=spare, terms=terms)
        try:
            found = make_plan(source.summary(name), pattern(kind, qps), wishes, few=1, mixing_s=_MIXING_S)
        except ResultsError as error:
            return html.P(visible(str(error))), figures.nothing("no plan")
        return parts.planned(found), figures.fleet(found)


def _compare(app: Dash, source: Source) -> None:
    @app.callback(Output("comparison", "children"), Output("compared", "figure"), Input("other", "value"), *_SEEN)
    @_or_said(2)
    def compare(other: str | None, _: str, name: str) -> Any:
        if other is None:
            return html.P("Name a second study to compare with: `tune dashboard DIR DIR`."), figures.nothing(
                "one study"
            )
        one, two = (name, source.summary(name)), (other, source.summary(other))
        return parts.compared(one, two), figures.compared([one, two])


def _export(app: Dash, source: Source) -> None:
    @app.callback(Output("format", "options"), Output("format", "value"), *_SEEN, State("format", "value"))
    @_or_said(2)
    def formats(_: str, name: str, known: str | None) -> Any:
        offered = source.formats(name)
        return list(offered), known if known in offered else next(iter(offered), None)

    @app.callback(Output("manifest", "children"), Input("format", "value"), Input("export-qps", "value"), *_SEEN)
    @_or_said(1)
    def manifest(format_name: str | None, qps: float | None, _: str, name: str) -> Any:
        if format_name is None:
            return "There is nothing to export: no configuration held the SLO."
        found = source.export(name, format_name, _number(qps, 0, 1e9, 0) or None)
        return "\n".join(f"# {file}\n{visible(text)}" for file, text in found.items())

    @app.callback(
        Output("file", "data"), Input("download", "n_clicks"), State("format", "value"), State("export-qps", "value"),
        State("study", "value"), prevent_initial_call=True,
    )  # fmt: skip
    def download(clicks: int | None, format_name: str | None, qps: float | None, name: str) -> Any:
        if not clicks or format_name is None:
            return no_update
        try:
            found = source.export(name, format_name, _number(qps, 0, 1e9, 0) or None)
        except ResultsError:
            return no_update
        if len(found) == 1:
            [(file, text)] = found.items()
            return dcc.send_string(text, file)
        whole = "\n---\n".join(f"# {file}\n{text}" for file, text in found.items())
        return dcc.send_string(whole, f"{format_name}.txt")


def _number(value: Any, low: float, high: float, default: float) -> float:
    """The value of a control of the page; its default if it was cleared. Raises ValueError for what no control
    gives.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError("no control gives that")
    return float(value)


def _or_said(outputs: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wrap a callback: if a study cannot be read or shown now, the first output says why, and the others stay."""

    def around(callback: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(callback)
        def safely(*args: Any) -> Any:
            try:
                return callback(*args)
            except ResultsError as error:
                said = html.P(visible(str(error)), role="alert")
                return said if outputs == 1 else (said, *[no_update] * (outputs - 1))

        return safely

    return around
