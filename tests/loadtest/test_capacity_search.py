"""The search on a queue whose capacity is known, without a network and in simulated time."""

from __future__ import annotations

import pytest

from loadtest.capacity import CapacitySearch
from tests.loadtest.simulated import SimulatedProber, true_capacity

SERVICE_S, LIMIT_S = 0.005, 0.030


@pytest.fixture(scope="module")
def truth() -> float:
    return true_capacity(SERVICE_S, LIMIT_S)


def search(seed: int, *, first: float | None = None, seconds: float = 40.0, limit_s: float = LIMIT_S) -> CapacitySearch:
    prober = SimulatedProber(SERVICE_S, limit_s, seconds, seed * 1000)
    return CapacitySearch(prober, saturated_qps=0.95 / SERVICE_S, precision=0.05, first_rate_qps=first)


def test_the_capacity_is_found_and_its_interval_covers_the_truth(truth: float) -> None:
    found = [search(seed).run() for seed in range(20)]
    capacities = [one.capacity for one in found if one.capacity is not None]
    assert len(capacities) == 20
    assert sum(abs(one.value / truth - 1) < 0.15 for one in capacities) >= 18
    assert sum(one.low <= truth <= one.high for one in capacities) >= 18
    assert all(one.low <= one.value <= one.high for one in capacities)


def test_a_rate_far_above_capacity_prunes_at_once(truth: float) -> None:
    wanted = search(1, first=1.3 * truth)
    found = wanted.run()
    assert found.outcome == "pruned"
    assert found.bound_qps == pytest.approx(1.3 * truth)
    assert len(found.probes) <= 2
    assert "missed the limit" in found.reason


def test_a_rate_far_below_capacity_is_never_pruned(truth: float) -> None:
    for seed in range(10):
        found = search(seed, first=0.7 * truth).run()
        assert found.outcome == "measured"
        assert found.probes[0].rate_qps == pytest.approx(0.7 * truth)


def test_a_limit_that_nothing_holds_is_infeasible() -> None:
    found = search(0, limit_s=0.004).run()
    assert found.outcome == "infeasible"
    assert found.capacity is None
    assert "missed the limit" in found.reason


def test_without_time_nothing_is_claimed() -> None:
    found = search(0, seconds=1.0).run()
    assert found.outcome == "invalid"
    assert found.probes == ()


def test_the_p99_is_that_of_a_probe_which_held_within_the_capacity(truth: float) -> None:
    found = search(3).run()
    assert found.best is not None
    assert found.capacity is not None
    assert found.best.misses <= 0.01 * found.best.requests
    assert found.best.rate_qps <= found.capacity.value * 1.001
