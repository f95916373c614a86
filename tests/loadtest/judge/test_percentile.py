"""An interval that covers the long run, although requests wait together."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.truth import queues
from loadtest.judge.percentile import percentile_ms


def test_it_holds_its_value_and_narrows_with_more_requests() -> None:
    few, many = (percentile_ms(np.random.default_rng(0).exponential(0.01, count), 99, 10.0) for count in (200, 20_000))
    assert few is not None
    assert many is not None
    assert few.low <= few.value <= few.high
    assert many.value == pytest.approx(46, rel=0.05)
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(("rate_qps", "least"), [(125.0, 0.9), (200.0, 0.9)])
def test_it_covers_the_long_run_of_a_queue(rate_qps: float, least: float) -> None:
    truth_ms, covered, runs = queues.quantile_s("M/D/1", rate_qps, 0.004) * 1e3, 0, 60
    for seed in range(runs):
        arrivals = queues.poisson(rate_qps, int(rate_qps * 10), seed)
        found = percentile_ms(queues.sojourn_s("M/D/1", arrivals, 0.004, seed), 99, rate_qps)
        assert found is not None
        covered += found.low <= truth_ms <= found.high
    assert covered / runs >= least


@pytest.mark.parametrize("count", [1, 5, 30])
def test_equal_latencies_are_themselves(count: int) -> None:
    found = percentile_ms(np.full(count, 0.02), 99, 100.0)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((20.0, 20.0, 20.0))


def test_of_nothing_there_is_none() -> None:
    assert percentile_ms(np.zeros(0), 99, 100.0) is None
