"""The figures on the code's shape, on code whose shape is known."""

from __future__ import annotations

import ast

from benchmarks.import_graph import arrows, cycles, floors, imports, rooms
from benchmarks.shape import MAX_FLOORS, Measured, Sizes, fields, sources

TREES = {
    name: ast.parse(text)
    for name, text in {
        "p": "from p.top import run",
        "p.top": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.low.leaf\nimport p.middle.a\n",
        "p.middle": "",
        "p.middle.a": "from p.low import leaf\nfrom . import b\n",
        "p.middle.b": "def later():\n    from .a import something\n",
        "p.low": "",
        "p.low.leaf": "import json\n",
    }.items()
}


def test_imports_are_those_of_the_running_program() -> None:
    at_start = imports(TREES, inside_functions=False)
    assert at_start["p.top"] == {"p.middle.a"}
    assert at_start["p.middle.a"] == {"p.low.leaf", "p.middle.b"}
    assert at_start["p.middle.b"] == frozenset()
    assert imports(TREES, inside_functions=True)["p.middle.b"] == {"p.middle.a"}


def test_a_circle_is_found_where_it_is_and_has_one_floor() -> None:
    at_start, anywhere = imports(TREES, inside_functions=False), imports(TREES, inside_functions=True)
    assert cycles(at_start) == []
    assert cycles(anywhere) == [["p.middle.a", "p.middle.b"]]
    assert (floors(at_start), arrows(at_start)) == (4, 4)  # p, top, a, leaf or b
    assert floors(anywhere) == 4
    between = rooms(anywhere, "p")
    assert between == {"p.top": {"p.middle"}, "p.middle": {"p.low"}, "p.low": frozenset()}
    assert floors(between) == 3


def test_fields_are_what_a_value_holds() -> None:
    text = (
        "class A:\n    x: int\n    y: int = 1\n    shared: ClassVar[int] = 2\n"
        "    def __init__(self):\n        self.z = self.w = 1\n        self.z.q = 2\n"
    )
    [node] = ast.parse(text).body
    assert isinstance(node, ast.ClassDef)
    assert len(fields(node)) == 4


def test_what_is_over_its_goal_is_named() -> None:
    sizes = Sizes("lines", tuple(Measured(f"m{size}", size) for size in range(1, 11)), goal_max=9)
    assert sizes.line() == "lines (10): median 5.5, 90% 10, most 10 (goal 9)"
    assert list(sizes.over()) == ["  m10: 10, of at most 9 (lines)"]


def test_no_modules_of_ours_import_each_other_in_a_circle() -> None:
    graph = imports(sources(), inside_functions=True)
    assert cycles(graph) == []
    assert floors(rooms(graph, "tuner")) <= MAX_FLOORS
