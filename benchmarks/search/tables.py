"""Measured tables, in the format of the replay runner, as surfaces."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from benchmarks.search.families import Row, Surface
from search_spaces import ROLES, Parameter, Role, SearchSpace

_FIGURES = ("capacity_qps", "p99_ms", "status", "price_per_hour", "trial_s")


_LIMIT = re.compile(r"-(\d+)ms$")  # the SLO is in the file's name, as it would be in the spec


def read_table(path: Path) -> Surface:
    """A parameter has a role where its name is one, as in a spec that says nothing; all values are numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in _FIGURES]
    configurations: list[Row] = [{name: _number(row[name]) for name in names} for row in rows]
    parameters = [
        Parameter(
            name,
            tuple(sorted({float(one[name]): one[name] for one in configurations}.values(), key=float)),
            _role(name),
        )
        for name in names
    ]
    return Surface(
        path.stem, SearchSpace(tuple(parameters)), configurations,
        np.array([float(row["capacity_qps"] or 0) for row in rows]), [row["status"] for row in rows],
        np.array([float(row["price_per_hour"]) for row in rows]),
        p99_ms=np.array([float(row["p99_ms"] or "nan") for row in rows]) if "p99_ms" in rows[0] else None,
        limit_ms=float(limit[1]) if (limit := _LIMIT.search(path.stem)) else None,
    )  # fmt: skip


def _role(name: str) -> Role | None:
    return name if name in ROLES else None


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value == int(value) else value
