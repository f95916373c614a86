"""A study as a notebook shows it: the recommendation, and the best trials, as a small HTML table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from results.percentiles import Percentile
from results.records import Recommendation, TrialRecord
from results.summary import StudySummary
from results.text import assigned, figure, interval, visible

_MAX_ROWS = 8


def study_html(study: StudySummary) -> str:
    """Text of the spec and of servers is escaped; nothing in it runs or is fetched."""
    best = study.recommendation
    title = f"{best.trials.why_nothing}." if best.configuration is None else assigned(best.configuration)
    known = [record for record in map(study.latest, study.records) if record.number in study.values]
    ranked = sorted(known, key=lambda record: study.values[record.number], reverse=study.question.maximised)
    shown = study.percentiles
    times = [f"{one.name}, ms" for one in shown]
    head = ("configuration", "capacity, requests/s", "95% interval", *times, "cost per million requests")
    rows = [head, *(_cells(record, shown) for record in ranked[:_MAX_ROWS])]
    table = "".join(
        f"<tr>{''.join(f'<{tag}>{escape(visible(cell))}</{tag}>' for cell in row)}</tr>"
        for row, tag in zip(rows, ("th", *["td"] * len(ranked)), strict=False)
    )
    return (
        f"<p><strong>{escape(visible(study.service))}</strong>: {escape(visible(title))}</p>"
        f"<p>{escape(visible(_first_reason(best)))}</p><table>{table}</table>"
    )


def _first_reason(best: Recommendation) -> str:
    return best.reasons[0] if best.reasons else ""


def _cells(record: TrialRecord, shown: Sequence[Percentile]) -> tuple[str, ...]:
    capacity = record.capacity_qps
    return (
        assigned(record.configuration),
        figure(None if capacity is None else capacity.value),
        interval(capacity) or "",
        *(figure(None if found is None else found.value) for found in (one.of(record) for one in shown)),
        figure(record.cost_per_million_requests),
    )
