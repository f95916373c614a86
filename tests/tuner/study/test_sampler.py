"""The sampler: valid, never twice, repeatable, and better than chance."""

from __future__ import annotations

import statistics

import optuna
import pytest

from results import Estimate, TrialRecord
from search_spaces import Constraint, Parameter, ParameterValue, SearchSpace
from tuner.search.candidates import SpaceExhausted
from tuner.search.objective import Objective, cost_per_million_requests
from tuner.search.proposer import Proposer
from tuner.study.optuna_sampler import SpaceSampler
from tuner.study.storage.distributions import distributions
from tuner.study.storage.keys import PLAN

SPACE = SearchSpace(
    (
        Parameter("cores", (1, 2, 4, 8), "cpu_cores"),
        Parameter("batch", (1, 2, 4, 8, 16, 32)),
        Parameter("threads", range(1, 9), "threads"),
        Parameter("engine", ("a", "b", "c")),
    ),
    (Constraint.parse("threads <= 2 * cores"),),
)
OBJECTIVE = Objective(("cost_per_million_requests",))


def sampler(seed: int = 0, refused: str = "") -> Proposer:
    return Proposer(
        SPACE, OBJECTIVE, seed=seed, refuses=lambda found: str(found["engine"]) == refused,
        price=lambda found: 0.04 * float(found["cores"]),
    )  # fmt: skip


def measure(number: int, configuration: dict[str, ParameterValue]) -> TrialRecord:
    """Made-up truth: b with batches of 8 and a thread per core is best; batches of 32 are infeasible."""
    cores, batch, threads = (int(configuration[name]) for name in ("cores", "batch", "threads"))
    if batch == 32:
        return TrialRecord(number=number, state="infeasible", reason="too slow", configuration=configuration)
    capacity = (
        50 * cores**0.9 * batch / (batch + 4) * min(1, threads / cores) * (1.4 if configuration["engine"] == "b" else 1)
    )
    capacity *= 0.7 if batch == 16 else 1
    return TrialRecord(
        number=number, state="complete", configuration=configuration, cost_per_hour=0.04 * cores,
        capacity_qps=Estimate(value=capacity, low=capacity, high=capacity),
        cost_per_million_requests=cost_per_million_requests(0.04 * cores, capacity),
    )  # fmt: skip


def run(chosen: Proposer, count: int) -> list[TrialRecord]:
    records: list[TrialRecord] = []
    for number in range(count):
        records.append(measure(number, chosen.propose(records, [], number).configuration))
    return records


def test_every_proposal_is_valid_and_none_comes_twice() -> None:
    records = run(sampler(), 40)
    assert all(SPACE.why_invalid(record.configuration) is None for record in records)
    assert len({SPACE.ranks(record.configuration) for record in records}) == 40


def test_a_seed_repeats_and_another_differs() -> None:
    first, again, other = ([one.configuration for one in run(sampler(seed), 8)] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_what_is_being_measured_is_not_proposed_again() -> None:
    chosen = sampler()
    pending = chosen.propose([], [], 0).configuration
    assert chosen.propose([], [pending], 0).configuration != pending


def test_what_the_runner_refuses_comes_last() -> None:
    records = run(sampler(refused="b"), 30)
    assert not any(record.configuration["engine"] == "b" for record in records)


def test_an_exhausted_space_says_so() -> None:
    small = SearchSpace((Parameter("x", (1, 2)),))
    chosen = Proposer(small, OBJECTIVE)
    records = [TrialRecord(number=n, state="failed", configuration={"x": n + 1}) for n in range(2)]
    with pytest.raises(SpaceExhausted):
        chosen.propose(records, [], 2)


def test_twenty_trials_find_better_than_twenty_random_ones() -> None:
    def best(records: list[TrialRecord]) -> float:
        return min(one.cost_per_million_requests for one in records if one.cost_per_million_requests is not None)

    ours = [best(run(sampler(seed), 20)) for seed in range(6)]
    random = [best([measure(n, found) for n, found in enumerate(SPACE.sample(20, seed))]) for seed in range(60)]
    assert statistics.median(ours) < statistics.median(random)


def test_it_is_an_optuna_sampler_for_anyones_study() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = SpaceSampler(SPACE, OBJECTIVE, price=lambda found: 0.04 * float(found["cores"]))
    study = optuna.create_study(sampler=chosen)

    def objective(trial: optuna.Trial) -> float:
        cores = trial.suggest_categorical("cores", (1, 2, 4, 8))
        trial.suggest_categorical("batch", (1, 2, 4, 8, 16, 32))
        threads = trial.suggest_int("threads", 1, 8)
        trial.suggest_categorical("engine", ("a", "b", "c"))
        assert threads <= 2 * cores
        return float(cores)

    study.optimize(objective, n_trials=8)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 8


@pytest.mark.parametrize(("ours", "again"), [(True, True), (False, False)])
def test_what_a_crash_interrupted_is_asked_again_and_what_failed_for_a_user_is_not(ours: bool, again: bool) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    small = SearchSpace((Parameter("x", (1, 2)),))
    study = optuna.create_study(sampler=SpaceSampler(small, OBJECTIVE))
    if ours:
        study.set_user_attr(PLAN, {})
    for value in (1, 2):
        study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState.FAIL, params={"x": value}, distributions=distributions(small)
            )
        )
    if again:
        assert study.ask(distributions(small)).params["x"] in (1, 2)
    else:
        with pytest.raises(SpaceExhausted):
            study.ask(distributions(small))


def test_what_lies_outside_the_sample_of_a_very_large_space_is_no_reason_to_fail() -> None:
    large = SearchSpace((Parameter("x", range(400)), Parameter("y", range(400))))
    sampler = Proposer(large, OBJECTIVE)
    sampled = {large.ranks(one) for one in large.sample(50_000, 0)}
    outside: dict[str, ParameterValue] = next({"x": x, "y": 0} for x in range(400) if (x, 0) not in sampled)
    cost = cost_per_million_requests(1.0, 10.0)
    current = TrialRecord(
        number=0, state="complete", configuration=outside, capacity_qps=Estimate.exactly(10.0), cost_per_hour=1.0,
        cost_per_million_requests=cost,
    )  # fmt: skip
    assert large.why_invalid(sampler.propose([current], [], 1).configuration) is None
    explanation = sampler.explain([current])
    assert explanation is not None
    assert set(explanation.importance) == {"x", "y"}


def test_less_is_left_to_gain_where_the_best_is_better_and_nothing_where_all_was_tried() -> None:
    records = run(sampler(), 12)
    loss = min(found[0] for one in records if (found := OBJECTIVE.losses(one)) is not None)
    gains = [sampler().untried_improvement(records, loss - better) for better in (0.0, 0.2, 3.0)]
    assert gains[0] > gains[1] > gains[2] >= 0
    space = SearchSpace((Parameter("cores", (1, 2), "cpu_cores"),))
    tried = [
        TrialRecord(number=number, state="infeasible", reason="too slow", configuration={"cores": cores})
        for number, cores in enumerate((1, 2))
    ]
    assert Proposer(space, OBJECTIVE).untried_improvement(tried, 0.0) == 0
