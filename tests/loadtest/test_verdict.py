"""The verdict of one probe: sure when it should be, and seldom wrong although requests are correlated."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.verdict import Evidence, decide, decide_all
from tests.loadtest.simulated import latencies, true_capacity

SERVICE_S, LIMIT_S = 0.005, 0.030


def verdict(rate_qps: float, count: int, seed: int) -> str:
    missed = latencies(rate_qps, SERVICE_S, count, seed) > LIMIT_S
    return decide(Evidence.of(missed, LIMIT_S * rate_qps), 0.01)


def test_clear_cases_are_decided() -> None:
    assert decide(Evidence.of(np.zeros(1000, dtype=bool)), 0.01) == "met"
    assert decide(Evidence.of(np.ones(20, dtype=bool)), 0.01) == "missed"
    assert decide(Evidence.of(np.zeros(30, dtype=bool)), 0.01) == "undecided"
    assert decide(Evidence.of(np.zeros(0, dtype=bool)), 0.01) == "undecided"


def test_misses_that_cluster_count_for_less_than_their_number() -> None:
    clustered = np.zeros(600, dtype=bool)
    clustered[100:118] = True
    spread = np.zeros(600, dtype=bool)
    spread[::33] = True
    assert Evidence.of(clustered, 2).design_effect > 4 * Evidence.of(spread, 2).design_effect
    assert decide(Evidence.of(clustered, 2), 0.01) == "undecided"
    assert decide(Evidence.of(spread, 2), 0.01) == "missed"


def test_wrong_verdicts_on_a_correlated_queue_are_rare() -> None:
    capacity = true_capacity(SERVICE_S, LIMIT_S)
    below = [verdict(0.9 * capacity, 600, seed) for seed in range(150)]
    above = [verdict(1.1 * capacity, 600, seed) for seed in range(150)]
    assert below.count("missed") <= 6
    assert above.count("met") <= 6


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [(["met", "met"], "met"), (["met", "missed"], "missed"), (["met", "undecided"], "undecided")],
)
def test_all_limits_have_to_be_met(verdicts: list[str], together: str) -> None:
    assert decide_all(verdicts) == together
