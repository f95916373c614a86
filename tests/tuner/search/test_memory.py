"""A memory limit that no launch came near: the same server with a larger one, whose launches count together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from results import Estimate, LanguageRecord, TrialRecord
from search_spaces import Configuration, Parameter, ParameterValue, SearchSpace
from tuner.outcome.recommendation import recommend
from tuner.search.contenders import believed
from tuner.search.final import FinalRules, next_round
from tuner.search.memory import MemoryLimit
from tuner.search.objective import UNREADY, Objective, cost_per_million_requests
from tuner.search.proposer import Proposer
from tuner.spec.reading import load_spec
from tuner.study.memory_limit import memory_limit

COST = Objective(("cost_per_million_requests",))
MEMORY = Parameter("memory", ("1Gi", "2Gi", "4Gi"), "memory")
SPACE = SearchSpace((Parameter("cpu_cores", (1, 2), "cpu_cores"), MEMORY))
LIMIT = MemoryLimit(SPACE, MEMORY)
GIB = 2**30


def price(configuration: Configuration) -> float:
    return 0.04 * float(configuration["cpu_cores"]) + 0.005 * float(str(configuration["memory"]).removesuffix("Gi"))


def launch(
    number: int, memory: str, capacity: float, used_gib: float, cores: int = 1, **fields: object
) -> TrialRecord:  # fmt: skip
    configuration: dict[str, ParameterValue] = {"cpu_cores": cores, "memory": memory}
    low, high = capacity * math.exp(-0.2), capacity * math.exp(0.2)
    return TrialRecord.model_validate(
        {
            "number": number, "state": "complete", "configuration": configuration,
            "cost_per_hour": price(configuration), "memory_peak_bytes": int(used_gib * GIB),
            "capacity_qps": Estimate(value=capacity, low=low, high=high),
            "cost_per_million_requests": cost_per_million_requests(price(configuration), capacity),
            "machine": {"server_cores": cores, "others_cores": 0.0, "memory_stalled": 0.0}, **fields,
        }
    )  # fmt: skip


def test_launches_of_one_server_count_together_and_the_cheaper_limit_is_better() -> None:
    records = [launch(0, "2Gi", 67, 0.7), launch(1, "1Gi", 58, 0.6), launch(2, "1Gi", 70, 0.6, cores=2)]
    confirmations = {0: [launch(0, "2Gi", 61, 0.7), launch(0, "2Gi", 62, 0.7)]}
    apart, together = (believed(COST, records, confirmations, memory=memory) for memory in (None, LIMIT))
    assert apart is not None
    assert together is not None
    assert apart.best() == 0
    assert together.best() == 1
    assert together.probability_better(1, 0) == 1
    assert together.figure(0) == together.figure(1)
    assert together.figure(1).value == pytest.approx(62, rel=0.05)
    saving = together.saving(1, 0)
    assert (saving.low, saving.value, saving.high) == pytest.approx((0.1, 0.1, 0.1))  # 0.045 of 0.05 an hour
    assert together.launches == (4, 4, 1)


def test_what_is_believed_of_a_server_does_not_depend_on_which_of_its_trials_came_first() -> None:
    small, large, other = launch(0, "1Gi", 58, 0.6), launch(1, "4Gi", 67, 0.7), launch(2, "1Gi", 150, 0.6, cores=2)
    one, another = (
        believed(COST, records, {}, memory=LIMIT) for records in ([small, large, other], [large, small, other])
    )
    assert one is not None
    assert another is not None
    for number in (0, 2):
        assert one.figure(number).value == pytest.approx(another.figure(number).value, rel=1e-9)


@pytest.mark.parametrize(
    "small",
    [
        launch(1, "1Gi", 58, 0.97),  # it may have felt its limit
        launch(1, "1Gi", 58, 0.6, memory_peak_bytes=None),  # nobody knows
        launch(1, "1Gi", 58, 0.6, machine=None),  # nor whether it waited, as in a cluster
        launch(1, "1Gi", 58, 0.6, cores=2),  # another server
        launch(1, "1Gi", 58, 0.5),  # the larger used much more
        launch(1, "1Gi", 20, 0.7),  # and here it was much faster: a JVM may be, with a larger heap
        launch(1, "1Gi", 58, 0.7, machine={"server_cores": 1, "others_cores": 0.0, "memory_stalled": 0.2}),
        launch(
            1, "1Gi", 58, 0.7, state="pruned", reason="dearer", capacity_bound_qps=58.0
        ),  # was never measured to its end
    ],
)
def test_others_are_believed_to_be_servers_of_their_own(small: TrialRecord) -> None:
    beliefs = believed(COST, [launch(0, "2Gi", 67, 1.2), small], {}, memory=LIMIT)
    assert beliefs is not None
    assert beliefs.same_server(0) == ()
    assert beliefs.figure(0) != beliefs.figure(1)


def test_where_the_price_says_nothing_the_least_memory_is_named_and_one_of_a_server_launched_again() -> None:
    records = [launch(0, "2Gi", 66, 0.7), launch(1, "1Gi", 64, 0.6), launch(2, "4Gi", 65, 0.7)]
    records.append(launch(3, "1Gi", 65, 0.6, cores=2))
    beliefs = believed(Objective(("capacity_qps",)), records, {}, memory=LIMIT)
    assert beliefs is not None
    assert beliefs.loss(0) == beliefs.loss(1) == beliefs.loss(2)
    assert beliefs.best((0, 1, 2)) == 1
    chosen = next_round(beliefs, None, {}, 9, FinalRules())
    assert len([one for one in chosen if one != 3]) == 1


def test_energy_is_that_of_each_configuration() -> None:
    spent = LanguageRecord(output_tokens=100.0, energy_per_million_output_tokens=500.0)
    records = [
        launch(0, "2Gi", 66, 0.7).model_copy(update={"language": spent}),
        launch(1, "1Gi", 50, 0.6).model_copy(update={"language": spent}),
    ]
    beliefs = believed(Objective(("energy_per_million_output_tokens",)), records, {}, memory=LIMIT)
    assert beliefs is not None
    assert not beliefs.surely_better(1, 0, 0.95)  # 50 of 66 requests/s at as much energy each is no saving


def test_a_limit_that_a_later_launch_came_near_is_one_that_is_felt() -> None:
    records = [launch(0, "2Gi", 67, 0.7), launch(1, "1Gi", 58, 0.6)]
    assert LIMIT.servers(records, {}) == {0: 1, 1: 1}
    assert LIMIT.servers(records, {1: [launch(1, "1Gi", 40, 0.98)]}) == {0: 0, 1: 1}
    short = TrialRecord(number=1, state="failed", reason=f"{UNREADY} 20 min", configuration=records[1].configuration)
    assert LIMIT.servers(records, {1: [short]}) == {0: 1, 1: 1}  # which tells nothing


def test_more_memory_than_was_used_is_tried_when_nothing_else_is_left() -> None:
    proposer = Proposer(SPACE, COST, price=price, limit_ms=100.0, memory=LIMIT)
    records = [launch(0, "2Gi", 60, 0.7)]
    for number in range(1, 6):
        proposed = proposer.propose(records, [], number)
        found = proposed.configuration
        records.append(
            launch(number, str(found["memory"]), 60.0 * int(found["cpu_cores"]), 0.7, int(found["cpu_cores"]))
        )
    tried = [(one.configuration["cpu_cores"], one.configuration["memory"]) for one in records]
    one_core = [memory for cores, memory in tried if cores == 1]
    assert one_core.index("1Gi") < one_core.index("4Gi")
    assert tried.index((1, "4Gi")) >= 3  # what a second core does was asked before
    assert len(set(tried)) == 6


def test_the_best_server_with_no_more_memory_than_it_needs_is_better_by_the_price() -> None:
    records = [launch(0, "4Gi", 60, 1.2), launch(1, "4Gi", 61, 1.2, cores=2)]
    proposer = Proposer(SPACE, COST, price=price, limit_ms=100.0, memory=LIMIT)
    proposed = proposer.propose(records, [], 2)
    assert proposed.configuration == {"cpu_cores": 1, "memory": "2Gi"}  # 1Gi would not hold what it used
    assert proposed.expected_improvement is not None
    assert proposed.expected_improvement >= math.log(0.06 / 0.05) - 1e-9
    believed_loss = math.log(0.06 / 60 / 3600 * 1e6)
    assert proposer.untried_improvement(records, believed_loss) >= math.log(0.06 / 0.05) - 0.05


@pytest.mark.parametrize("felt", [{"machine": None}, {"memory_peak_bytes": None}, {"state": "failed"}])
def test_what_is_not_known_to_need_less_memory_is_promised_no_saving(felt: dict[str, Any]) -> None:
    pool = Proposer(SPACE, COST, price=price, limit_ms=100.0).pool
    assert LIMIT.enough(pool, launch(0, "4Gi", 60, 0.7)) == pool.number_of({"cpu_cores": 1, "memory": "1Gi"})
    assert LIMIT.enough(pool, launch(0, "4Gi", 60, 3.9)) is None
    assert LIMIT.enough(pool, launch(0, "4Gi", 60, 0.7, **felt)) is None


def test_where_all_that_is_left_is_the_same_server_nothing_is_expected_of_it() -> None:
    proposer = Proposer(SPACE, COST, price=price, limit_ms=100.0, memory=LIMIT)
    records = [launch(cores, "1Gi", 60.0 * cores, 0.7, cores) for cores in (1, 2)]
    assert proposer.untried_improvement(records, math.log(0.1)) == 0


SPEC = """version: 1
service:
  name: one
  command: [python, server.py, --port, "{port}"TOLD]
request: {path: /}
slo: {p99: 100ms}
space:
  parameters:
    memory: {choices: [1Gi, 2Gi], role: memory}
    cpu_cores: {choices: [1, 2], role: cpu_cores}
prices: {cpu_core_hour: 0.04, memory_gib_hour: 0.005}
"""


@pytest.mark.parametrize("told", ["", ', --heap, "{memory}"'])
def test_a_server_that_is_told_its_limit_may_do_something_with_it(tmp_path: Path, told: str) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("TOLD", told))
    found = memory_limit(load_spec(tmp_path / "spec.yaml"))
    assert (found is None) == bool(told)


def test_the_reasons_say_which_launches_count_too_and_name_another_server_as_the_next_best(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("TOLD", ""))
    records = [launch(0, "2Gi", 67, 0.7), launch(1, "1Gi", 58, 0.6), launch(2, "1Gi", 70, 0.6, cores=2)]
    found = recommend(load_spec(tmp_path / "spec.yaml"), records, {1: [launch(1, "1Gi", 64, 0.6)]})
    assert found.trial == 1
    assert any("Launches with memory=2Gi count too: none came near its limit" in one for one in found.reasons)
    assert any(one.startswith("The next best, cpu_cores=2 memory=1Gi,") for one in found.reasons), found.reasons
