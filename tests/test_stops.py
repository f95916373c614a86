"""The stops of a configuration that docs/design.md lists are functions that exist, and few."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_STOPS = 30


def test_the_stops_of_a_configuration_are_few_and_each_is_there() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    stops = re.findall(r"^\| (\d+) \| `([^`]+)` \| `([^`]+)` \|", text, re.MULTILINE)
    assert [int(number) for number, _, _ in stops] == list(range(1, len(stops) + 1))
    assert 20 <= len(stops) <= MAX_STOPS
    assert stops[-1][2] == "write_recommendation"
    for _, file, function in stops:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        names = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}
        assert function in names, f"{file} has no {function}"
