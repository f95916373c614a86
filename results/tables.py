"""Trials as tables: a row per trial, in CSV for people and spreadsheets, in Parquet for programs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.files import replacing
from results.machine import machine_speeds, memory_speeds
from results.records import TrialRecord
from results.text import given, visible
from results.trial_parts import Estimate, LanguageRecord, ParameterValue

if TYPE_CHECKING:
    import pandas as pd

_FIGURES = (
    "capacity_qps", "capacity_low_qps", "capacity_high_qps", "capacity_bound_qps", "saturated_qps", "base_latency_ms",
    "at_least_qps", "at_most_qps", "latencies_at_qps", "latencies_from_requests",
    "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_low_ms", "p99_high_ms", "p999_ms", "error_rate", "cost_per_hour",
    "cost_per_million_requests", "cold_start_s", "launch_s", "warmup_s", "load_s", "teardown_s", "wall_s",
    "cpu_cores_used", "gpu_utilization", "throttled_share", "memory_growth_bytes_per_s",
    "server_batch_size", "server_queue_ms", "gpu_power_w", "gpu_clock_mhz", "interference", "best_effort_qps",
)  # fmt: skip
_MACHINE = ("others_cores", "stolen_cores", "elsewhere_cores", "generator_cores_shared")
_TIMES = ("ttft", "tpot", "itl")
_LANGUAGE = (
    *(f"{name}_{percentile}_ms" for name in _TIMES for percentile in ("p50", "p90", "p95", "p99", "p999")),
    *(name for name in LanguageRecord.model_fields if name not in _TIMES),
)
_BYTES = ("memory_peak_bytes", "gpu_memory_peak_bytes")
_TEXTS = ("state", "reason", "bottleneck", "certainty")
# Besides the columns above, those that a replay table gives a meaning to: trials.csv can become one.
RESERVED_COLUMNS = frozenset(
    {
        "number",
        "status",
        "price_per_hour",
        "trial_s",
        "machine_speed",
        "memory_speed",
        "disturbed",
        *_TEXTS,
        *_FIGURES,
        *_MACHINE,
        *_LANGUAGE,
        *_BYTES,
    }
)
# OWASP's list for "CSV injection": what a spreadsheet takes for the start of a formula, full-width forms included.
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def trials_frame(records: Sequence[TrialRecord], parameters: Sequence[str]) -> pd.DataFrame:
    """The contract's columns; a figure that was not measured is missing (NaN or NA), never zero.

    A column has one type: a parameter with choices such as `[1, "auto"]` becomes text. Raises ValueError for a
    parameter named as one of RESERVED_COLUMNS, which would hide that column; the spec refuses it long before.
    """
    import pandas as pd

    if taken := sorted(RESERVED_COLUMNS.intersection(parameters)):
        raise ValueError(f"parameters named as columns of the table: {', '.join(taken)}; name them otherwise")
    rows = [_row(record) for record in records]
    columns: dict[str, Any] = {"number": pd.array([row["number"] for row in rows], dtype="int64")}
    for name in ("state", "reason"):
        columns[name] = pd.array([row[name] for row in rows], dtype="string")
    for name in parameters:
        columns[name] = _parameter_column([record.configuration.get(name) for record in records])
    for name in ("bottleneck", "certainty"):
        columns[name] = pd.array([row[name] for row in rows], dtype="string")
    columns |= {name: pd.Series([row[name] for row in rows], dtype="float64") for name in _FIGURES}
    columns |= {name: pd.array([row[name] for row in rows], dtype="Int64") for name in _BYTES}
    columns |= {
        name: pd.Series([getattr(one.machine, name, None) for one in records], dtype="float64") for name in _MACHINE
    }
    columns["machine_speed"] = pd.Series(machine_speeds(records), dtype="float64")
    columns["memory_speed"] = pd.Series(memory_speeds(records), dtype="float64")
    columns["disturbed"] = pd.array([one.machine.disturbed if one.machine else None for one in records], dtype="string")
    if any(one.language for one in records):
        columns |= {
            name: pd.Series([_of_language(one.language, name) for one in records], dtype="float64")
            for name in _LANGUAGE
        }
    columns |= {name: pd.Series(values, dtype="float64") for name, values in _services(records).items()}
    return pd.DataFrame(columns)


def write_trials(folder: Path, records: Sequence[TrialRecord], parameters: Sequence[str]) -> None:
    """`trials.csv` and `trials.parquet`, each replaced as a whole. Raises OSError when they cannot be written.

    Parquet keeps text as it was; in the CSV it can neither run in a spreadsheet nor steer a terminal. Without pyarrow
    there is no Parquet file.
    """
    frame = trials_frame(records, parameters)
    if writes_parquet():
        with replacing(folder / "trials.parquet") as path:
            frame.to_parquet(path, engine="pyarrow", index=False)
    with replacing(folder / "trials.csv") as path:
        path.write_text(_csv(frame), encoding="utf-8", newline="")


def trials_csv(records: Sequence[TrialRecord], parameters: Sequence[str]) -> str:
    """The text of `trials.csv`."""
    return _csv(trials_frame(records, parameters))


def _csv(frame: pd.DataFrame) -> str:
    safe = frame.rename(columns=_as_text)
    for name in safe.columns[safe.dtypes == "string"]:
        safe[name] = safe[name].map(_as_text, na_action="ignore")
    return str(safe.to_csv(index=False, lineterminator="\n"))


def writes_parquet() -> bool:
    """Whether pyarrow, which pandas writes Parquet with, is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def _row(record: TrialRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: record.value_of(name) for name in ("number", *_TEXTS, *_FIGURES, *_BYTES)
    }  # the low and high ends come next
    row["best_effort_qps"] = record.best_effort_qps.value if record.best_effort_qps else None
    row |= _ends("capacity", "qps", record.capacity_qps)
    return row | _ends("p99", "ms", record.latency.p99_ms)


def _of_language(one: LanguageRecord | None, name: str) -> float | None:
    """`ttft_p99_ms` is the `p99_ms` of `ttft`."""
    time, _, percentile = name.partition("_")
    found: float | None = (
        getattr(getattr(one, time), percentile, None) if one and time in _TIMES else getattr(one, name, None)
    )
    return found


def language_figures(one: LanguageRecord) -> dict[str, float]:
    """Its figures by their columns in trials.csv, as far as they were measured."""
    found = {name: _of_language(one, name) for name in _LANGUAGE}
    return {name: value for name, value in found.items() if value is not None}


def _services(records: Sequence[TrialRecord]) -> dict[str, list[float | None]]:
    """Columns for each of several services, such as `rank.p99_ms`; no parameter's name has a dot."""
    names = dict.fromkeys(service.name for record in records for service in record.services)
    found = [{service.name: service for service in record.services} for record in records]
    columns: dict[str, list[float | None]] = {}
    for name in names:
        own = [services.get(name) for services in found]
        columns[f"{name}.capacity_qps"] = [one.capacity_qps if one else None for one in own]
        columns[f"{name}.alone_qps"] = [one.alone_qps.value if one and one.alone_qps else None for one in own]
        columns[f"{name}.p99_ms"] = [one.p99_ms.value if one and one.p99_ms else None for one in own]
        columns[f"{name}.error_rate"] = [one.error_rate if one else None for one in own]
        columns[f"{name}.cpu_cores_used"] = [one.cpu_cores_used if one else None for one in own]
    return columns | _stages(records)


def _stages(records: Sequence[TrialRecord]) -> dict[str, list[float | None]]:
    """Columns for each stage of a chain, such as `rank.queue_ms`."""
    found = [{stage.name: stage for stage in record.chain.stages} if record.chain else {} for record in records]
    return {
        f"{name}.{field}": [getattr(stages[name], field) if name in stages else None for stages in found]
        for name in dict.fromkeys(name for stages in found for name in stages)
        for field in ("service_ms", "queue_ms", "saturated_qps", "cpu_cores_used")
    }


def _ends(name: str, unit: str, estimate: Estimate | None) -> dict[str, float | None]:
    return {
        f"{name}_{unit}": estimate.value if estimate else None,
        f"{name}_low_{unit}": estimate.low if estimate else None,
        f"{name}_high_{unit}": estimate.high if estimate else None,
    }


def _parameter_column(values: list[ParameterValue | None]) -> Any:
    """The narrowest type that holds every value as it is; text where there is none, as Parquet has no mixed columns."""
    import pandas as pd

    cells: Any = values  # pandas' stubs know no list of several types
    present = [value for value in values if value is not None]
    whole = len(present) == len(values)
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return pd.array(cells, dtype="bool" if whole else "boolean")
    if kinds == {int} and all(-(2**63) <= int(value) < 2**63 for value in present):
        return pd.array(cells, dtype="int64" if whole else "Int64")
    if kinds in ({float}, {int, float}):
        return pd.Series(values, dtype="float64")
    return pd.array([None if value is None else given(value) for value in values], dtype="string")


def _as_text(value: str) -> str:
    """A spreadsheet runs text that begins like a formula; an apostrophe before it makes it text (OWASP's advice)."""
    shown = visible(value)
    return f"'{shown}" if shown.lstrip(" ").startswith(_FORMULA_STARTS) else shown
