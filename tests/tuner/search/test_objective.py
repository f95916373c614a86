"""The objective: what ranks, and from which rate on a configuration is worth measuring."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results import (
    Estimate,
    LanguageRecord,
    Latencies,
    TrialRecord,
)
from tuner.search.objective import Objective, cost_per_million_requests, pareto_front, replicas_for

CHEAPEST = Objective(("cost_per_million_requests",))


def record(number: int, capacity: float, price: float, p99: float = 20.0) -> TrialRecord:
    return TrialRecord(
        number=number, state="complete", configuration={"x": number}, cost_per_hour=price,
        capacity_qps=Estimate(value=capacity, low=capacity, high=capacity),
        latency=Latencies(p99_ms=Estimate(value=p99, low=p99, high=p99)),
        cost_per_million_requests=cost_per_million_requests(price, capacity),
    )  # fmt: skip


def test_a_million_requests_at_100_per_second_take_10_000_seconds() -> None:
    assert cost_per_million_requests(0.36, 100) == pytest.approx(0.36 * 10_000 / 3600)


def test_the_cheapest_ranks_first_and_what_is_not_complete_never_ranks() -> None:
    pruned = TrialRecord(number=9, state="pruned", configuration={}, capacity_bound_qps=1e6, cost_per_hour=0.001)
    ranked = CHEAPEST.ranked([record(0, 100, 0.2), record(1, 100, 0.1), pruned, record(2, 400, 0.2)])
    assert [one.number for one in ranked] == [2, 1, 0]


def test_at_the_break_even_rate_the_costs_are_equal() -> None:
    best = record(0, 100, 0.1)
    rate = CHEAPEST.break_even_qps(0.25, best)
    assert rate == pytest.approx(250)
    assert record(1, 250, 0.25).cost_per_million_requests == pytest.approx(best.cost_per_million_requests)


def test_without_a_best_or_a_price_nothing_breaks_even() -> None:
    assert CHEAPEST.break_even_qps(0.25, None) is None
    assert CHEAPEST.break_even_qps(None, record(0, 100, 0.1)) is None
    assert Objective(("cost_per_million_requests", "p99_ms")).break_even_qps(0.1, record(0, 100, 0.1)) is None


def test_the_largest_capacity_breaks_even_at_that_of_the_best() -> None:
    assert Objective(("capacity_qps",)).break_even_qps(None, record(0, 123, 1)) == 123


def test_a_fleet_is_whole_containers() -> None:
    fleet = Objective(("cost_per_hour",), target_qps=1000)
    best = record(0, 300, 0.10)
    assert replicas_for(1000, 300) == 4
    assert fleet.values(best) == pytest.approx((0.40,))
    # At 0.15 an hour, two are cheaper than 0.40: each has to carry half of the target.
    assert fleet.break_even_qps(0.15, best) == pytest.approx(500)
    assert fleet.break_even_qps(0.40, best) == math.inf


def test_the_front_leaves_out_what_another_beats_in_everything() -> None:
    cheap, large, fast, worse = record(0, 100, 0.1), record(1, 300, 0.6), record(2, 90, 0.3, p99=5), record(3, 90, 0.5)
    assert [one.number for one in pareto_front([cheap, large, fast, worse])] == [0, 1, 2]


def test_costs_of_tokens_are_those_of_requests_over_their_tokens() -> None:
    """100 requests/s of 200 output and 300 input tokens at 0.36 an hour."""
    language = LanguageRecord(output_tokens=200, input_tokens=300).at(100, 0.36)
    assert language.output_tokens_per_second == 20_000
    assert language.tokens_per_second == 50_000
    assert language.cost_per_million_output_tokens == pytest.approx(cost_per_million_requests(0.36, 100) / 200)
    assert language.cost_per_million_tokens == pytest.approx(cost_per_million_requests(0.36, 100) / 500)
    assert LanguageRecord(output_tokens=200).at(None, 0.36).tokens_per_second is None


def test_what_is_cheapest_per_token_ranks_by_the_tokens_that_were_measured() -> None:
    """The second is dearer per request, and its answers are twice as long."""
    short = record(0, 100, 0.1)
    longer = record(1, 80, 0.1)
    short = short.model_copy(update={"language": LanguageRecord(output_tokens=100).at(100, 0.1)})
    longer = longer.model_copy(update={"language": LanguageRecord(output_tokens=200).at(80, 0.1)})
    untold = record(2, 1000, 0.1)
    for metric in ("cost_per_million_output_tokens", "tokens_per_second"):
        objective = Objective((metric,))
        assert [one.number for one in objective.ranked([short, longer, untold])] == [1, 0]
        assert objective.losses(untold) is None
        assert objective.losses(short) is not None
    per_token = Objective(("cost_per_million_output_tokens",))
    assert per_token.break_even_qps(0.2, short) == CHEAPEST.break_even_qps(0.2, short)


def powered(number: int, capacity: float, watts: float, tokens: float = 100) -> TrialRecord:
    """Its GPUs drew so much at 80% of what it holds."""
    language = LanguageRecord(output_tokens=tokens, input_tokens=3 * tokens).at(capacity, 0.1)
    return record(number, capacity, 0.1).model_copy(update={"language": language.powered(watts, 0.8 * capacity)})


def test_energy_is_power_over_the_tokens_at_the_rate_where_it_was_drawn() -> None:
    """360 W at 10 requests/s of 100 output tokens: 0.36 J a token, so 100 Wh a million."""
    language = LanguageRecord(output_tokens=100, input_tokens=300).at(20, None).powered(360, 10)
    assert language.energy_per_million_output_tokens == pytest.approx(100)
    assert language.energy_per_million_tokens == pytest.approx(25)
    assert LanguageRecord(output_tokens=100).powered(None, 10).energy_per_million_tokens is None


def test_where_energy_is_the_objective_watts_stand_for_money() -> None:
    """The second holds twice as much, and draws three times the power."""
    objective = Objective(("energy_per_million_output_tokens",))
    frugal, fast, untold = powered(0, 10, 100), powered(1, 20, 300), record(2, 1000, 0.1)
    assert [one.number for one in objective.ranked([untold, fast, frugal])] == [0, 1]
    (saved,), (spent,) = objective.losses(frugal) or (), objective.losses(fast) or ()
    assert spent - saved == pytest.approx(math.log(1.5))
    assert objective.losses(untold) is None
    assert objective.break_even_qps(0.1, frugal) is None  # what another draws is not known before it runs
    losses = objective.losses_at(
        np.log([10.0, 20.0]), np.array([1.0, 1.0]), np.log([objective.hourly(one) or 0 for one in (frugal, fast)])
    )
    assert losses[0] == pytest.approx([saved, spent])
