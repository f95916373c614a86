"""The report's tables, built once as text, so that HTML and Markdown cannot differ.

A new column is one line here; a column in which no trial has anything to show is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from results.percentiles import Percentile, Timed, high_percentiles, names, seen
from results.records import Choice, TrialRecord
from results.summary import StudySummary
from results.text import (
    NONE,
    change,
    duration,
    energy,
    figure,
    given,
    goodput,
    interval,
    milliseconds,
    money,
    seen_at,
    share,
    size,
)
from results.trial_parts import (
    Estimate,
    ParameterValue,
    ServiceRecord,
)

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
_MIN_S = 0.05
_SAME_RATE = 1.1  # latencies at rates that differ by no more can be compared
Mark = Literal["", "recommended", "current"]


class TrialOrChoice(Timed, Protocol):
    """What a trial and a choice have in common."""

    @property
    def configuration(self) -> Mapping[str, ParameterValue]:
        """A value per parameter."""

    @property
    def capacity_qps(self) -> Estimate | None:
        """Requests per second within the SLO."""

    @property
    def cost_per_hour(self) -> float | None:
        """Money for one container."""

    @property
    def cost_per_million_requests(self) -> float | None:
        """Money at full load."""


@dataclass(frozen=True)
class Column(Generic[T_contra]):
    """A heading, and the text of its cell for one row's thing. Numbers are aligned to the right."""

    title: str
    text: Callable[[T_contra], str]
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """Cells in the table's order. Under the row stand `reason`, why it ended as it did, and `facts` besides; `detail`
    is text to unfold, such as the end of a log.
    """

    cells: tuple[str, ...]
    mark: Mark = ""
    detail: str | None = None
    reason: str | None = None
    facts: str | None = None


@dataclass(frozen=True)
class Table:
    """`numeric` says per column whether it holds numbers."""

    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[Row, ...]

    @property
    def grouped(self) -> bool:
        """Whether something stands under a row."""
        return any(row.reason or row.facts or row.detail for row in self.rows)


def trials_table(study: StudySummary) -> Table:
    """Every trial, as it was first measured; beside its capacity that which all launches make one believe of it."""
    best, current = study.recommendation.trial, study.current.number if study.current else None
    shown = study.percentiles
    columns: list[Column[TrialRecord]] = [
        Column("trial", lambda one: str(one.number)),
        Column("state", lambda one: _state(one, best, current), numeric=False),
        Column("requests/s", _capacity_or_bound),
        Column("95% interval", lambda one: interval(one.capacity_qps) or NONE),
        Column("all launches", lambda one: _pooled(study, one)),
        Column("launches", lambda one: _launches(study, one)),
        *_latency_and_money(study),
        Column("errors", lambda one: share(one.latency.error_rate)),
        *_parameters(study),
    ]
    return _table(
        columns, study.records,
        mark=lambda one: "recommended" if one.number == best else "current" if one.number == current else "",
        detail=lambda one: one.log_tail, reason=lambda one: one.reason or " ".join(one.notes) or None,
        facts=lambda one: _facts(one, shown),
    )  # fmt: skip


def _of_tokens(trial: TrialRecord, shown: Sequence[Percentile]) -> list[tuple[str, str]]:
    """The times of tokens that have no column, and the rest."""
    one = trial.language
    if one is None:
        return []
    times = (Percentile("ttft", 99), Percentile("tpot", 99), Percentile("itl", 99))
    return [
        *((f"{time.name} {{}}", time.text(trial)) for time in times if time not in shown),
        ("{} output tokens/s", figure(one.output_tokens_per_second)),
        ("{} of them per user", figure(one.tokens_per_second_per_user)),
        ("{}", goodput(one.good, one.good_of) or NONE),
        ("{}", energy(one.energy_per_million_output_tokens) or NONE),
        ("{} of the prompts cached", share(one.prefix_cache_hit_rate)),
    ]


def _facts(one: TrialRecord, percentiles: Sequence[Percentile]) -> str | None:
    """Further figures of a trial, for the line under its row."""
    shown = [
        (f"{names(percentiles)} {{}}", seen(one, percentiles) or NONE),
        ("bottleneck {}", one.bottleneck or NONE),
        ("{} cores used", figure(one.use.cpu_cores_used, 2)),
        ("{} of memory", size(one.use.memory_peak_bytes)),
        ("GPU {} busy", share(one.use.gpu_utilization)),
        ("{} of GPU memory", size(one.use.gpu_memory_peak_bytes)),
        *_of_tokens(one, percentiles),
        ("ready after {}", _lasted(one.timing.cold_start_s)),
        ("took {}", _lasted(one.timing.wall_s)),
    ]
    return " \N{MIDDLE DOT} ".join(words.format(text) for words, text in shown if text != NONE) or None


def _lasted(seconds: float | None) -> str:
    """How long the trial took, if long enough to mention: a replayed trial takes no time."""
    return NONE if seconds is None or seconds < _MIN_S else duration(seconds)


def alternatives_table(study: StudySummary) -> Table | None:
    """The recommendation and the rest of the Pareto front; None where there is no rest."""
    chosen = study.chosen
    if chosen is None or not study.recommendation.alternatives:
        return None
    cost = chosen.cost_per_million_requests
    columns: list[Column[Choice]] = [
        Column("requests/s", lambda one: figure(one.capacity_qps.value)),
        Column("95% interval", lambda one: interval(one.capacity_qps) or NONE),
        *_latency_and_money(study),
        Column("cost against it", lambda one: NONE if one is chosen else change(cost, one.cost_per_million_requests)),
        Column("confirmed", lambda one: "yes" if one.confirmed else "no", numeric=False),
        Column("launches", lambda one: str(one.launches)),
        Column("trial", lambda one: str(one.trial)),
        *_parameters(study),
    ]
    choices = [chosen, *study.recommendation.alternatives]
    return _table(columns, choices, mark=lambda one: "recommended" if one is chosen else "")


def confirmations_table(study: StudySummary) -> Table | None:
    """Further launches beside the first; None where there are none."""
    firsts = {record.number: record for record in study.records}
    launches = [one for number in sorted(study.launches.confirmations) for one in study.launches.confirmations[number]]
    best = study.recommendation.trial
    columns: list[Column[TrialRecord]] = [
        Column("trial", lambda one: str(one.number)),
        Column("state", lambda one: one.state, numeric=False),
        Column("requests/s at first", lambda one: _capacity(firsts.get(one.number))),
        Column("again", _capacity),
        Column("95% interval", lambda one: interval(one.capacity_qps) or NONE),
        *_times(study),
        Column("errors", lambda one: share(one.latency.error_rate)),
        Column("reason", lambda one: one.reason or " ".join(one.notes) or NONE, numeric=False),
    ]
    if not launches:
        return None
    return _table(columns, launches, mark=lambda one: "recommended" if one.number == best else "")


def services_table(services: Sequence[ServiceRecord], limited: Sequence[Percentile]) -> Table | None:
    """Each of several services at the rate that all hold together; None where there is one. The p50 is shown, and what
    the SLO of any of them limits.
    """
    columns: list[Column[ServiceRecord]] = [
        Column("service", lambda one: one.name, numeric=False),
        Column("share", lambda one: "best effort" if one.best_effort else share(one.share)),
        Column("requests/s together", lambda one: figure(_together_qps(one))),
        Column("alone", lambda one: figure(one.alone_qps.value if one.alone_qps else None)),
        Column("95% interval", lambda one: interval(one.alone_qps) or NONE),
        Column("p50", lambda one: milliseconds(one.p50_ms)),
        *(Column(one.name, one.text_among) for one in high_percentiles(limited, services)),
        Column("errors", lambda one: share(one.error_rate)),
        Column("cores used", lambda one: figure(one.cpu_cores_used, 2)),
        Column("memory", lambda one: size(one.memory_peak_bytes)),
        Column("bottleneck", lambda one: one.bottleneck or NONE, numeric=False),
    ]
    return _table(columns, services, mark=lambda _: "") if services else None


def _together_qps(one: ServiceRecord) -> float | None:
    """A service's rate beside the others. A best-effort service has no capacity, so it is what the service answers."""
    if one.best_effort:
        return one.throughput_qps.value if one.throughput_qps else None
    return one.capacity_qps


def comparison_table(study: StudySummary) -> Table | None:
    """The recommendation against what is deployed today; None where either is missing or they are the same."""
    chosen = study.chosen
    if chosen is None or study.current is None or study.current.number == chosen.trial:
        return None
    today = study.latest(study.current)
    rows = [
        (name, given(today.configuration.get(name)), given(chosen.configuration.get(name)), "")
        for name in study.question.parameters
        if today.configuration.get(name) != chosen.configuration.get(name)
    ]

    def number(title: str, text: Callable[[float | None], str], value: Callable[[TrialOrChoice], float | None]) -> None:
        before, after = value(today), value(chosen)
        if before is not None or after is not None:
            rows.append((title, text(before), text(after), change(before, after)))

    number("requests/s", figure, lambda one: one.capacity_qps.value if one.capacity_qps else None)
    rows += [
        (f"{time.name} at the highest rate that held", *_both(time, today, chosen))
        for time in study.percentiles
        if time.of(today) is not None or time.of(chosen) is not None
    ]
    number("errors", share, lambda one: one.latency.error_rate)
    number("cost per hour", lambda value: money(value, study.question.currency), lambda one: one.cost_per_hour)
    number(
        "cost per million requests", lambda value: money(value, study.question.currency),
        lambda one: one.cost_per_million_requests,
    )  # fmt: skip
    return Table(("", "today", "recommended", "change"), (False, True, True, True), tuple(Row(row) for row in rows))


def _both(time: Percentile, today: TrialOrChoice, chosen: TrialOrChoice) -> tuple[str, str, str]:
    """Both and their difference. A latency at a much higher rate is no worse for being longer, so they are not
    compared.
    """
    found = [time.of(one) for one in (today, chosen)]
    ends = [None if one is None else one.value for one in found]
    rates = [one.latency.latencies_at_qps for one in (today, chosen)]
    shown = [
        " ".join(filter(None, (milliseconds(end), None if end is None else seen_at(rate, None))))
        for end, rate in zip(ends, rates, strict=True)
    ]
    known = [rate for rate in rates if rate]
    alike = len(known) < len(rates) or max(known) <= _SAME_RATE * min(known)
    return shown[0], shown[1], change(*ends) if alike else "at other rates"


def _parameters(study: StudySummary) -> list[Column[TrialOrChoice]]:
    def column(name: str) -> Column[TrialOrChoice]:
        values = [record.configuration.get(name) for record in study.records]
        numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        return Column(name, lambda one: given(one.configuration.get(name)), numeric)

    return [column(name) for name in study.question.parameters]


def _latency_and_money(study: StudySummary) -> list[Column[TrialOrChoice]]:
    return [
        *_times(study),
        Column("per hour", lambda one: money(one.cost_per_hour, study.question.currency)),
        Column("per million", lambda one: money(one.cost_per_million_requests, study.question.currency)),
    ]


def _times(study: StudySummary) -> list[Column[TrialOrChoice]]:
    return [Column(one.name, one.text) for one in study.percentiles]


def _table(
    columns: Sequence[Column[T]], things: Sequence[T], mark: Callable[[T], Mark],
    detail: Callable[[T], str | None] = lambda _: None, reason: Callable[[T], str | None] = lambda _: None,
    facts: Callable[[T], str | None] = lambda _: None,
) -> Table:  # fmt: skip
    cells = [[column.text(thing) for thing in things] for column in columns]
    shown = [index for index, column in enumerate(cells) if any(text != NONE for text in column)]
    return Table(
        headings=tuple(columns[index].title for index in shown),
        numeric=tuple(columns[index].numeric for index in shown),
        rows=tuple(
            Row(tuple(cells[index][row] for index in shown), mark(thing), detail(thing), reason(thing), facts(thing))
            for row, thing in enumerate(things)
        ),
    )


def _state(record: TrialRecord, best: int | None, current: int | None) -> str:
    marks = [text for text, number in (("recommended", best), ("current", current)) if number == record.number]
    return ", ".join([record.state, *marks])


def _capacity(record: TrialRecord | None) -> str:
    return figure(record.capacity_qps.value if record and record.capacity_qps else None)


def _pooled(study: StudySummary, record: TrialRecord) -> str:
    """The capacity and its interval by all launches together; a dash if the trial's own is taken as it is."""
    known = study.launches.pooled.get(record.number)
    ends = interval(known.capacity_qps) if known else None
    return NONE if ends is None else f"{_capacity(known)} ({ends})"


def _launches(study: StudySummary, record: TrialRecord) -> str:
    launches = len(study.launches.confirmations.get(record.number, ()))
    return str(1 + launches) if launches else NONE


def _capacity_or_bound(record: TrialRecord) -> str:
    if record.capacity_qps is None and record.capacity_bound_qps is not None:
        return f"under {figure(record.capacity_bound_qps)}"
    return _capacity(record)
