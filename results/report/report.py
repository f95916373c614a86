"""The report of a study: one HTML file that opens offline, and the same in Markdown. One script sorts its tables.

Every text that a template prints goes through its environment's `finalize`, so that a template cannot forget to make
hostile text harmless; markup is escaped besides, by autoescape in HTML and by `markdown` in Markdown.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.files import write_text
from results.report.chain import chain_picture
from results.report.findings import findings
from results.report.listing import (
    alternatives_table,
    comparison_table,
    confirmations_table,
    services_table,
    trials_table,
)
from results.report.pictures import (
    cost_over_capacity,
    cost_over_p99,
    importance_bars,
    latency_picture,
    search_picture,
    surface_picture,
)
from results.report.settling import settlings
from results.series import progress, recommended_curve, total_spent
from results.summary import StudySummary
from results.text import (
    NONE,
    assigned,
    better_by,
    between,
    counted,
    duration,
    figure,
    given,
    interval,
    markdown,
    milliseconds,
    money,
    money_between,
    probability,
    seen_at,
    share,
    visible,
)
from results.trial_parts import Estimate

if TYPE_CHECKING:
    from jinja2 import Environment


_NEAR = 0.05  # a regret that nobody would search on for
# The report's only script; its hash is all that the page's policy lets run.
_SORT = (Path(__file__).parent / "templates" / "sort.js").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class Highlight:
    """A figure of the recommendation: `$0.164`, `per hour`, and how sure it is."""

    value: str
    meaning: str
    note: str | None = None


def write_report(folder: Path, summary: StudySummary) -> None:
    """`report.html` and `report.md`. Raises OSError when they cannot be written."""
    curve = recommended_curve(summary)
    values: dict[str, Any] = {
        "study": summary,
        "none_text": NONE,
        "best": summary.recommendation,
        "question": question(summary),
        "verdict": verdict(summary),
        "highlights": highlights(summary),
        "comparison": comparison_table(summary),
        "today": _today(summary),
        "alternatives": alternatives_table(summary),
        "services": services_table(summary.recommendation.services, summary.question.slo.limited),
        "chain": chain_picture(summary.recommendation.chain),
        "sentence": sentence(summary),
        "findings": findings(summary),
        "cost_over_p99": cost_over_p99(summary),
        "cost_over_capacity": cost_over_capacity(summary),
        "latency": None if curve is None else (latency_picture(curve), curve),
        "search": search_picture(summary),
        "search_words": _search(summary),
        "importance": importance_bars(summary),
        "surface": surface_picture(summary),
        "sort_script": _SORT,
        "sort_hash": base64.b64encode(hashlib.sha256(_SORT.encode()).digest()).decode(),
        "trials": trials_table(summary),
        "settlings": settlings(summary),
        "confirmations": confirmations_table(summary),
        "provenance": _provenance(summary),
    }
    for name in ("report.html", "report.md"):
        text = template_environment(html=name.endswith(".html")).get_template(f"{name}.j2").render(values)
        write_text(folder / name, text, private=True)  # the ends of servers' logs stand in it


@cache
def template_environment(*, html: bool) -> Environment:
    """Templates whose every text is made harmless: for HTML and SVG, or for Markdown. Each is compiled once."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def harmless(value: Any) -> Any:
        if value is None:
            return NONE
        if isinstance(value, Markup):  # what a macro of ours has made out of texts that came through here
            return value
        if not isinstance(value, str):
            return value
        return visible(value) if html else markdown(value)

    environment = Environment(
        loader=PackageLoader("results.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, finalize=harmless, autoescape=html,  # noqa: S701 (Markdown has `markdown` instead)
    )  # fmt: skip
    environment.filters["given"] = given
    return environment


def sentence(study: StudySummary) -> str | None:
    """The recommendation in one sentence: what, how much, for how much money, how sure."""
    best = study.recommendation
    if best.configuration is None or best.capacity_qps is None:
        return None
    sure = interval(best.capacity_qps)
    slo = study.question.slo.texts
    within = f" within {' and '.join(slo)}" if slo else ""
    start = {"keep": "Keep", "uncertain": "Perhaps"}.get(best.decision or "", "Deploy")
    parts = [f"{start} {assigned(best.configuration)}: it holds {figure(best.capacity_qps.value)} requests/s{within}"]
    if sure:
        parts.append(f" (95% sure of {sure})")
    if best.cost_per_hour is not None:
        parts.append(f", for {money(best.cost_per_hour, study.question.currency)} an hour")
    if best.cost_per_million_requests is not None:
        parts.append(f", {money(best.cost_per_million_requests, study.question.currency)} per million requests")
    return "".join(parts) + "."


def _search(study: StudySummary) -> str:
    """How long it took, and what the servers cost meanwhile."""
    seconds, spent = total_spent(study)
    text = f"{duration(seconds)} of measuring" if seconds else "No time was measured"
    if spent:
        text += f", {money(spent, study.question.currency)} at the servers' prices"
    steps = progress(study)
    final = steps[-1].best if steps else None
    near = [one.trial for one in steps if final and one.best and abs(one.best / final - 1) <= _NEAR]
    better = [one.trial for one in steps if one.value is not None and one.value == one.best]
    if near and better:
        text += f"; within 5% of the best found from trial {near[0]} on, found in trial {better[-1]}"
        if better[-1] != study.recommendation.trial and study.launches.confirmations:
            text += ", by the first launch of each"  # all launches together may say another
    return f"{text}."


def question(study: StudySummary) -> str:
    """What was asked, in one line."""
    question = study.question
    within = f", within {' and '.join(question.slo.texts)}" if question.slo.texts else ""
    space = counted(question.space_size, "valid configuration")
    return f"{question.objective}{within}; {counted(len(study.records), 'trial')} of {space}"


def verdict(study: StudySummary) -> tuple[str, str]:
    """What to do, as a word for its colour, and the sentence. Green is for what is sure enough to deploy alone."""
    best, metric = study.recommendation, study.question.metrics[0]
    if best.configuration is None:
        return "bad", best.trials.why_nothing
    if not best.meets_slo:
        return "bad", "It does not meet the SLO"
    if best.decision == "keep":
        return "fair", "Keep what you have: nothing measured is surely better"
    if not best.confirmed:
        return "fair", "Not confirmed: measured once only"
    saving, near = best.saving, probability(best.probability_near_best)
    among = "the best of what was measured, or within 2% of it"
    if best.decision == "deploy":
        if saving is not None:
            sure = f" ({between(metric, saving)})" if saving.low < saving.high else ""
            return "good", f"Deploy: {better_by(metric, saving.value)} than today{sure}"
        return "good", f"Deploy: {best.trials.only_one or f'with a probability of {near} {among}'}"
    if best.decision == "uncertain":
        if saving is not None:
            return "fair", f"Uncertain: {between(metric, saving)} than today"
        return "fair", f"Uncertain: {best.trials.only_one or f'{among}, with a probability of {near}'}"
    return "fair", "Measured again on a fresh launch"


def highlights(study: StudySummary) -> list[Highlight]:
    """The recommendation's figures; none where there is none."""
    best = study.recommendation
    if best.configuration is None:
        return []
    held_qps = best.capacity_qps.value if best.capacity_qps else None
    shown = [Highlight(figure(held_qps), "requests/s within the SLO", _sure(best.capacity_qps))]
    shown += [
        Highlight(milliseconds(found.value), f"{time.name} {_at_rate(study)}", _sure(found))
        for time in study.percentiles
        if (found := time.of(best)) is not None
    ]
    if best.error_rate is not None:
        shown.append(Highlight(share(best.error_rate), "of requests failed"))
    if best.cost_per_hour is not None:
        shown.append(Highlight(money(best.cost_per_hour, study.question.currency), "per hour and container"))
    if best.cost_per_million_requests is not None:
        million = money(best.cost_per_million_requests, study.question.currency)
        shown.append(Highlight(million, "per million requests", _cost_sure(study)))
    return shown


def _at_rate(study: StudySummary) -> str:
    """At which rate, and from how many requests, the latencies were measured: the highest rate that held, below the
    capacity.
    """
    number, latency = study.recommendation.trial, study.recommendation.latency
    if seen := seen_at(latency.latencies_at_qps, latency.latencies_from_requests):
        return seen
    evidence = None if number is None else study.evidence.get(number)
    held = [one for one in evidence.probes if one.verdict == "met"] if evidence else []
    if not held:
        return "at the highest rate that held"
    probe = max(held, key=lambda one: one.rate_qps)
    return seen_at(probe.rate_qps, probe.requests) or ""


def _cost_sure(study: StudySummary) -> str | None:
    """The cost's interval, which is the capacity's turned round."""
    best = study.recommendation
    capacity, cost = best.capacity_qps, best.cost_per_million_requests
    if capacity is None or cost is None or not 0 < capacity.low < capacity.high:
        return None
    low, high = (cost * capacity.value / end for end in (capacity.high, capacity.low))
    ends = money_between(low, high, study.question.currency)
    return f"95% interval {ends}" if ends else None


def _sure(estimate: Estimate | None) -> str | None:
    ends = interval(estimate)
    return None if ends is None else f"95% interval {ends}"


def _today(study: StudySummary) -> str | None:
    """What is to be said about the current configuration besides, or in place of, the comparison."""
    if study.current is None:
        return None
    today = study.latest(study.current)
    if study.current.number == study.recommendation.trial:
        return "The recommendation is the current configuration: nothing measured is surely better."
    if today.state != "complete":
        return f"The current configuration (trial {today.number}) is {today.state}: {today.reason or 'no reason known'}"
    return None


def _provenance(study: StudySummary) -> dict[str, str]:
    """When the study was run, then whatever else it recorded about its origin."""
    times = {"started": study.provenance.get("started"), "ended": study.progress.ended or study.provenance.get("ended")}
    others = {name: value for name, value in study.provenance.items() if name not in times}
    best = next((study.latest(one) for one in study.records if one.number == study.recommendation.trial), None)
    image = {"image": best.server.image} if best is not None and best.server.image else {}
    return {name: value for name, value in times.items() if value} | image | others
