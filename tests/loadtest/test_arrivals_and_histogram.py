"""Arrivals have the rate asked for; histograms keep what was recorded."""

from __future__ import annotations

import itertools
import statistics

import pytest

from loadtest.arrivals import gaps
from loadtest.histogram import LatencyHistogram


def test_poisson_gaps_have_the_mean_and_spread_of_an_exponential() -> None:
    found = list(itertools.islice(gaps("poisson", 50, 1), 20_000))
    assert statistics.fmean(found) == pytest.approx(1 / 50, rel=0.03)
    assert statistics.stdev(found) == pytest.approx(1 / 50, rel=0.03)


def test_constant_gaps_are_constant() -> None:
    assert set(itertools.islice(gaps("constant", 50, 1), 10)) == {1 / 50}


def test_a_seed_repeats_the_arrivals() -> None:
    first, again, other = (list(itertools.islice(gaps("poisson", 10, seed), 5)) for seed in (1, 1, 2))
    assert first == again != other


def test_percentiles_are_within_a_thousandth() -> None:
    histogram = LatencyHistogram.of(number / 1000 for number in range(1, 1001))
    assert histogram.percentile_ms(99) == pytest.approx(990, rel=2e-3)
    assert histogram.percentile_ms(50) == pytest.approx(500, rel=2e-3)


def test_an_interval_holds_its_value_and_narrows_with_more_requests() -> None:
    few, many = (LatencyHistogram.of(number / count for number in range(count)) for count in (200, 20_000))
    narrow, wide = many.interval_ms(99), few.interval_ms(99)
    assert narrow is not None
    assert wide is not None
    assert wide.low <= wide.value <= wide.high
    assert narrow.high - narrow.low < wide.high - wide.low


def test_nothing_recorded_has_no_percentiles() -> None:
    assert LatencyHistogram().percentile_ms(99) is None
    assert LatencyHistogram().interval_ms(99) is None


def test_histograms_merge_through_their_text() -> None:
    first, second = LatencyHistogram.of([0.001] * 10), LatencyHistogram.of([0.1] * 10)
    first.add_encoded(second.encode())
    assert first.count == 20
    assert first.percentile_ms(99) == pytest.approx(100, rel=2e-3)


def test_a_latency_beyond_the_range_counts_at_its_end() -> None:
    histogram = LatencyHistogram.of([1e9])
    assert histogram.count == 1
