"""The surrogate: any space, honest probabilities, and a fallback where services are unlike what it learned from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from results import (
    Estimate,
    LanguageRecord,
    Latencies,
    TrialRecord,
)
from search_spaces import Parameter, ParameterValue, SearchSpace
from tuner.search.objective import Objective, cost_per_million_requests
from tuner.search.proposer import Proposer
from tuner.search.surrogate.acquisition import believed_capacity
from tuner.search.surrogate.encoder import encode
from tuner.search.surrogate.features import MEASURED, Candidates, Trials, space_of
from tuner.search.surrogate.gaussian_process import GaussianProcess
from tuner.search.surrogate.gpus import gpu_physics
from tuner.search.surrogate.instances import instance_hardware
from tuner.search.surrogate.mixture import Surrogate
from tuner.search.surrogate.predict import Prediction, Predictor
from tuner.search.surrogate.space import candidates_of
from tuner.spec.model import Metric

SPACES = {
    "five configurations": SearchSpace((Parameter("batch_size", (1, 2, 4, 8, 16), "batch_size"),)),
    "nothing known": SearchSpace(
        (Parameter("a", (True, False)), Parameter("b", ("x", "y", "z")), Parameter("c", (1, 5, 9)))
    ),
    "more than there are slots": SearchSpace(
        (*(Parameter(f"number{n}", (1, 2, 3)) for n in range(8)), Parameter("word", tuple("abcdefghij")))
    ),
    "sizes and slices": SearchSpace(
        (
            Parameter("memory", ("512Mi", "1Gi"), "memory"),
            Parameter("gpu", ("T4", "A100", "unheard-of"), "gpu_type"),
            Parameter("mig", ("1g.10gb", "3g.40gb"), "gpu_memory"),
            Parameter("dtype", ("fp32", "int8"), "precision"),
            Parameter("wait", ("0ms", "5ms"), "batch_delay"),
        )
    ),
}


def trials(index: list[int], log_capacity: list[float]) -> Trials:
    count = len(index)
    return Trials(
        np.array(index), np.zeros(count, dtype=np.int64), np.array(log_capacity), np.full(count, np.nan),
        np.full((count, len(MEASURED)), np.nan), np.full(count, np.nan),
    )  # fmt: skip


@pytest.mark.parametrize("name", list(SPACES))
@pytest.mark.parametrize("priced", [True, False])
def test_it_takes_any_space(name: str, priced: bool) -> None:
    space = SPACES[name]
    configurations = space.sample(300, 0)
    candidates = candidates_of(space, configurations, lambda _: 1.5 if priced else None)
    for part in vars(encode(space_of(candidates))).values():
        assert np.isfinite(part).all()
    models: list[Predictor | GaussianProcess] = [Predictor(candidates)]
    models += [GaussianProcess(candidates, by_price=by_price) for by_price in (True, False)]
    for model in models:
        for known in (Trials.none(), trials([0], [3.0]), trials([0, 1, 2], [3.0, 3.5, 2.5])):
            check(model.predict(known), len(configurations))


def check(prediction: Prediction, count: int) -> None:
    assert prediction.mean.shape[0] == count
    assert (prediction.spread > 0).all()
    assert (prediction.p99_spread > 0).all()
    assert prediction.weight.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert prediction.outcome.sum(axis=1) == pytest.approx(1, abs=1e-5)
    every = np.arange(count)
    assert (prediction.quantiles(every, 0.05) < prediction.quantiles(every, 0.95)).all()


def test_a_pruned_trial_tells_of_all_that_is_below_its_bound() -> None:
    one = np.ones((1, 1))
    prediction = Prediction(0 * one, one, one, one[0], one[0], one)
    nothing = np.array([0])
    assert prediction.log_density(nothing, np.array([0.0]), below=np.array([True]))[0] == pytest.approx(np.log(0.5))
    assert prediction.log_density(nothing, np.array([0.0]), below=np.array([False]))[0] == pytest.approx(
        -0.5 * np.log(2 * np.pi)
    )


def grid(first: tuple[ParameterValue, ...]) -> tuple[SearchSpace, Candidates]:
    space = SearchSpace((Parameter("batch_size", first, "batch_size"), Parameter("cpu_cores", (1, 2, 4), "cpu_cores")))
    return space, candidates_of(space, list(space), lambda one: 0.04 * float(one["cpu_cores"]))


def test_a_zero_among_the_choices_is_a_choice_like_any_other() -> None:
    _, candidates = grid((0, 1, 2, 4, 8))
    encoded = encode(space_of(candidates))
    assert np.abs(encoded.value).max() < 4
    assert np.abs(encoded.log).max() < 4


def test_the_order_of_parameters_means_nothing() -> None:
    _, candidates = grid((1, 2, 4, 8))
    turned = Candidates(candidates.columns[::-1], candidates.log_price, candidates.physics)
    known = trials([0, 4, 7], [3.0, 3.5, 2.5])
    one, other = (Predictor(each).predict(known) for each in (candidates, turned))
    assert np.allclose(one.middle(), other.middle(), atol=0.05)
    assert np.allclose(one.outcome, other.outcome, atol=0.05)


def test_more_categories_than_any_code_holds_are_told_apart() -> None:
    machines = tuple(f"machine{number}" for number in range(20))
    space = SearchSpace((Parameter("machine", machines), Parameter("batch_size", (1, 2, 4, 8), "batch_size")))
    configurations = list(space)
    speed = {name: 0.5 * (number % 7) for number, name in enumerate(machines)}
    capacity = np.array([speed[str(one["machine"])] for one in configurations])
    candidates = candidates_of(space, configurations, lambda _: 1.0)
    tried = [number for number, one in enumerate(configurations) if one["batch_size"] == 2]
    found = Predictor(candidates).predict(trials(tried, [float(capacity[number]) for number in tried])).middle()
    unknown = np.array([number for number, one in enumerate(configurations) if one["batch_size"] == 4])
    assert np.corrcoef(found[unknown], capacity[unknown])[0, 1] > 0.7


def test_what_a_trial_shows_counts_the_less_the_more_it_may_be_wrong() -> None:
    _, candidates = grid((1, 2, 4, 8, 16, 32))
    sure = trials([0, 3, 6, 9, 12], [3.0, 3.2, 5.0, 3.6, 3.8])  # the third is far out
    doubted = Trials(sure.index, sure.state, sure.log_capacity, sure.log_saturated, sure.measured,
                     np.array([0.0, 0.0, 1.0, 0.0, 0.0]))  # fmt: skip
    here = np.array([6])
    process = GaussianProcess(candidates, by_price=False)
    believed, shrunk = (process.predict(each, here).middle()[0] for each in (sure, doubted))
    assert abs(shrunk - 3.4) < abs(believed - 3.4)


def test_what_is_cheap_and_unknown_is_no_bargain_by_price() -> None:
    _, candidates = grid((1, 2, 4, 8, 16, 32))  # with 1, 2 and 4 cores each
    tried, far = trials([2, 5], [3.0, 3.2]), np.array([15])  # 4 cores; one core and the largest batch
    by_price, whatever = (
        GaussianProcess(candidates, by_price=one).predict(tried, far).middle()[0] for one in (True, False)
    )
    assert whatever - by_price == pytest.approx(np.log(4), abs=0.05)


@pytest.mark.parametrize(
    ("name", "cores", "gpu", "gpus"),
    [("g5.2xlarge", 8, "A10G", 1), ("p3.8xlarge", 32, "V100", 4), ("c5.xlarge", 4, None, 0),
     ("n1-standard-8", 8, None, 0), ("Standard_D8s_v5", 8, None, 0), ("ml.g4dn.xlarge", 4, "T4", 1)],
)  # fmt: skip
def test_an_instance_type_says_what_it_has(name: str, cores: float, gpu: str | None, gpus: int) -> None:
    found = instance_hardware(name)
    assert found is not None
    assert (found.cores, found.gpu, found.gpus) == (cores, gpu, gpus)
    assert instance_hardware("large") is None


def test_the_network_learns_from_what_was_measured() -> None:
    space = SearchSpace(
        (Parameter("batch_size", (1, 2, 4, 8, 16, 32), "batch_size"), Parameter("workers", (1, 2, 4), "workers"))
    )
    configurations = space.sample(100, 0)
    candidates = candidates_of(space, configurations, lambda _: 1.0)
    capacity = np.array([np.log(100 * one["workers"]) for one in configurations])
    known = np.arange(0, len(configurations), 2)
    prediction = Predictor(candidates).predict(trials(known.tolist(), capacity[known].tolist()))
    unknown = np.setdiff1d(np.arange(len(configurations)), known)
    assert np.abs(prediction.middle()[unknown] - capacity[unknown]).mean() < 0.25


def unlike_any_server(space: SearchSpace) -> dict[tuple[int, ...], float]:
    """Log capacities that alternate wildly along every parameter, in the way of no server."""
    return {space.ranks(one): 5.0 + 2.0 * (-1) ** sum(space.ranks(one)) for one in space}


def test_what_is_asked_of_the_processes_takes_no_second_core_from_what_is_measured_beside_it() -> None:
    space = SearchSpace(tuple(Parameter(name, (1, 2, 3, 4, 5, 6), None) for name in "abcd"))
    candidates = candidates_of(space, list(space), lambda _: None)
    index = np.random.default_rng(0).permutation(len(candidates))[:64].tolist()
    known = trials(index, [float(np.sin(number)) for number in index])
    process = GaussianProcess(candidates, by_price=False)
    everywhere, here = time.process_time(), time.thread_time()
    process.predict(known)
    elsewhere = (time.process_time() - everywhere) - (time.thread_time() - here)
    assert elsewhere < 0.1 * (time.thread_time() - here)


def test_trust_moves_to_the_gaussian_process_where_predictions_fail() -> None:
    space = SearchSpace(
        (Parameter("batch_size", tuple(range(1, 9)), "batch_size"), Parameter("workers", tuple(range(1, 9)), "workers"))
    )
    configurations = space.sample(100, 0)
    candidates = candidates_of(space, configurations, lambda _: 1.0)
    truth = unlike_any_server(space)
    index = list(range(40))
    judged = Surrogate(candidates).judge(trials(index, [truth[space.ranks(configurations[one])] for one in index]))
    assert min(one.trust for one in judged) < 0.5


def test_a_long_study_that_is_resumed_is_judged_by_its_latest_trials() -> None:
    configurations = GRID.sample(20, 0)
    candidates = candidates_of(GRID, configurations, lambda _: 1.0)
    index = [one % 20 for one in range(45)]
    seen = trials(index, [4.0 + 0.1 * one for one in index])
    at_once, one_by_one = Surrogate(candidates), Surrogate(candidates)
    for count in range(1, 46):
        judged = one_by_one.judge(seen.only(np.arange(count)))
    assert len(judged) == 45
    assert len(at_once.judge(seen)) == 40
    assert at_once.weights(seen) == pytest.approx(one_by_one.weights(seen), abs=0.05)


def record(
    number: int, configuration: dict[str, ParameterValue], capacity: float, price: float, p99: float = 20.0
) -> TrialRecord:
    return TrialRecord(
        number=number,
        state="complete",
        configuration=configuration,
        cost_per_hour=price,
        capacity_qps=Estimate(value=capacity, low=capacity, high=capacity),
        latency=Latencies(p99_ms=Estimate(value=p99, low=p99, high=p99)),
        cost_per_million_requests=cost_per_million_requests(price, capacity),
    )


GRID = SearchSpace(
    (Parameter("cpu_cores", (1, 2, 4, 8), "cpu_cores"), Parameter("batch_size", (1, 2, 4, 8, 16), "batch_size"))
)


def measured(number: int, configuration: dict[str, ParameterValue], scale: float = 1.0) -> TrialRecord:
    cores, batch = float(configuration["cpu_cores"]), float(configuration["batch_size"])
    return record(number, configuration, scale * 40 * cores**0.8 * batch / (batch + 3), 0.04 * cores, 5 + 2 * batch)


@pytest.mark.parametrize(
    "objective",
    [
        Objective(("capacity_qps",)),
        Objective(("p99_ms",)),
        Objective(("cost_per_hour",), target_qps=500.0),
        Objective(("cost_per_million_requests", "p99_ms")),
        Objective(("cost_per_million_requests", "capacity_qps")),
    ],
    ids=str,
)
@pytest.mark.parametrize("limit_ms", [50.0, None])
def test_every_objective_is_searched_for(objective: Objective, limit_ms: float | None) -> None:
    sampler = Proposer(GRID, objective, price=lambda one: 0.04 * float(one["cpu_cores"]), limit_ms=limit_ms)
    records: list[TrialRecord] = []
    for number in range(14):
        records.append(measured(number, sampler.propose(records, [], number).configuration))
    best = min(losses for one in records if (losses := objective.losses(one)))[0]
    optimum = min(losses for one in GRID if (losses := objective.losses(measured(0, one))))[0]
    assert best <= optimum + 0.06


def test_a_second_process_goes_on_as_the_first_would_have() -> None:
    objective = Objective(("cost_per_million_requests",))
    records = [measured(number, one) for number, one in enumerate(GRID.sample(6, 1))]
    first, second = (Proposer(GRID, objective, seed=3, limit_ms=50.0) for _ in range(2))
    for count in range(1, 6):
        first.propose(records[:count], [], count)
    assert first.propose(records, [], 6) == second.propose(records, [], 6)


def test_several_at_once_are_different_questions() -> None:
    sampler = Proposer(
        GRID, Objective(("cost_per_million_requests",)), price=lambda one: 0.04 * float(one["cpu_cores"])
    )
    records = [measured(number, one) for number, one in enumerate(GRID.sample(4, 1))]
    pending: list[dict[str, ParameterValue]] = []
    for turn in range(8):
        pending.append(sampler.propose(records, pending, turn).configuration)
    assert len({GRID.ranks(one) for one in pending}) == 8


def test_an_earlier_study_says_where_to_look_first() -> None:
    before = [measured(number, one, scale=0.5) for number, one in enumerate(GRID)]
    optimum = min(one.cost_per_million_requests or np.inf for one in (measured(0, each) for each in GRID))

    def first_cost(earlier: list[TrialRecord], done: Sequence[TrialRecord] = ()) -> float:
        objective = Objective(("cost_per_million_requests",))
        sampler = Proposer(GRID, objective, price=lambda one: 0.04 * float(one["cpu_cores"]), warm_start=earlier)
        return (measured(0, sampler.propose(done, [], 0).configuration).cost_per_million_requests or np.inf) / optimum

    assert first_cost(before) == pytest.approx(1.0)
    today = [measured(0, {"cpu_cores": 8, "batch_size": 1})]  # `current` is tried before anything is asked
    assert first_cost(before, today) == pytest.approx(1.0)
    assert first_cost([]) > 1.2
    # Another tool may not say every parameter.
    parts = [
        one.model_copy(update={"configuration": {"batch_size": one.configuration["batch_size"], "other": 1}})
        for one in before
    ]
    assert first_cost(parts) < 3


@pytest.mark.parametrize("count", [20, 200])
def test_what_another_study_measured_is_brought_to_this_ones_level(count: int) -> None:
    configurations = list(GRID)
    candidates = candidates_of(GRID, configurations, lambda one: 0.04 * float(one["cpu_cores"]))
    known = [measured(number, one) for number, one in enumerate(configurations)]
    truth = np.log([one.capacity_qps.value if one.capacity_qps else np.nan for one in known])
    some = np.random.default_rng(1).integers(0, len(truth), count)
    earlier = trials(some.tolist(), (truth[some] - 2.0).tolist())  # a service that is seven times slower
    served = np.flatnonzero(~np.isnan(truth))
    found = Surrogate(candidates, (candidates, earlier.only(~np.isnan(earlier.log_capacity))))
    own = trials(served[[3, 11]].tolist(), truth[served[[3, 11]]].tolist())
    ((_, first),) = found.predict(Trials.none(), np.zeros(0, dtype=np.int64))
    assert np.corrcoef(first.middle()[served], truth[served])[0, 1] > 0.9
    assert found.carried is not None
    assert np.median(np.abs(found.carried.predict(own).middle()[served] - truth[served])) < 0.25


def test_a_configuration_is_predicted_alike_among_all_and_among_some() -> None:
    """All of a large space are asked for in parts, by what is kept of them between trials; some are not."""
    space = SearchSpace(tuple(Parameter(name, tuple(range(1, 14))) for name in "abc"))
    predictor = Predictor(candidates_of(space, space.sample(3_000, 0), lambda one: float(one["a"])))
    some = np.array([0, 1_023, 1_024, 2_196])
    for seen in (trials([5], [3.0]), trials([5, 2_000], [3.0, 4.0])):
        every, few = predictor.predict(seen), predictor.predict(seen, some)
        np.testing.assert_allclose(every.middle()[some], few.middle(), rtol=1e-5)


def test_an_explanation_names_what_matters() -> None:
    space = SearchSpace((*GRID.parameters, Parameter("idle", (1, 2, 3))))
    sampler = Proposer(space, Objective(("capacity_qps",)), limit_ms=50.0)
    records = [measured(number, one) for number, one in enumerate(space.sample(30, 1))]
    found = sampler.explain(records)
    assert found is not None
    assert list(found.importance)[-1] == "idle"
    assert found.surface is not None
    assert len(found.surface.value) == len(found.surface.y_values)
    values: NDArray[np.float64] = np.array(found.surface.value, dtype=float)
    assert (np.array(found.surface.low, dtype=float) <= values * 1.001).all()
    assert (values <= np.array(found.surface.high, dtype=float) * 1.001).all()
    assert sampler.explain([]) is None


@pytest.mark.parametrize(
    ("name", "memory"), [("NVIDIA-A100-SXM4-80GB", 80), ("Tesla T4", 16), ("NVIDIA A100-PCIE-40GB", 40), ("H100", 80)]
)
def test_a_gpu_is_known_by_what_it_is_called(name: str, memory: float) -> None:
    found = gpu_physics(name)
    assert found is not None
    assert found[2] == memory
    assert gpu_physics("a potato") is None


@pytest.mark.parametrize(
    ("slices", "compute", "of_a_share", "of_all"),
    [
        (("25%", "100%"), 0.5, (0.5, 0.25), (0.5, 1.0)),  # MPS and HAMi: each share is its own
        (("20Gi", "80Gi"), 0.5, (0.5, 0.25), (0.5, 1.0)),
        (("1g.10gb", "7g.80gb"), 0.5, (0.5 / 7, 0.125), (0.5, 1.0)),  # a MIG instance, shared in its turn
        (("1g.10gb", "7g.80gb"), None, (1 / 7, 0.125), (1.0, 1.0)),
        (("25%", "100%"), None, (0.25, 0.25), (1.0, 1.0)),
    ],
)
def test_a_share_of_compute_is_all_that_bounds_it_except_within_a_mig_instance(
    slices: tuple[str, str], compute: float | None, of_a_share: tuple[float, float], of_all: tuple[float, float]
) -> None:
    part = () if compute is None else (Parameter("sm", (compute, 1.0), "gpu_compute"),)
    space = SearchSpace((Parameter("gpu", ("A100-80GB",), "gpu_type"), Parameter("part", slices, "gpu_memory"), *part))
    chosen = [
        {"gpu": "A100-80GB", "part": one} | ({} if compute is None else {"sm": compute}) for one in slices
    ]  # fmt: skip
    found = candidates_of(space, chosen, lambda _: None).physics
    whole = np.log(np.array(gpu_physics("A100-80GB")))
    for row, (of_compute, of_memory) in zip(found, (of_a_share, of_all), strict=True):
        assert row[:3] - whole == pytest.approx(np.log([of_compute, of_memory, of_memory]), abs=1e-6)


def test_a_lucky_launch_is_believed_in_part_and_what_is_exact_in_full() -> None:
    flat = Prediction(
        np.zeros((3, 1)), np.full((3, 1), 0.1), np.ones((3, 1)), np.zeros(3), np.ones(3), np.full((3, 4), 0.25)
    )
    known = trials([0, 2, 2], [0.3, 0.3, 0.3])
    _, exactly = believed_capacity([(1.0, flat)], replace(known, error=np.zeros(3)))
    numbers, believed = believed_capacity([(1.0, flat)], replace(known, error=np.full(3, 0.02)))
    assert numbers.tolist() == [0, 2]
    assert exactly == pytest.approx([0.3, 0.3], abs=1e-6)
    assert 0.1 < believed[0] < believed[1] < 0.25  # two launches are believed more than one


@pytest.mark.parametrize(
    ("metric", "predicted"),
    [
        ("tokens_per_second", "capacity_qps"),
        ("cost_per_million_output_tokens", "cost_per_million_requests"),
        ("cost_per_million_tokens", "cost_per_million_requests"),
        ("energy_per_million_output_tokens", "energy_per_million_requests"),
        ("cost_per_hour", "cost_per_hour"),
        ("best_effort_qps", "best_effort_qps"),
    ],
)
def test_what_is_predicted_is_called_what_it_is(metric: Metric, predicted: str) -> None:
    assert Objective((metric,), 100.0).predicted == predicted


def test_a_surface_of_tokens_says_the_requests_that_it_predicts() -> None:
    space = SearchSpace(GRID.parameters)
    sampler = Proposer(space, Objective(("tokens_per_second",)), limit_ms=50.0)
    tokens = LanguageRecord(output_tokens=100.0, input_tokens=100.0, tokens_per_second=1e6)
    records = [
        measured(number, one).model_copy(update={"language": tokens}) for number, one in enumerate(space.sample(12, 1))
    ]
    found = sampler.explain(records)
    assert found is not None
    assert found.surface is not None
    assert found.metric == "capacity_qps"
    shown = [value for row in found.surface.value for value in row if value is not None]
    held = [one.capacity_qps.value for one in records if one.capacity_qps is not None]
    assert max(shown) < 10 * max(held)
