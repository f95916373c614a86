"""Tests are marked by what they need, though they say nothing."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import browser
from tests.needs import needed
from tests.runners import support


def _starts() -> None:
    subprocess.run(["true"], check=True)


@contextlib.contextmanager
def _while_it_runs() -> Iterator[None]:
    _starts()
    yield


def _through_a_helper() -> None:
    with _while_it_runs():
        pass


def _inside() -> Any:
    def later() -> None:
        subprocess.Popen(["true"])

    return later


def _by_a_module() -> Any:
    return support.lost_run


def _looks() -> None:
    with browser("file://"):
        _starts()


def _only_names_a_result() -> Any:
    return subprocess.CompletedProcess([], 0), len("Popen")


@pytest.mark.parametrize(
    ("function", "need"),
    [
        (_starts, "machine"),
        (_through_a_helper, "machine"),
        (_inside, "machine"),
        (_by_a_module, "machine"),
        (_looks, "engine"),
        (_only_names_a_result, None),
    ],
)
def test_what_a_test_needs_is_read_from_its_code_and_its_helpers(function: Any, need: str | None) -> None:
    assert needed([function]) == need


def test_a_marker_says_what_a_fixture_asks_for(request: pytest.FixtureRequest, needs_machine: None) -> None:
    assert [one.name for one in request.node.iter_markers() if one.name in ("machine", "engine")] == ["machine"]
