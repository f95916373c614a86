"""Launches on a machine whose speed changes, compared at its mean speed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest

from results import Estimate, TrialRecord
from results.machine import TimedWork
from tuner.search.contenders import believed
from tuner.search.machine_speed import at_mean_speed
from tuner.search.objective import Objective

COST = Objective(("cost_per_million_requests",))


def launch(number: int, capacity: float, work_ms: float | None, work_error: float | None = 0.02) -> TrialRecord:
    """Of a configuration at a price of 1 an hour, while fixed work took so long."""
    machine = {"server_cores": 1, "others_cores": 0.0, "work_ms": work_ms, "work_error": work_error}
    return TrialRecord.model_validate({
        "number": number, "state": "complete", "configuration": {"n": number}, "cost_per_hour": 1.0,
        "capacity_qps": Estimate(value=capacity, low=0.95 * capacity, high=1.05 * capacity),
        "cost_per_million_requests": 1e6 / 3600 / capacity, "machine": machine,
    })  # fmt: skip


@dataclass
class DriftingMachine:
    """Its speed is another at every launch; servers feel `sensitivity` of it. Launches differ by `noise` besides."""

    sensitivity: float
    noise: float
    drift: float
    random: random.Random

    def launch(self, number: int, capacity: float) -> TrialRecord:
        slower = self.random.gauss(0, self.drift)
        shown = capacity * math.exp(-self.sensitivity * slower + self.random.gauss(0, self.noise))
        return launch(number, shown, 3 * math.exp(slower))


@pytest.mark.parametrize("true", [0.0, 0.5, 1.0, 1.3])
def test_what_servers_feel_of_the_machines_speed_is_learned_from_launches_alike(true: float) -> None:
    drawn = np.random.default_rng(1)
    groups = np.repeat(np.arange(6), 4)
    work = drawn.normal(1.0, 0.15, len(groups))
    figures = 4.0 + 0.3 * groups - true * work + drawn.normal(0, 0.04, len(groups))
    figures[3] -= 0.7  # one in twenty is halved by something else
    found = at_mean_speed(groups, work, np.full(len(groups), 0.02), figures, np.full(len(groups), 0.03))
    assert found.effect is not None
    assert found.effect.sensitivity == pytest.approx(true, abs=0.3)
    apart = np.array([np.std(figures[groups == one]) for one in range(1, 6)])
    corrected = np.array([np.std((figures + found.shift)[groups == one]) for one in range(1, 6)])
    assert true == 0 or corrected.mean() < 0.8 * apart.mean()
    assert found.error.max() < 0.06


def test_launches_while_the_machine_was_slow_do_not_make_a_configuration_the_worse_one() -> None:
    """Two are equal; one was launched while the machine was slow, by bad luck, and a third shows what that costs."""
    machine = DriftingMachine(1.0, 0.03, 0.2, random.Random(3))
    third = [machine.launch(2, 80) for _ in range(6)]
    unlucky, lucky = launch(0, 100 / 1.3, 3 * 1.3), launch(1, 100 * 1.2, 3 / 1.2)
    again = {0: [launch(0, 100 / 1.2, 3 * 1.2)], 1: [launch(1, 100 * 1.25, 3 / 1.25)], 2: third[1:]}
    told = believed(COST, [unlucky, lucky, third[0]], again)
    untold = believed(
        COST,
        [one.model_copy(update={"machine": None}) for one in (unlucky, lucky, third[0])],
        {number: [one.model_copy(update={"machine": None}) for one in found] for number, found in again.items()},
    )
    assert told is not None
    assert untold is not None
    assert untold.probability_better(1, 0) > 0.97
    assert 0.2 < told.probability_better(1, 0) < 0.85
    assert told.launch_spread < untold.launch_spread


def test_a_machine_that_was_not_timed_and_one_that_does_not_change_leave_figures_as_they_are() -> None:
    records = [launch(0, 100, 3.0), launch(1, 110, None), launch(2, 120, 6.0, work_error=None)]
    work, errors = np.array([TimedWork.of(one) for one in records]).T
    assert np.isfinite(work).tolist() == [True, False, False]  # a server that kept itself busy slows the work itself
    groups, figures = np.arange(3), np.log([100.0, 110.0, 120.0])
    assert not at_mean_speed(groups, work, errors, figures, np.zeros(3)).shift.any()
    noisy = at_mean_speed(groups, np.log([3.0, 3.3, 2.8]), np.full(3, 0.1), figures, np.zeros(3))
    assert not noisy.shift.any(), "what differs by no more than its own error is no change of speed"
    assert not noisy.error.any()


@pytest.mark.parametrize("phases", [(0.2, -0.2), (0.0, 0.0)])
def test_the_sensitivity_is_learned_within_configurations(phases: tuple[float, float]) -> None:
    """However far apart the machines of two configurations were."""
    drawn = np.random.default_rng(4)
    groups = np.repeat(np.arange(2), 20)
    true = np.repeat(phases, 20) + drawn.normal(0, 0.1, 40)
    work, figures = true + drawn.normal(0, 0.04, 40), 4.0 - true + drawn.normal(0, 0.03, 40)
    found = at_mean_speed(groups, work, np.full(40, 0.04), figures, np.full(40, 0.03))
    assert found.effect is not None
    assert found.effect.sensitivity == pytest.approx(1.0, abs=0.2)


def test_another_reference_moves_all_launches_alike_and_none_where_the_speed_did_not_change() -> None:
    groups, figures, exactly = np.arange(4), np.log([100.0, 80.0, 110.0, 90.0]), np.zeros(4)
    work = np.array([*np.log([3.0, 3.6, 2.8]), math.nan])
    errors = np.array([0.02, 0.02, 0.02, math.nan])
    mean = at_mean_speed(groups, work, errors, figures, exactly)
    other = at_mean_speed(groups, work, errors, figures, exactly, reference=math.log(2.5))
    assert np.ptp(other.shift - mean.shift) == pytest.approx(0)
    assert (other.shift > mean.shift).all(), "at a faster machine's speed all of them hold more"
    vague = at_mean_speed(groups, work, 10 * errors, figures, exactly, reference=math.log(2.5))
    assert not vague.shift.any()


def test_what_nothing_was_launched_twice_for_is_corrected_by_half_and_doubted() -> None:
    exactly = np.zeros(2)
    found = at_mean_speed(np.arange(2), np.log([3.0, 6.0]), exactly, np.log([100.0, 50.0]), exactly)
    assert found.effect is not None
    assert found.effect.sensitivity == 0.5
    assert found.shift == pytest.approx(np.array([-1, 1]) * math.log(2) / 4)
    assert found.error == pytest.approx(np.full(2, math.log(2) / 4))


def test_a_launch_that_was_timed_badly_is_hardly_corrected_and_spoils_no_other() -> None:
    drawn = np.random.default_rng(2)
    groups, errors = np.arange(30), np.full(30, 0.02)
    work = drawn.normal(1.0, 0.1, 30)
    figures = 4.0 - work
    clean = at_mean_speed(groups, work, errors, figures, np.zeros(30))
    errors[0], work[0] = 0.3, 1.5
    spoiled = at_mean_speed(groups, work, errors, figures, np.zeros(30))
    assert abs(spoiled.shift[0]) < 0.1 * 0.5
    assert np.abs(spoiled.shift - clean.shift)[1:].max() < 0.02


def test_configurations_that_met_the_machine_in_different_phases_are_compared_with_the_doubt_of_that() -> None:
    """Equal ones, one in a slow phase, one in a fast one: the sensitivity's error is that of all their launches."""
    covered, runs = 0, 40
    for seed in range(runs):
        drawn = random.Random(seed)
        launches: list[list[TrialRecord]] = []
        for number, phase in enumerate((0.2, -0.2)):
            slower = [phase + drawn.gauss(0, 0.02) for _ in range(3)]
            launches.append([
                launch(number, 100 * math.exp(-one + drawn.gauss(0, 0.05)), 3 * math.exp(one)) for one in slower
            ])  # fmt: skip
        beliefs = believed(COST, [one[0] for one in launches], {place: one[1:] for place, one in enumerate(launches)})
        assert beliefs is not None
        saving = beliefs.saving(1, 0)
        covered += saving.low <= 0 <= saving.high
    assert covered >= 0.9 * runs
