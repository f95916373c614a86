"""The capacity that a trial must beat: what was surely reached, not a lucky figure."""

import math

import pytest

from results import Estimate, TrialRecord
from tuner.search.contenders import to_beat
from tuner.search.objective import Objective

CHEAPEST = Objective(("cost_per_million_requests",))


def _trial(number: int, value: float, low: float, high: float) -> TrialRecord:
    return TrialRecord(
        number=number, state="complete", configuration={"cores": number}, cost_per_hour=1.0,
        capacity_qps=Estimate(value=value, low=low, high=high), cost_per_million_requests=1e6 / 3600 / value,
    )  # fmt: skip


def test_a_wide_figure_does_not_set_the_bound() -> None:
    lucky, sure = _trial(0, 2131, 858, 5451), _trial(1, 1800, 1750, 1850)
    beat = to_beat(CHEAPEST, [lucky, sure])
    assert beat is not None
    assert beat.number == 1
    rate = CHEAPEST.break_even_qps(1.0, beat)
    assert rate == pytest.approx(1800 * math.exp(-0.1), rel=0.02)


def test_of_one_that_is_alone_it_is_what_it_surely_holds() -> None:
    beat = to_beat(CHEAPEST, [_trial(0, 2131, 858, 5451)])
    assert beat is not None
    assert beat.capacity_qps is not None
    assert 858 < beat.capacity_qps.value < 2131 / 1.5


def test_exact_figures_stand_and_nothing_is_beaten_before_one_is_complete() -> None:
    exact = _trial(0, 100, 100, 100)
    assert to_beat(CHEAPEST, [exact]) == exact
    assert to_beat(CHEAPEST, []) is None
    assert to_beat(CHEAPEST, [TrialRecord(number=0, state="failed", configuration={}, reason="no")]) is None


def test_how_much_more_it_may_hold_does_not_lower_the_rate_to_beat() -> None:
    """Beside neighbours the upper end alone is far away."""
    quiet = to_beat(CHEAPEST, [_trial(0, 128, 119, 138)])
    disturbed = to_beat(CHEAPEST, [_trial(0, 128, 119, 460)])
    assert quiet is not None
    assert disturbed is not None
    assert quiet.capacity_qps is not None
    assert disturbed.capacity_qps is not None
    assert disturbed.capacity_qps.value == quiet.capacity_qps.value
