"""The sampler in a study of the user's own: pruned, conditional and parallel trials, and none twice."""

from __future__ import annotations

import pickle
from typing import Any

import optuna
import pytest

from search_spaces import Parameter, SearchSpace, SpaceError
from tuner.search.candidates import SpaceExhausted
from tuner.search.objective import Objective
from tuner.study.optuna_sampler import SpaceSampler

BATCHES, CORES = (1, 2, 4, 8, 16), (1, 2, 4)
SPACE = SearchSpace((Parameter("batch", BATCHES, "batch_size"), Parameter("cores", CORES, "cpu_cores")))
COST = Objective(("cost_per_million_requests",))


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def study(sampler: SpaceSampler | None = None) -> optuna.Study:
    return optuna.create_study(sampler=sampler or SpaceSampler(SPACE, COST, seed=0))


def suggested(trial: optuna.Trial) -> tuple[int, int]:
    return trial.suggest_categorical("batch", BATCHES), trial.suggest_categorical("cores", CORES)


def configurations(done: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(one.params.get(name) for name in ("batch", "cores")) for one in done.trials]


def pruned(trial: optuna.Trial) -> float:
    batch, cores = suggested(trial)
    if batch < 8:
        raise optuna.TrialPruned
    return cores / batch


def failed(trial: optuna.Trial) -> float:
    suggested(trial)
    raise ValueError("no such server")


def conditional(trial: optuna.Trial) -> float:
    batch = int(trial.suggest_categorical("batch", BATCHES))
    return float(batch if batch < 4 else batch + trial.suggest_categorical("cores", CORES))


def with_others(trial: optuna.Trial) -> float:
    return (
        sum(suggested(trial)) + trial.suggest_float("lr", 1e-5, 1e-1, log=True) + trial.suggest_int("n", 1, 9, step=2)
    )


@pytest.mark.parametrize("objective", [pruned, failed, conditional, with_others])
def test_no_configuration_comes_twice(objective: Any) -> None:
    done = study()
    done.optimize(objective, n_trials=10, catch=(ValueError,))
    assert len(configurations(done)) == 10
    assert len(set(configurations(done))) == 10


def test_trials_side_by_side_take_different_configurations() -> None:
    done = study()
    done.optimize(lambda trial: float(sum(suggested(trial))), n_trials=15, n_jobs=4)
    assert len(set(configurations(done))) == 15


def test_the_study_stops_when_the_space_is_exhausted() -> None:
    done = study()
    done.optimize(lambda trial: float(sum(suggested(trial))), n_trials=100)
    assert len(configurations(done)) == len(set(configurations(done))) == 15
    with pytest.raises(SpaceExhausted):
        suggested(done.ask())


def test_a_sampler_can_be_sent_to_another_process() -> None:
    done = study(pickle.loads(pickle.dumps(SpaceSampler(SPACE, COST, seed=0))))
    done.optimize(lambda trial: float(sum(suggested(trial))), n_trials=3)
    assert len(set(configurations(done))) == 3


def test_nothing_is_no_choice() -> None:
    choices: Any = (None, "fp8")
    with pytest.raises(SpaceError, match="None is no choice"):
        Parameter("quantization", choices)
