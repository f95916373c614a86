"""A few mutated inputs of every kind, drawn by hypothesis; `python -m benchmarks.fuzz` tries thousands."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzzing.kinds import Kinds

NAMES = ("specs", "tables", "traces", "studies", "baselines", "warm_starts", "answers", "callbacks")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    """With one good run to start from."""
    return Kinds(tmp_path_factory.mktemp("fuzz"))


def test_every_kind_is_tried(kinds: Kinds) -> None:
    assert kinds.names() == NAMES


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(min_value=10**9, max_value=2 * 10**9))  # none that the long run tries
def test_no_input_is_an_internal_error_or_hangs(kinds: Kinds, name: str, seed: int) -> None:
    found = kinds.tried(name, seed)
    assert found.problem in (None, "slow"), (found.problem, found.said)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "seed"),
    [("tables", 300067), ("specs", 300731), ("studies", 300135), ("traces", 100303)],  # an error without a place once
)
def test_what_the_long_run_found_stays_mended(kinds: Kinds, name: str, seed: int) -> None:
    found = kinds.tried(name, seed)
    assert found.problem in (None, "slow"), (found.problem, found.said)
