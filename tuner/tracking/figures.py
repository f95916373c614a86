"""What trackers keep of a trial and of a recommendation: flat names with plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from results import Estimate, LanguageRecord, TrialRecord
from results.records import PARTS
from results.tables import language_figures
from results.text import given, one_line
from search_spaces.masking import masked

ARTIFACTS = ("recommendation.json", "report.html", "report.md", "trials.csv", "trials.parquet")
_NO_FIGURES = frozenset({"number", "trial", "reused_from", "schema_version"})
_MAX_TEXT = 500  # letters; MLflow's limit for a tag or parameter was that low once


def figures(record: BaseModel) -> dict[str, float]:
    """Its numbers by name; of one with an interval also the bounds, as `NAME_low` and `NAME_high`."""
    found: dict[str, float] = {}
    for name, value in _values(record):
        if isinstance(value, LanguageRecord):
            found |= language_figures(value)
        elif isinstance(value, Estimate):
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        elif isinstance(value, int | float) and not isinstance(value, bool) and name not in _NO_FIGURES:
            found[name] = float(value)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _values(record: BaseModel) -> Iterator[tuple[str, Any]]:
    """Of a trial also the values of its parts, by their own names as in its JSON."""
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(record, TrialRecord) and name in PARTS:
            yield from _values(value)
        else:
            yield name, value


def parameters(configuration: Mapping[str, object]) -> dict[str, str]:
    """A configuration as text."""
    return {name: text(given(value)) for name, value in configuration.items()}


def text(value: Any) -> str:
    """Text for a tracker: on one line, without secrets, and short enough for all of them."""
    return one_line(masked(str(value)))[:_MAX_TEXT]


def artifacts(folder: Path) -> list[Path]:
    """The files of a run that trackers keep, as far as they were written."""
    return [path for name in ARTIFACTS if (path := folder / name).is_file()]
