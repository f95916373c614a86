"""A study as a table that others can replay: `table.csv`, its data sheet, and a spec. None of them says whose study
it is.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results import StudySummary, TrialRecord
from results.exports.documents import to_yaml
from results.text import given
from search_spaces.masking import masked
from tuner.errors import UsageError
from tuner.outcome.anonymous import Pseudonyms
from tuner.search.objective import undecided
from tuner.spec.reading import LoadedSpec

FORMAT = "tune-table/1"
_MEASURED = ("processor", "cpu cores", "gpus", "driver", "tune-inference", "locust")  # of where it was measured
_COLUMNS = {
    "status": "ok, oom (out of memory) or failed",
    "capacity_qps": "requests per second within the SLO; 0: it cannot serve within it",
    "capacity_low_qps": "lower end of the 95% interval of capacity_qps",
    "capacity_high_qps": "upper end of the 95% interval of capacity_qps",
    "saturated_qps": "requests per second at full load, whatever the latency",
    "p99_ms": "99th percentile of latency at about the capacity, in milliseconds",
    "price_per_hour": "price of one replica per hour",
    "trial_s": "how long the trial took, in seconds",
    "launches": "how many launches the row rests on",
}
_REPLAYABLE = frozenset({"cost_per_million_requests", "capacity_qps", "p99_ms"})  # target_qps would tell your traffic
_OUT_OF_MEMORY = ("out of memory", "OOMKilled")
_ALWAYS_LEFT_OUT = (
    "the service's name, its command, environment, files, model and image", "requests and their data set",
    "reasons and ends of logs", "the host's name, its operating system, users and the paths of files",
)  # fmt: skip


@dataclass(frozen=True)
class Sharing:
    """How a study is to be published: under which licence (SPDX), what it says about itself, which parameters' texts
    stay, and whether prices do.
    """

    licence: str
    about: str = ""
    keep: frozenset[str] = frozenset()
    prices: bool = False


@dataclass(frozen=True)
class SharedTable:
    """The files by name, how many rows there are, and what was left out or changed, in sentences."""

    files: Mapping[str, str]
    rows: int
    left_out: tuple[str, ...]


def share(summary: StudySummary, loaded: LoadedSpec, sharing: Sharing) -> SharedTable:
    """Make the files. Raises UsageError if the study has nothing that a table could hold."""
    if loaded.colocated:
        raise UsageError("a table holds one service; this study has several")
    if unknown := sharing.keep - set(loaded.space.names):
        raise UsageError(f"`keep` {min(unknown)}: no parameter is called so: {', '.join(loaded.space.names)}")
    records = [summary.latest(one) for one in summary.records if _is_known(one, loaded)]
    if not any(one.state == "complete" and one.capacity_qps is not None for one in records):
        raise UsageError("no trial of this study was measured to its end: there is nothing to share")
    scale = 1.0 if sharing.prices else _scale(records)
    names = Pseudonyms(sharing.keep)
    rows = [_row(one, loaded, names, scale, summary) for one in records]
    prices = summary.question.currency if sharing.prices else "relative: the cheapest is 1" if scale else "none"
    left_out = (*_ALWAYS_LEFT_OUT, *_changes(summary, loaded, records, names, prices))
    sheet = {
        "format": FORMAT,
        "about": masked(sharing.about) or f"Trials of {loaded.spec.service.server} under load",
        "licence": sharing.licence,
        "measured": _where(summary, loaded),
        "slo": list(loaded.slo_texts),
        "objective": list(summary.question.metrics),
        "prices": prices,
        "columns": {one.name: f"parameter{f' ({one.role})' if one.role else ''}" for one in loaded.space.parameters}
        | {name: about for name, about in _COLUMNS.items() if any(row.get(name) not in (None, "") for row in rows)},
        "rows": dict(Counter(str(row["status"]) for row in rows)),
        "left_out": list(left_out),
    }
    files = {
        "table.csv": _csv(rows),
        "sheet.yaml": to_yaml([sheet], f"The data sheet of table.csv, in the format {FORMAT}."),
        "spec.yaml": to_yaml([_spec(loaded, names, rows)], "Replays table.csv: tune --service spec.yaml"),
    }
    return SharedTable(files, len(rows), left_out)


def _is_known(record: TrialRecord, loaded: LoadedSpec) -> bool:
    """Whether a trial's result can stand in a table. A pruned trial has only a bound, for which a table has no place;
    one that was too short to tell, or that this machine refused to launch, has nothing.
    """
    if record.state == "pruned" or undecided(record) or loaded.space.why_invalid(record.configuration) is not None:
        return False
    tried = (
        record.timing.launch_s is not None or _out_of_memory(record) or "as the table records" in (record.reason or "")
    )
    return record.state != "infeasible" or tried


def _out_of_memory(record: TrialRecord) -> bool:
    return record.state == "infeasible" and any(words in (record.reason or "") for words in _OUT_OF_MEMORY)


def _scale(records: Sequence[TrialRecord]) -> float:
    """The factor for prices by which the cheapest configuration costs 1; 0 if nothing has a price."""
    prices = [one.cost_per_hour for one in records if one.cost_per_hour]
    return 1 / min(prices) if prices else 0.0


def _row(
    record: TrialRecord, loaded: LoadedSpec, names: Pseudonyms, scale: float, summary: StudySummary
) -> dict[str, Any]:
    capacity = record.capacity_qps if record.state == "complete" else None
    status = "failed" if record.state == "failed" else "oom" if _out_of_memory(record) else "ok"
    price = record.cost_per_hour
    return names.configuration(loaded.space.parameters, record.configuration) | {
        "status": status,
        "capacity_qps": 0.0 if capacity is None else capacity.value,
        "capacity_low_qps": None if capacity is None else capacity.low,
        "capacity_high_qps": None if capacity is None else capacity.high,
        "saturated_qps": record.saturated_qps if capacity is not None else None,
        "p99_ms": None if record.latency.p99_ms is None else record.latency.p99_ms.value,
        "price_per_hour": price * scale if price and scale else None,
        "trial_s": record.timing.took_s or None,
        "launches": 1 + len(summary.launches.confirmations.get(record.number, ())),
    }


def _changes(
    summary: StudySummary, loaded: LoadedSpec, records: Sequence[TrialRecord], names: Pseudonyms, prices: str
) -> list[str]:  # fmt: skip
    found = [
        f"{len(values)} text{'s' if len(values) > 1 else ''} of {name}, which may name something of yours: they are "
        f"{name}-1 and so on"
        for name, values in names.replaced.items()
    ]
    if set(loaded.spec.objective.metrics) - _REPLAYABLE:
        found.append("the objective, for which a table has no column or which says your traffic")
    if prices.startswith("relative"):
        found.append("prices and their currency: the cheapest configuration costs 1 per hour, the others in proportion")
    if gone := len(summary.records) - len(records):
        trials = "1 trial that was" if gone == 1 else f"{gone} trials that were"
        found.append(f"{trials} pruned, too short to tell or not launched, of which too little is known")
    return found


def _where(summary: StudySummary, loaded: LoadedSpec) -> dict[str, Any]:
    if not loaded.spec.runner.launches:
        return {"runner": "replay", "note": "taken from another table, whose sheet says where it was measured"}
    known = {name: summary.provenance[name] for name in _MEASURED if summary.provenance.get(name)}
    return {
        "date": summary.provenance.get("started", "")[:10],
        **{name.replace(" ", "_").replace("-", "_"): masked(value) for name, value in known.items()},
        "server": loaded.spec.service.server,
        "runner": loaded.spec.runner.type,
        "load": f"open loop, {loaded.spec.load.arrivals} arrivals, latency from when a request was due",
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row[name] is None else _cell(row[name]) for name in columns])
    return file.getvalue()


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) and not value.is_integer() else given(value)


def _spec(loaded: LoadedSpec, names: Pseudonyms, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spec of the table, with only the values that were measured: no other can be replayed."""
    parameters: dict[str, Any] = {}
    for one in loaded.space.parameters:
        measured = [names.value(one, value) for value in one.choices if not isinstance(one.choices, range)]
        measured = [value for value in measured or one.choices if any(row[one.name] == value for row in rows)]
        parameters[one.name] = {"choices": measured} | ({"role": one.role} if one.role else {})
    space = loaded.space
    constraints = [one.text for one in space.constraints if names.may_publish(one, space.parameters)]
    objective = loaded.content.get("objective")
    replayable = isinstance(objective, dict) and set(loaded.spec.objective.metrics) <= _REPLAYABLE
    limit = loaded.tail_limit
    current = loaded.spec.current
    shown = None if current is None else names.configuration(loaded.space.parameters, current)
    found: dict[str, Any] = {"version": 1, "service": {"name": "shared"}}
    if limit is not None and limit.percentile == 99:
        found["slo"] = {"p99": f"{limit.limit_s * 1e3:g}ms"}
    found["objective"] = objective if replayable else {"minimize": "cost_per_million_requests"}
    found["space"] = {"parameters": parameters} | ({"constraints": constraints} if constraints else {})
    found["runner"] = {"type": "replay", "table": "table.csv"}
    if shown is not None and any(all(row[name] == shown[name] for name in shown) for row in rows):
        found["current"] = shown
    return found
