"""Each wrong input ends with its exit code and its words; `python -m benchmarks.wrong_inputs` shows them as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.wrong_inputs import CASES, SIBLINGS, TESTS, Case, Scratch

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """With one good run to start from."""
    return Scratch(tmp_path_factory.mktemp("wrong"))


@pytest.mark.parametrize("case", [*CASES, *SIBLINGS], ids=lambda case: f"{case.kind}: {case.what}")
def test_it_ends_with_its_exit_code_and_its_words(
    scratch: Scratch, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    tried = scratch.tried(case)
    assert tried.wrong is None, (tried.code, tried.message)


def test_what_a_test_proves_is_a_test() -> None:
    for _, _, test in TESTS:
        path, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8"), test


def test_the_page_has_every_case() -> None:
    page = (ROOT / "docs" / "faults-found.md").read_text(encoding="utf-8")
    rows = [f"| {kind} | {what} |" for kind, what, *_ in TESTS] + [
        f"| {one.kind} | {one.what} |" for one in CASES + SIBLINGS
    ]
    assert [row for row in rows if row not in page] == []
