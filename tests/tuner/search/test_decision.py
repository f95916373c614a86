"""What is believed of launches, who is launched again, and what is decided."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from results import Estimate, TrialRecord
from tuner.search.beliefs import Beliefs, believe
from tuner.search.contenders import believed, pooled_record, refuted
from tuner.search.decision import decide_deployment
from tuner.search.final import FinalRules, next_round
from tuner.search.launches import Contender, Expectation, LaunchFigure
from tuner.search.objective import Objective, cost_per_million_requests

COST = Objective(("cost_per_million_requests",))


def trial(
    number: int, capacity: float | None, price: float = 1.0, error: float = 0.02, **fields: object
) -> TrialRecord:
    """A launch that held a capacity with an interval; None: it did not serve."""
    shared = {"number": number, "configuration": {"n": number}, "cost_per_hour": price, **fields}
    if capacity is None:
        return TrialRecord.model_validate({"state": "infeasible", "reason": "too slow", **shared})
    low, high = capacity * math.exp(-1.96 * error), capacity * math.exp(1.96 * error)
    cost = cost_per_million_requests(price, capacity)
    estimate = Estimate(value=capacity, low=low, high=high)
    return TrialRecord.model_validate(
        {"state": "complete", "capacity_qps": estimate, "cost_per_million_requests": cost, **shared}
    )


def pruned(number: int, bound: float, **fields: object) -> TrialRecord:
    return TrialRecord.model_validate(
        {
            "number": number, "state": "pruned", "reason": "dearer", "configuration": {"n": number},
            "cost_per_hour": 1.0, "capacity_bound_qps": bound, **fields,
        }
    )  # fmt: skip


def capacities(*launches: Sequence[float]) -> tuple[list[TrialRecord], dict[int, list[TrialRecord]]]:
    """Trials 0, 1, ... with their launches."""
    records = [trial(number, shown[0]) for number, shown in enumerate(launches)]
    confirmations = {number: [trial(number, one) for one in shown[1:]] for number, shown in enumerate(launches)}
    return records, confirmations


def test_one_halved_launch_of_four_hardly_moves_what_is_believed() -> None:
    records, confirmations = capacities((100, 102, 98, 50), (90, 91, 89, 90))
    beliefs = believed(COST, records, confirmations)
    assert beliefs is not None
    assert beliefs.figure(0).value == pytest.approx(99, rel=0.04)
    assert beliefs.probability_better(0, 1) > 0.8


def test_what_neighbours_may_have_cost_a_launch_is_not_held_against_it() -> None:
    alone = trial(1, 60)
    wide = {"capacity_qps": Estimate(value=45, low=36, high=118)}
    beside = [
        trial(0, 45, machine={"server_cores": 2, "others_cores": 0.5, "disturbed": said}).model_copy(update=wide)
        for said in ("", "others used 0.5 of the server's 2 cores")
    ]
    chances = []
    for today in beside:
        beliefs = believed(COST, [today, alone], {})
        assert beliefs is not None
        chances.append(beliefs.probability_better(1, 0))
    assert chances[0] > 0.7
    assert chances[1] < 0.5


def test_the_spread_between_launches_is_learned_from_repeats() -> None:
    g = random.Random(1)
    spreads = {}
    for spread in (0.02, 0.2):
        shown = [[100 * math.exp(g.gauss(0, spread)) for _ in range(4)] for _ in range(4)]
        beliefs = believed(COST, *capacities(*shown))
        assert beliefs is not None
        spreads[spread] = beliefs.launch_spread
    assert spreads[0.02] < 0.07
    assert spreads[0.2] > 0.12


def in_turns(*launches: Sequence[float], told: bool = True) -> Beliefs:
    """Configurations with the capacities of their launches: the first alone, then one in each round."""
    return believe(
        [
            Contender(number, tuple(
                LaunchFigure(math.log(one), 0.02, round=place if told and place else None)
                for place, one in enumerate(shown)
            ))
            for number, shown in enumerate(launches)
        ],
        lambda figures: -figures,
    )  # fmt: skip


def test_a_machine_that_was_slow_in_a_round_was_slow_for_all() -> None:
    slow = (1.0, 1.0, 0.7, 1.2, 0.8)
    launches = [100 * one for one in slow], [112 * one for one in slow]
    assert in_turns(*launches).surely_better(1, 0, 0.95)
    assert not in_turns(*launches, told=False).surely_better(1, 0, 0.95)
    saving, apart = in_turns(*launches).saving(1, 0), in_turns(*launches, told=False).saving(1, 0)
    assert saving.low < 1 - 100 / 112 < saving.high
    assert saving.high - saving.low < 0.5 * (apart.high - apart.low)
    alone, together = in_turns(*launches).figure(0), in_turns(*launches, told=False).figure(0)
    assert alone.high / alone.low > 0.8 * together.high / together.low, "how fast the machine is stays unknown"


def test_rounds_decide_nothing_where_launches_differ_by_themselves() -> None:
    launches = (100, 88, 113, 97), (104, 118, 92, 108)
    rounds, apart = in_turns(*launches).saving(1, 0), in_turns(*launches, told=False).saving(1, 0)
    assert rounds.high - rounds.low > 0.8 * (apart.high - apart.low)
    assert rounds.value == pytest.approx(apart.value, abs=0.03)


def test_a_halved_launch_in_a_round_and_a_bound_before_it_hardly_move_what_is_believed() -> None:
    told = in_turns((100, 101, 50, 99), (90, 91, 89, 90))
    assert told.figure(0).value == pytest.approx(99, rel=0.05)
    bound = LaunchFigure(math.log(105), 0.0, below=True)
    later = tuple(LaunchFigure(math.log(one), 0.02, round=place + 1) for place, one in enumerate((100, 101)))
    other = Contender(1, tuple(replace(one, figure=one.figure - 0.1) for one in later))
    beliefs = believe([Contender(0, (bound, *later)), other], lambda figures: -figures)
    assert 93 < beliefs.figure(0).value < 103
    assert beliefs.best() == 0


def test_a_lucky_single_launch_is_shrunk_towards_what_is_expected() -> None:
    lucky = Contender(0, (LaunchFigure(math.log(140), 0.02),), Expectation(math.log(100), 0.1))
    beliefs = believe([lucky, Contender(1, (LaunchFigure(math.log(100), 0.02),))], lambda figures: -figures)
    assert 103 < beliefs.figure(0).value < 139


def test_the_interval_of_all_launches_holds_the_truth_as_often_as_it_says() -> None:
    g, inside = random.Random(0), 0
    for _ in range(150):
        shown = [[100 * math.exp(g.gauss(0, 0.1)) * (0.5 if g.random() < 0.05 else 1) for _ in range(3)] for _ in "abc"]
        beliefs = believed(COST, *capacities(*shown))
        assert beliefs is not None
        inside += sum(beliefs.figure(number).low <= 100 <= beliefs.figure(number).high for number in range(3))
    assert 0.9 <= inside / 450 <= 0.99


def test_a_pruned_trial_may_be_the_best_but_hardly_is() -> None:
    beliefs = believed(COST, [trial(0, 100), pruned(1, 97)], {})
    assert beliefs is not None
    assert 0.005 < beliefs.probability_best(1) < 0.3
    far = believed(COST, [trial(0, 100), pruned(1, 97, saturated_qps=20.0)], {})
    assert far is not None
    assert far.probability_best(1) < 0.005


def test_what_a_table_tells_is_exact() -> None:
    records = [trial(0, 100, error=0.0), trial(1, 101, error=0.0), pruned(2, 90)]
    beliefs = believed(COST, records, {})
    assert beliefs is not None
    assert (beliefs.launch_spread, beliefs.probability_best(1), beliefs.probability_best(0)) == (0.0, 1.0, 0.0)
    assert pooled_record(COST, records[1], [], beliefs) == records[1]


def test_half_of_its_launches_must_hold_the_slo() -> None:
    first = trial(0, 100)
    assert not refuted(first, [])
    assert refuted(first, [trial(0, None)])
    assert not refuted(first, [trial(0, None), trial(0, 95)])


def test_the_price_decides_with_the_capacity() -> None:
    records = [trial(0, 100, price=1.0), trial(1, 190, price=2.0)]
    beliefs = believed(COST, records, {0: [trial(0, 101)] * 3, 1: [trial(1, 188, price=2.0)] * 3})
    assert beliefs is not None
    saving = beliefs.saving(0, 1)
    assert saving.low < saving.value < saving.high
    assert saving.value == pytest.approx(1 - 190 / 200, abs=0.02)


def test_the_final_takes_turns_and_drops_who_cannot_be_best() -> None:
    records, confirmations = capacities((100,), (97,), (50,))
    beliefs = believed(COST, records, confirmations)
    assert beliefs is not None
    rules = FinalRules()
    assert set(next_round(beliefs, None, {}, 8, rules)) == {0, 1}
    assert next_round(beliefs, 2, {}, 8, rules)[1] == 2  # today's is launched again however poor it looks
    assert next_round(beliefs, 2, {}, 1, rules) == (beliefs.best(),)
    assert next_round(beliefs, None, {}, 0, rules) == ()


def test_the_final_does_not_end_before_the_best_was_launched_again() -> None:
    records, confirmations = capacities((100, 70, 72), (98, 71, 69), (90,))
    beliefs = believed(COST, records, confirmations)
    assert beliefs is not None
    assert beliefs.best() == 2  # since the others did worse again
    launched = {0: 2, 1: 2}
    assert next_round(beliefs, 0, launched, 0, FinalRules()) == (2, 0)
    assert next_round(beliefs, 0, launched, -1, FinalRules()) == (2,)
    assert next_round(beliefs, 0, launched, -2, FinalRules()) == ()
    assert next_round(beliefs, 0, launched | {2: 1}, 0, FinalRules()) == ()


def test_the_final_ends_when_one_is_surely_best_and_was_launched_again() -> None:
    records, confirmations = capacities((100, 101, 99), (60, 61, 60))
    beliefs = believed(COST, records, confirmations)
    assert beliefs is not None
    assert next_round(beliefs, 1, {0: 2, 1: 2}, 8, FinalRules()) == ()
    assert next_round(beliefs, 1, {0: 2}, 8, FinalRules()) != ()  # today's was not


def test_the_decision_is_to_deploy_keep_or_neither() -> None:
    surely = believed(COST, *capacities((60, 61, 60), (100, 101, 99)))
    same = believed(COST, *capacities((100, 104, 97), (101, 99, 103)))
    perhaps = believed(COST, *capacities((100, 97), (115, 118)))
    assert surely is not None
    assert same is not None
    assert perhaps is not None
    deployed = decide_deployment(surely, 0, 0.95)
    assert (deployed.number, deployed.action) == (1, "deploy")
    assert deployed.saving is not None
    assert 0 < deployed.saving.low < 0.4 < deployed.saving.high < 0.6
    kept = decide_deployment(same, 0, 0.95)
    assert (kept.number, kept.action, kept.saving) == (0, "keep", None)
    unsure = decide_deployment(perhaps, 0, 0.999)
    assert (unsure.number, unsure.action) == (1, "uncertain")
    assert decide_deployment(surely, None, 0.95).action == "deploy"
    assert decide_deployment(same, None, 0.95).action == "uncertain"


def test_what_is_recommended_is_never_dearer_than_today_measured_the_same_way() -> None:
    g = np.random.default_rng(0)
    for _ in range(30):
        shown = [list(np.exp(g.normal(math.log(100), 0.2, 3))) for _ in range(4)]
        beliefs = believed(COST, *capacities(*shown))
        assert beliefs is not None
        decision = decide_deployment(beliefs, 0, 0.95)
        assert beliefs.loss(decision.number) <= beliefs.loss(0)


def test_more_is_better_where_capacity_is_maximised() -> None:
    objective = Objective(("capacity_qps",))
    beliefs = believed(objective, *capacities((100, 101, 99), (200, 201, 199)))
    assert beliefs is not None
    decision = decide_deployment(beliefs, 0, 0.95, maximised=True)
    assert decision.saving is not None
    assert decision.saving.value == pytest.approx(1.0, abs=0.05)


def test_in_a_study_of_many_each_configuration_is_believed_to_be_what_it_is_among_few() -> None:
    few = [Contender(one, (LaunchFigure(math.log(100 + one), 0.05),), Expectation(4.5, 0.2)) for one in range(40)]
    few.append(Contender(40, (LaunchFigure(math.log(110), 0.05), LaunchFigure(math.log(60), 0.05))))
    few.append(Contender(41, (LaunchFigure(math.log(120), 0.0, below=True),), Expectation(4.5, 0.2)))
    more = [replace(few[one % 40], number=100 + one) for one in range(400)]
    alone, among = believe(few, lambda figures: -figures), believe([*few, *more], lambda figures: -figures)
    for end in ("value", "low", "high"):
        ratios = [getattr(among.figure(one), end) / getattr(alone.figure(one), end) for one in (*range(40), 41)]
        assert np.mean(ratios) == pytest.approx(1, abs=0.04), end  # a grid ends, and with it the tail
        assert max(np.abs(np.log(ratios))) < 0.12, end


def test_what_is_surely_better_than_todays_is_named_though_something_less_sure_may_be_better_still() -> None:
    losses = np.array([[0.0] * 10, [-0.1] * 10, [-1.0] * 6 + [0.3] * 4])
    beliefs = Beliefs((0, 1, 2), -losses, losses, 0.1, (4, 4, 4))
    assert beliefs.best() == 2
    decision = decide_deployment(beliefs, 0, 0.95)
    assert (decision.number, decision.action) == (1, "deploy")
    assert decide_deployment(beliefs, 0, 0.95, [0, 2]).action == "keep"
