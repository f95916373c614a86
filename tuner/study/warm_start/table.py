"""A table of another tool, as it stands in its CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ToolTable:
    """The heading, and its rows without empty lines."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str | None], ...]

    @classmethod
    def read(cls, text: str) -> ToolTable:
        """Raises csv.Error."""
        reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
        return cls(tuple(reader.fieldnames or ()), tuple(row for row in reader if any(row.values())))
