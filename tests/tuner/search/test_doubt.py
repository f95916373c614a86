"""Doubt about what is unlike all that was tried."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces import Parameter, SearchSpace
from tuner.search.surrogate.doubt import doubted, stagnation
from tuner.search.surrogate.features import Trials
from tuner.search.surrogate.predict import Prediction
from tuner.search.surrogate.space import candidates_of

SPACE = SearchSpace(
    (Parameter("cpu_cores", (1, 2)), Parameter("workers", (1, 2)), Parameter("engine", ("torch", "onnx")))
)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], 0),
        ([None, None], 0),  # there is nothing yet to be better than
        ([1.0], 0),
        ([1.0, 0.5], 0),
        ([1.0, None, 1.2], 2),
        ([1.0, 0.99, 0.985, 0.979], 0),  # three small steps are a better one in the end
        ([1.0, 0.99], 1),
        ([None, 1.0, None, 0.5, None], 1),
    ],
)
def test_stagnation_counts_the_trials_since_the_last_better_one(losses: list[float | None], expected: int) -> None:
    assert stagnation(losses) == expected


def doubts(stagnant: int, *tried: int) -> list[float]:
    """By how much each candidate's spread grows."""
    candidates = candidates_of(SPACE, list(SPACE), lambda _: 1.0)
    ones, none = np.ones((len(candidates), 1)), Trials.none()
    nan = np.full(len(tried), np.nan)
    trials = Trials(
        np.array(tried, dtype=np.int64), np.zeros(len(tried), dtype=np.int64), np.zeros(len(tried)), nan,
        np.full((len(tried), none.measured.shape[1]), np.nan), nan,
    )  # fmt: skip
    prediction = Prediction(0 * ones, 0.1 * ones, ones, ones[:, 0], 0.1 * ones[:, 0], np.ones((len(ones), 4)) / 4)
    [(weight, found)] = doubted([(0.7, prediction)], candidates, trials, stagnant)
    assert weight == 0.7
    assert (found.mean == 0).all()
    return [round(float(one), 9) for one in found.spread[:, 0] / 0.1]


def test_the_more_parameters_differ_from_every_trial_the_wider_the_prediction() -> None:
    alike = {0: 1.0, 1: 1.0, 2: 1.5, 3: 2.0}  # by the number of parameters in which it differs
    first = next(iter(SPACE))
    differing = [sum(one[name] != first[name] for name in first) for one in SPACE]
    assert doubts(3, 0) == [alike[count] for count in differing]
    assert doubts(30, 0) == doubts(3, 0)
    assert max(doubts(1, 0)) == pytest.approx(1 + 1 / 3)


def test_what_is_near_any_trial_is_not_doubted() -> None:
    assert doubts(3, 0, len(list(SPACE)) - 1) == [1.0] * len(list(SPACE))


def test_while_better_ones_are_found_nothing_is_doubted() -> None:
    assert doubts(0, 0) == [1.0] * len(list(SPACE))
    assert doubts(3) == [1.0] * len(list(SPACE))
