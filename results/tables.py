"""Trials as tables: a row per trial, in CSV for people and spreadsheets, in Parquet for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.files import replacing
from results.records import TrialRecord

if TYPE_CHECKING:
    import pandas as pd

_FIGURES = (
    "capacity_qps", "capacity_low_qps", "capacity_high_qps", "capacity_bound_qps", "p50_ms", "p95_ms", "p99_ms",
    "p99_low_ms", "p99_high_ms", "error_rate", "cost_per_hour", "cost_per_million_requests", "cold_start_s", "launch_s",
    "warmup_s", "load_s", "teardown_s", "wall_s", "cpu_cores_used", "memory_peak_bytes", "gpu_utilization",
    "gpu_memory_peak_bytes",
)  # fmt: skip
RESERVED_COLUMNS = frozenset(
    {"number", "state", "reason", "bottleneck", "status", "price_per_hour", "trial_s", *_FIGURES}
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def trials_frame(records: Sequence[TrialRecord], parameters: Sequence[str]) -> pd.DataFrame:
    """The contract's columns; a figure that was not measured is missing (NaN), never zero."""
    import pandas as pd

    frame = pd.DataFrame([_row(record, parameters) for record in records], columns=_columns(parameters))
    for name in _FIGURES:
        frame[name] = frame[name].astype("float64")
    for name in parameters:
        kinds = {type(value) for value in frame[name]}
        if len(kinds) > 1 and not kinds <= {int, float}:
            frame[name] = frame[name].map(str)  # choices such as [1, "auto"]: a column has one type
    return frame


def write_trials(folder: Path, records: Sequence[TrialRecord], parameters: Sequence[str]) -> None:
    """`trials.csv` and `trials.parquet`. Raises OSError when they cannot be written."""
    frame = trials_frame(records, parameters)
    with replacing(folder / "trials.parquet") as path:
        frame.to_parquet(path, index=False)
    safe = frame.copy()
    for name in ("state", "reason", "bottleneck", *parameters):
        safe[name] = safe[name].map(_no_formula)
    with replacing(folder / "trials.csv") as path:
        safe.to_csv(path, index=False)


def _columns(parameters: Sequence[str]) -> list[str]:
    return ["number", "state", "reason", *parameters, "bottleneck", *_FIGURES]


def _row(record: TrialRecord, parameters: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(record, name, None) for name in ("number", "state", "reason", "bottleneck", *_FIGURES)
    }
    for name, estimate in (("capacity", record.capacity_qps), ("p99", record.p99_ms)):
        unit = "qps" if name == "capacity" else "ms"
        row[f"{name}_{unit}"] = estimate.value if estimate else None
        row[f"{name}_low_{unit}"] = estimate.low if estimate else None
        row[f"{name}_high_{unit}"] = estimate.high if estimate else None
    return row | {name: record.configuration.get(name) for name in parameters}


def _no_formula(value: object) -> object:
    """A spreadsheet runs text that begins like a formula; an apostrophe before it makes it text (OWASP's advice)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
