"""Trials as cards with their figures, for screens without room for a table; and all trials as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from dash import html

from results.percentiles import Percentile, seen
from results.records import TrialRecord
from results.summary import StudySummary
from results.tables import trials_csv
from results.text import NONE, assigned, figure, interval, money, share, visible
from results.trial_parts import Estimate, LanguageRecord

_TTFT = Percentile("ttft", 99)
_MAX = 60  # cards; a phone shows the best of more


def trial_cards(study: StudySummary, states: Sequence[str]) -> list[Any]:
    """The recommended one first, then by the objective; those without a figure last, by their number."""
    known = [record for record in map(study.latest, study.records) if record.state in states]
    known.sort(key=lambda one: (one.number != study.recommendation.trial, _loss(study, one), one.number))
    shown: list[Any] = [_card(study, record) for record in known[:_MAX]]
    rest = len(known) - _MAX
    return (
        [*shown, html.P(f"and {rest} more; a wider window shows them in a table", className="soft")]
        if rest > 0
        else shown
    )


def _energy(tokens: LanguageRecord | None) -> str | None:
    known = None if tokens is None else tokens.energy_per_million_output_tokens
    return None if known is None else figure(known)


def _loss(study: StudySummary, one: TrialRecord) -> float:
    """The trial's loss by the objective, from all launches together: lower is better, infinite if there is none."""
    value = one.value_of(study.question.metrics[0]) if one.state == "complete" else None
    value = value.value if isinstance(value, Estimate) else study.values.get(one.number) if value is None else value
    return math.inf if value is None else -value if study.question.maximised else value


def _card(study: StudySummary, one: TrialRecord) -> html.Article:
    best = one.number == study.recommendation.trial
    shown = study.percentiles
    times = shown if _TTFT in shown else (*shown, _TTFT)
    where = seen(one, shown) or ""
    cost, tokens = one.cost_per_million_requests, one.language
    figures = [
        ("requests/s", figure(one.capacity_qps.value) if one.capacity_qps else None),
        ("95% interval", interval(one.capacity_qps)),
        *((f"{time.name} {where}".rstrip() if time in shown else time.name, time.text(one)) for time in times),
        ("good", share(tokens.good) if tokens and tokens.good is not None else None),
        ("Wh per million output tokens", _energy(tokens)),
        ("per million", money(cost, study.question.currency) if cost else None),
    ]  # fmt: skip
    items = [html.Div([html.Dd(name), html.Dt(text)]) for name, text in figures if text and text != NONE]
    return html.Article(
        [
            html.H3(f"Trial {one.number}: {one.state}" + (", recommended" if best else "")),
            *([html.Dl(items, className="figures small")] if items else []),
            html.P(visible(assigned(one.configuration))),
            *([html.P(visible(one.reason), className="soft")] if one.reason else []),
        ],
        className="card best" if best else "card",
    )


def trials_text(study: StudySummary, kind: str) -> str:
    """`csv`, as `trials.csv` has it, or `json`: every record whole."""
    if kind == "csv":
        return trials_csv(study.records, study.question.parameters)
    return json.dumps([one.model_dump(mode="json") for one in study.records], indent=1) + "\n"
