"""Measured tables, in the format of the replay runner, as surfaces; a folder of them is a source.

`meta.json` beside tables has the `roles` that a user would give to parameters, and by table the `constraints` of the
space. What the space has and the table lacks cannot serve, and nobody knows its price, as with the replay runner.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.search.families import Row, Surface
from search_spaces import ROLES, Constraint, Parameter, Role, SearchSpace, SpaceError

_FIGURES = ("capacity_qps", "p99_ms", "status", "price_per_hour", "trial_s")
_LIMIT = re.compile(r"-(\d+)ms$")  # the SLO is in the file's name, as it would be in the spec
_NUMBER = re.compile(r"-?[0-9.]+(e-?[0-9]+)?")
_ATTEMPTS = 50
Roles = Literal["given", "missing", "wrong"]


def sources(folder: Path) -> dict[str, list[Path]]:
    """The tables by source: a folder each, and those beside the folders, under the folder's own name."""
    found = {"parvagpu": sorted(folder.glob("*.csv"))}
    found |= {inner.name: sorted(inner.glob("*.csv")) for inner in sorted(folder.iterdir()) if inner.is_dir()}
    return {name: paths for name, paths in found.items() if paths}


def read_table(path: Path, roles: Roles = "given") -> Surface:
    """With the roles that a user would give, with none, or with those of others."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in _FIGURES]
    numeric = {name: all(_NUMBER.fullmatch(row[name]) for row in rows) for name in names}
    measured: dict[tuple[Any, ...], dict[str, str]] = {
        tuple(_value(row[name], numeric[name]) for name in names): row for row in rows
    }
    choices = {name: _choices([key[place] for key in measured]) for place, name in enumerate(names)}
    meta = _meta(path)
    given = {name: meta["roles"].get(name, name if name in ROLES else None) for name in names}
    # Names suggest roles too: where roles are missing or wrong, names say nothing.
    called = {name: name if roles == "given" else f"p{place}" for place, name in enumerate(names)}
    space = SearchSpace(
        _parameters(choices, called, given, roles, path.stem),
        tuple(Constraint.parse(_renamed(text, called)) for text in meta["constraints"].get(path.stem, ())),
    )
    configurations: list[Row] = list(space)
    found = [measured.get(tuple(one.values())) for one in configurations]

    def figures(name: str, missing: str) -> Any:
        return np.array([float((row[name] if row else missing) or missing) for row in found])

    return Surface(
        path.stem, space, configurations, figures("capacity_qps", "0"),
        [row["status"] if row else "ok" for row in found],
        figures("price_per_hour", "nan"), p99_ms=figures("p99_ms", "nan") if "p99_ms" in rows[0] else None,
        limit_ms=float(limit[1]) if (limit := _LIMIT.search(path.stem)) else None,
    )  # fmt: skip


def _meta(path: Path) -> dict[str, Any]:
    file = path.parent / "meta.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {"roles": {}, "constraints": {}} | found


def _parameters(
    choices: dict[str, tuple[Any, ...]], called: dict[str, str], given: dict[str, Role | None], roles: Roles, name: str
) -> tuple[Parameter, ...]:
    if roles == "missing":
        return tuple(Parameter(called[one], values) for one, values in choices.items())
    if roles == "given":
        return tuple(Parameter(one, values, given[one]) for one, values in choices.items())
    g = np.random.default_rng(list(name.encode()))
    found, taken = [], set()
    for one, values in choices.items():
        for role in g.permutation([role for role in ROLES if role != given[one] and role not in taken])[:_ATTEMPTS]:
            try:
                found.append(Parameter(called[one], values, str(role)))  # type: ignore[arg-type]
            except SpaceError:
                continue
            taken.add(str(role))
            break
        else:
            found.append(Parameter(called[one], values))
    return tuple(found)


def _renamed(text: str, called: dict[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda found: called.get(found[0], found[0]), text)


def _choices(values: Sequence[Any]) -> tuple[Any, ...]:
    """Numbers in their order, names in that of their appearance."""
    once = tuple(dict.fromkeys(values))
    return once if any(isinstance(value, str) for value in once) else tuple(sorted(once))


def _value(text: str, numeric: bool) -> int | float | str:
    if not numeric:
        return text
    value = float(text)
    return int(value) if value == int(value) else value
