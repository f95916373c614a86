"""The verdict of one probe: sure when it should be, and seldom wrong although requests are correlated."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.truth.queues import QUICK, capacity_qps
from benchmarks.truth.sequential import simulated_probe
from loadtest.judge.tail import share_beyond
from loadtest.judge.verdict import Evidence, Failures, Stretch, verdict_of, verdict_of_all
from loadtest.plan import Verdict

SERVICE_S, LIMIT_S = 0.004, 0.050


def evidence(
    values_s: NDArray[np.float64], limit_s: float = 0.05, rate_qps: float = 20.0, allowed: float = 0.01
) -> Evidence:
    count = len(values_s)
    stretch = Stretch(np.arange(count) / rate_qps, values_s, np.ones(count, dtype=bool), rate_qps)
    return Evidence.of(stretch, limit_s, allowed)


def test_clear_cases_are_decided() -> None:
    fast = np.random.default_rng(1).normal(0.01, 0.001, 1000)
    assert verdict_of(evidence(fast)) == "met"
    assert verdict_of(evidence(np.full(60, np.inf))) == "missed"
    assert verdict_of(evidence(fast[:30])) == "undecided"
    assert verdict_of(evidence(fast[:0])) == "undecided"


def test_nearly_all_late_is_a_miss_however_long_the_limit() -> None:
    """A p90 of two seconds lets queues of a hundred requests be late together, so that a count of 60 says little."""
    late = np.full(60, 2.1)
    assert verdict_of(evidence(late, limit_s=2.0, allowed=0.1)) == "missed"
    late[::4] = 0.1
    assert verdict_of(evidence(late, limit_s=2.0, allowed=0.1)) == "undecided"


def test_answers_of_one_speed_are_decided() -> None:
    assert verdict_of(evidence(np.full(1000, 0.01))) == "met"
    assert verdict_of(evidence(np.full(1000, 0.06))) == "missed"


def test_failures_are_misses() -> None:
    values = np.random.default_rng(1).normal(0.01, 0.001, 2000)
    values[::20] = np.inf
    found = evidence(values)
    assert verdict_of(found) == "missed"
    assert found.share == pytest.approx(0.05, rel=0.3)


def test_a_hiccup_that_few_requests_see_is_not_smoothed_away() -> None:
    values = np.random.default_rng(1).normal(0.01, 0.001, 4000)
    values[np.random.default_rng(2).choice(4000, 120, replace=False)] = 1.0
    assert verdict_of(evidence(values)) == "missed"


@pytest.mark.parametrize("kind", ["M/D/1", "M/D/4", "M/M/1", "batch"])
def test_wrong_verdicts_on_a_correlated_queue_are_rare(kind: str) -> None:
    capacity = capacity_qps(kind, SERVICE_S, LIMIT_S, count=QUICK)
    found: dict[float, Counter[Verdict]] = {}
    for off in (0.97, 1.03):
        runs = (simulated_probe(kind, SERVICE_S, LIMIT_S, off * capacity, 8.0, seed) for seed in range(100))
        found[off] = Counter(verdict for verdict, _, _ in runs)
    assert found[0.97]["missed"] <= 4
    assert found[1.03]["met"] <= 4


def test_clear_rates_are_decided_soon() -> None:
    capacity = capacity_qps("M/D/1", SERVICE_S, LIMIT_S)
    for seed in range(20):
        verdict, seconds, _ = simulated_probe("M/D/1", SERVICE_S, LIMIT_S, 1.3 * capacity, 20.0, seed)
        assert (verdict, seconds < 5) == ("missed", True)
        verdict, seconds, _ = simulated_probe("M/D/1", SERVICE_S, LIMIT_S, 0.7 * capacity, 20.0, seed)
        assert (verdict, seconds < 10) == ("met", True)


def test_the_tail_says_how_rare_what_was_never_seen_is() -> None:
    values = np.random.default_rng(3).exponential(1.0, 200_000)
    assert share_beyond(values, 6.0, float(np.quantile(values, 0.9))) == pytest.approx(np.exp(-6), rel=0.1)
    assert share_beyond(values[:300], 9.0, float(np.quantile(values[:300], 0.9))) < 0.01


def test_a_failure_too_many_may_be_chance() -> None:
    assert Failures(500, 0, 0.001).verdict == "met"
    assert Failures(500, 1, 0.001).verdict == "undecided"
    assert Failures(500, 10, 0.001).verdict == "missed"


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [(["met", "met"], "met"), (["met", "missed"], "missed"), (["met", "undecided"], "undecided")],
)
def test_all_limits_have_to_be_met(verdicts: list[Verdict], together: Verdict) -> None:
    assert verdict_of_all(verdicts) == together


def test_a_probe_in_which_most_of_many_requests_are_late_need_not_go_on() -> None:
    def late(misses: int, requests: int, *, cluster: float = 3.0, allowed: float = 0.01) -> bool:
        return Evidence(requests, misses, 0.0, math.inf, cluster, allowed=allowed).hopeless

    assert late(6, 6)
    assert late(12, 20)
    assert not late(9, 20)  # not most
    assert not late(12, 19)  # of too few
    assert not late(12, 20, cluster=10.0)  # one long queue may have been the cause
    assert not late(30, 50, allowed=0.5)  # a median's limit, half of which may be late
    assert not late(50, 50, allowed=0.5)
