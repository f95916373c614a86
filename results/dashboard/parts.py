"""Pieces of the page that are made of a study: its head, its tables, one trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dash import dcc, html

from results.dashboard import figures
from results.dashboard.page import GRAPH_SIZE, STATES
from results.percentiles import high_percentiles, names, seen
from results.planning import Plan, plan_money
from results.records import Recommendation, TrialRecord
from results.report.findings import findings
from results.report.listing import comparison_table, services_table
from results.report.report import highlights, question, sentence, verdict
from results.series import latency_curve, total_spent
from results.summary import StudySummary
from results.text import (
    NONE,
    assigned,
    change,
    duration,
    figure,
    given,
    interval,
    milliseconds,
    money,
    money_between,
    share,
    size,
    visible,
)
from results.trial_parts import TrialEvidence

_GRAPH = {"displaylogo": False, "responsive": True}
_MIN_S = 0.05  # a time that is worth a word; what a table replays takes none


def hero(study: StudySummary) -> list[Any]:
    """What to deploy, what it costs, how sure that is."""
    tone, words_ = verdict(study)
    shown: list[Any] = [html.Div(words_, className=f"verdict {tone}")]
    if text := sentence(study):
        shown.append(html.P(visible(text), className="sentence"))
    shown.append(
        html.Dl(
            [
                html.Div([html.Dt(one.value), html.Dd([one.meaning, *([html.Br(), one.note] if one.note else [])])])
                for one in highlights(study)
            ],
            className="figures",
        )
    )
    return [*shown, html.P(visible(question(study)), className="soft")]


def state(study: StudySummary) -> str:
    """How far the run is, for the head of the page."""
    done, budget = len(study.records), study.progress.budget
    trials = f"{done} of {budget} trials" if budget else f"{done} trials"
    return f"running: {trials}, {study.progress.running} under way" if study.progress.running else trials


def origin(study: StudySummary, raw: str | None) -> list[Any]:
    """The line that says where the study was measured, and how to get to the raw study."""
    seconds, spent = total_spent(study)
    said = [f"{name}: {visible(value)}" for name, value in study.provenance.items()]
    cost = f", {money(spent, study.question.currency)} at the servers' prices" if spent else ""
    shown: list[Any] = [html.P(f"{duration(seconds)} of measuring{cost}. " + " · ".join(said))]
    if raw and raw.startswith("http://"):
        shown.append(html.P(html.A("The raw study in Optuna's dashboard", href=raw)))
    elif raw:
        shown.append(html.P(raw))
    return shown


def found(study: StudySummary) -> list[Any]:
    """The findings, and the recommendation against today."""
    shown: list[Any] = []
    if seen := findings(study):
        items = [html.Li([html.B(f"{one.title}. "), visible(one.words)]) for one in seen]
        shown += [html.H2("Findings"), html.Ul(items, className="reasons")]
    if against := comparison_table(study):
        shown += [html.H2("Against today"), table(against.headings, [row.cells for row in against.rows])]
    return shown


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> html.Div:
    """A plain table that scrolls by itself where the page is narrow."""
    head = html.Thead(html.Tr([html.Th(one) for one in headings]))
    body = html.Tbody([html.Tr([html.Td(visible(cell)) for cell in row]) for row in rows])
    return html.Div(html.Table([head, body]), className="wide", tabIndex="0", role="region")


def columns(study: StudySummary) -> list[dict[str, Any]]:
    """The columns of the grid of trials; numbers sort as numbers."""
    numeric = {"type": "numericColumn", "filter": "agNumberColumnFilter"}
    times = names(study.percentiles)
    titles = {
        "capacity_qps": "requests/s", **{one.column: f"{one.name}, ms" for one in study.percentiles},
        "latencies_at_qps": f"{times} at, requests/s", "latencies_from_requests": f"{times} of requests",
        "cost_per_hour": "per hour",
        "cost_per_million_requests": "per million", "error_rate": "errors, %", "cpu_cores_used": "cores used",
        "memory_mib": "memory, MiB", "gpu_percent": "GPU, %", "wall_s": "took, s",
    }  # fmt: skip
    found: list[dict[str, Any]] = [
        {"field": "number", "headerName": "trial", "pinned": "left", "sort": "asc", "width": 90, **numeric},
        {"field": "state", "headerName": "state", "width": 184},
    ]
    rounded = {"valueFormatter": {"function": "params.value == null ? '' : d3.format(',.4~r')(params.value)"}}
    cells = rows(study, STATES)
    found += [
        {"field": field, "headerName": title, "width": 108, **numeric, **rounded}
        for field, title in titles.items()
        if any(row[field] is not None for row in cells)
    ]
    for name in study.question.parameters:
        values = [record.configuration.get(name) for record in study.records[:200]]
        plain = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        letters = max(len(visible(name)), *(len(visible(given(one))) for one in values), 0)
        width = min(320, max(100, 8 * letters + 40))
        heading = {"field": f"parameter:{name}", "headerName": visible(name), "width": width}
        found.append(heading | (numeric if plain else {}))
    if any(row["bottleneck"] for row in cells):
        found.append({"field": "bottleneck", "headerName": "bottleneck", "width": 140})
    return found


def rows(study: StudySummary, states: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the grid of trials, with all launches together. Under a trial with a reason there is a row for
    that.
    """
    found = []
    for record in map(study.latest, study.records):
        if record.state in states:
            found.append(row := _row(study, record))
            if row["reason"]:
                found.append(row | {"id": f"{row['id']} below", "below": True})
    return found


def _row(study: StudySummary, record: TrialRecord) -> dict[str, Any]:
    best = record.number == study.recommendation.trial
    times = {one.column: time.value if (time := one.of(record)) else None for one in study.percentiles}
    is_seen = any(value is not None for value in times.values())
    return {
        "id": str(record.number),
        "number": record.number,
        "state": f"{record.state}, recommended" if best else record.state,
        **{f"parameter:{name}": _cell(value) for name, value in record.configuration.items()},
        "capacity_qps": record.capacity_qps.value if record.capacity_qps else None,
        **times,
        "latencies_at_qps": record.latency.latencies_at_qps if is_seen else None,
        "latencies_from_requests": record.latency.latencies_from_requests if is_seen else None,
        "cost_per_hour": record.cost_per_hour,
        "cost_per_million_requests": record.cost_per_million_requests,
        "error_rate": None if record.latency.error_rate is None else 100 * record.latency.error_rate,
        "cpu_cores_used": record.use.cpu_cores_used,
        "memory_mib": None if record.use.memory_peak_bytes is None else record.use.memory_peak_bytes / 2**20,
        "gpu_percent": None if record.use.gpu_utilization is None else 100 * record.use.gpu_utilization,
        "wall_s": None if (record.timing.wall_s or 0.0) < _MIN_S else record.timing.wall_s,
        "bottleneck": record.bottleneck or "",
        "reason": visible(record.reason or " ".join(record.notes)),
    }


def _cell(value: object) -> object:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else visible(given(value))


def trial(study: StudySummary, record: TrialRecord, evidence: TrialEvidence) -> list[Any]:
    """One trial: what it was, its probes, its log's end, its use of resources."""
    latest = study.latest(record)
    where = seen(latest, study.percentiles) or ""
    facts = [
        ("capacity", f"{figure(latest.capacity_qps.value)} requests/s" if latest.capacity_qps else NONE),
        ("95% interval", interval(latest.capacity_qps) or NONE),
        *((f"{one.name} {where}".rstrip(), one.text(latest)) for one in study.percentiles),
        ("cold start", duration(latest.timing.cold_start_s)),
        ("memory at most", size(latest.use.memory_peak_bytes)),
        ("throttled", share(latest.use.throttled_share)),
        ("bottleneck", latest.bottleneck or NONE),
        (
            "others used of its cores",
            NONE if latest.machine is None else f"{figure(latest.machine.others_cores)} cores",
        ),
    ]
    times = high_percentiles(study.question.slo.limited, evidence.probes)
    probes = [
        (
            figure(one.rate_qps), one.verdict, str(one.requests), str(one.misses), str(one.errors),
            milliseconds(one.p50_ms), *(time.text_among(one) for time in times), duration(one.duration_s),
            one.reason or one.disturbed,
        )
        for one in evidence.probes
    ]  # fmt: skip
    shown: list[Any] = [
        html.H2(f"Trial {record.number}: {visible(assigned(record.configuration))}"),
        html.P(visible(latest.reason or f"{latest.state}."), className="soft"),
        html.Dl([html.Div([html.Dt(value), html.Dd(name)]) for name, value in facts], className="figures small"),
        html.Div(_pictures(study, latest, evidence), className="pictures"),
    ]
    if (services := services_table(latest.services, study.question.slo.limited)) is not None:
        shown += [html.H3("The services beside each other"), table(services.headings, [r.cells for r in services.rows])]
    if probes:
        shown_times = (time.name for time in times)
        headings = ("requests/s", "verdict", "requests", "missed", "failed", "p50", *shown_times, "took", "")
        shown += [html.H3("Probes"), table(headings, probes)]
    if latest.log_tail:
        shown += [html.H3("The end of its log"), html.Pre(visible(latest.log_tail), tabIndex="0")]
    return shown


def planned(plan: Plan) -> list[Any]:
    """What to run, and what it costs."""
    strategy, as_money = plan.option.strategy, plan_money(plan)
    cost = as_money(strategy.offers[0].monthly) if strategy.offers else NONE
    facts = [
        (cost, f"a month, {strategy.offers[0].name}" if strategy.offers else "no price"),
        (str(strategy.max_replicas), f"replicas at the peak, {figure(strategy.mean)} on average"),
        (share(strategy.miss_share), "of requests late, as simulated"),
    ]
    if strategy.monthly is not None:
        ends = money_between(strategy.monthly.low, strategy.monthly.high, plan.currency, as_money)
        about = f"on demand; {ends} as the capacity is uncertain" if ends else "on demand"
        facts.append((as_money(strategy.monthly.value), about))
    shown: list[Any] = [
        html.P(visible(f"Run {plan.option.words}: {strategy.words}."), className="sentence"),
        html.Dl([html.Div([html.Dt(value), html.Dd(name)]) for value, name in facts], className="figures"),
    ]
    ways = [
        (
            one.name,
            as_money(one.monthly.value if one.monthly else None),
            figure(one.mean),
            share(one.miss_share),
        )
        for one in plan.option.strategies
    ]
    shown.append(table(("way to run it", "a month", "replicas on average", "late"), ways))
    return [*shown, *(html.P(visible(note), className="soft") for note in plan.notes)]


def compared(one: tuple[str, StudySummary], two: tuple[str, StudySummary]) -> html.Div:
    """Two recommendations beside each other."""
    first, second = one[1].recommendation, two[1].recommendation
    mine, theirs = first.configuration or {}, second.configuration or {}
    cells = [(name, given(mine.get(name)), given(theirs.get(name)), "") for name in dict.fromkeys([*mine, *theirs])]
    times = dict.fromkeys((*one[1].percentiles, *two[1].percentiles))
    lines: tuple[tuple[str, Callable[[float | None, str], str], Callable[[Recommendation], Any]], ...] = (
        ("requests/s", lambda value, _: figure(value), lambda best: best.capacity_qps),
        *((time.name, lambda value, _: milliseconds(value), time.of) for time in times),
        ("per hour", money, lambda best: best.cost_per_hour),
        ("per million requests", money, lambda best: best.cost_per_million_requests),
    )
    for title, text, figure_of in lines:
        values = [figure_of(best) for best in (first, second)]
        before, after = (getattr(value, "value", value) for value in values)
        currencies = [study.question.currency for _, study in (one, two)]
        comparable = text is not money or currencies[0] == currencies[1]
        shown = text(before, currencies[0]), text(after, currencies[1])
        cells.append((title, *shown, change(before, after) if comparable else NONE))
    return table(("", visible(one[0]), visible(two[0]), "change"), cells)


def _pictures(study: StudySummary, record: TrialRecord, evidence: TrialEvidence) -> list[html.Figure]:
    """The pictures of one trial that have something to show."""
    shown = []
    if curve := latency_curve(study, record.number, evidence):
        shown.append(_picture("Latency over the arrival rate", figures.latency(curve)))
    if evidence.probes:
        is_any_met = any(one.verdict == "met" for one in evidence.probes)
        title = "Latencies of the fastest probe that held" if is_any_met else "Latencies of the fastest probe"
        shown.append(_picture(title, figures.histogram(_held(evidence), study.question.slo.tail_ms)))
    if evidence.usage:
        shown.append(_picture("Use over time", figures.usage(record, evidence)))
    return shown


def _held(evidence: TrialEvidence) -> Any:
    held = [one for one in evidence.probes if one.verdict == "met"] or list(evidence.probes)
    return max(held, key=lambda one: one.rate_qps, default=None)


def _picture(title: str, picture: figures.Figure) -> html.Figure:
    return html.Figure([html.Figcaption(title), dcc.Graph(figure=picture, config=_GRAPH, style=GRAPH_SIZE)])
