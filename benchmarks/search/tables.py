"""Measured tables, in the format of the replay runner, as surfaces."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.search.families import Surface
from search_spaces import ROLES, Constraint, Parameter, ParameterValue, Role, SearchSpace

_FIGURES = ("capacity_qps", "p99_ms", "status", "price_per_hour", "trial_s")
_MOST = 10_000


_LIMIT = re.compile(r"-(\d+)ms$")  # the SLO is in the file's name, as it would be in the spec


def read_table(path: Path) -> Surface:
    """A parameter has the role that `meta.json` beside the table gives it, or that its name is. What the space allows
    and the table lacks did not run.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in _FIGURES]
    meta_path = path.with_name("meta.json")
    meta = json.loads(meta_path.read_text(encoding="utf-8")) if meta_path.exists() else {}
    parameters = [
        Parameter(name, _choices([row[name] for row in rows]), _role(meta.get("roles", {}).get(name, name)))
        for name in names
    ]
    constraints = tuple(Constraint.parse(text) for text in meta.get("constraints", {}).get(path.stem, ()))
    space = SearchSpace(_once(parameters), constraints)
    measured = {space.ranks({name: _value(row[name]) for name in names}): row for row in rows}
    configurations = space.sample(_MOST, seed=0)
    found = [measured.get(space.ranks(one)) for one in configurations]
    usual = float(np.median([float(row["price_per_hour"]) for row in rows]))
    return Surface(
        path.stem, space, [dict(one) for one in configurations],
        np.array([float(row["capacity_qps"] or 0) if row else 0.0 for row in found]),
        [row["status"] if row else "failed" for row in found],
        np.array([float(row["price_per_hour"]) if row else usual for row in found]),
        p99_ms=np.array([float(row["p99_ms"] or "nan") if row else np.nan for row in found])
        if "p99_ms" in rows[0] else None,
        limit_ms=float(limit[1]) if (limit := _LIMIT.search(path.stem)) else None,
    )  # fmt: skip


def _choices(texts: list[str]) -> tuple[ParameterValue, ...]:
    """Numbers in their order where all are; else texts in the alphabet's."""
    values = list(dict.fromkeys(_value(text) for text in texts))
    if all(isinstance(value, int | float) for value in values):
        return tuple(sorted(values, key=float))
    return tuple(sorted(map(str, values)))


def _once(parameters: list[Parameter]) -> tuple[Parameter, ...]:
    """A role that a space may have once goes to the first that claims it."""
    seen: set[Role] = set()
    found = []
    for one in parameters:
        found.append(replace(one, role=None) if one.role in seen else one)
        seen.update([one.role] if one.role else [])
    return tuple(found)


def _role(name: str) -> Role | None:
    return name if name in ROLES else None


def _value(text: str) -> ParameterValue:
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value == int(value) else value
