"""Arrivals have the rate asked for; histograms keep what was recorded."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest import LatencyLimit, LoadPlan, RequestPlan, Slo
from loadtest.arrivals.arrivals import Arrivals
from loadtest.arrivals.trace import TraceError, read_trace
from loadtest.histogram import LatencyHistogram


def gaps(rate_qps: float, seed: int = 1, count: int = 20_000, **asked: Any) -> NDArray[np.float64]:
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=50),))
    plan = LoadPlan(url="http://127.0.0.1:1", request=RequestPlan(), slo=slo, **asked)
    trace = None if plan.trace is None else read_trace(Path(plan.trace))
    times = list(itertools.islice(Arrivals(plan, trace).schedule(rate_qps, seed), count))
    assert times == sorted(times)
    return np.diff([0.0, *times])


def test_poisson_gaps_have_the_mean_and_spread_of_an_exponential() -> None:
    assert gaps(50).mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps(50).std() == pytest.approx(1 / 50, rel=0.03)


def test_constant_gaps_are_constant() -> None:
    assert gaps(50, arrivals="constant") == pytest.approx(1 / 50)


def test_bursts_keep_the_mean_and_spread_more_than_independent_arrivals() -> None:
    found = gaps(50, arrivals="bursty", count=200_000)
    assert found.mean() == pytest.approx(1 / 50, rel=0.05)
    per_second = np.bincount(np.cumsum(found).astype(int))
    assert per_second.var() > 3 * per_second.mean()  # equal for a Poisson process


@pytest.mark.parametrize("asked", [{}, {"arrivals": "bursty"}, {"arrivals": "constant"}])
def test_a_seed_repeats_the_arrivals(asked: dict[str, Any]) -> None:
    first, again, other = (gaps(10, seed, 50, **asked).tolist() for seed in (1, 1, 2))
    assert first == again
    assert (first == other) == (asked == {"arrivals": "constant"})


def test_a_trace_of_times_keeps_how_requests_bunch(tmp_path: Path) -> None:
    file = tmp_path / "times.csv"
    file.write_text("time\n2026-01-01T00:00:00\n2026-01-01T00:00:01\n2026-01-01T00:00:04\n")
    found = gaps(10, arrivals="trace", trace=str(file), count=1000)
    assert found.mean() == pytest.approx(0.1, rel=1e-2)
    assert sorted(set(np.round(found, 6).tolist())) == [0.05, 0.15]


def test_a_trace_of_rates_keeps_its_time(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("time,rate\n0,0\n5,300\n10,100\n")
    times = np.cumsum(gaps(40, arrivals="trace", trace=str(file), count=30_000))
    assert 30_000 / times[-1] == pytest.approx(40, rel=0.05)
    shares = np.bincount((times % 15 // 5).astype(int)) / 30_000
    assert shares == pytest.approx([0, 0.75, 0.25], abs=0.02)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("when\n1\n", ":1: no column for the time"),
        ("time\n1\nsoon\n", ":3: time is neither seconds nor"),
        ("time\n2\n1\n", ":3: time goes back"),
        ("time\n1\n", "at least two different times"),
        ("time,rate\n1,5\n2,-1\n", ":3: rate is -1"),
        ("time,rate\n1,0\n2,0\n", "no requests at all"),
    ],
)
def test_what_is_no_trace_is_said_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(TraceError, match=r"trace\.csv") as error:
        read_trace(file)
    assert why in str(error.value)


def test_percentiles_are_within_a_thousandth() -> None:
    histogram = LatencyHistogram.of(number / 1000 for number in range(1, 1001))
    assert histogram.percentile_ms(99) == pytest.approx(990, rel=2e-3)
    assert histogram.percentile_ms(50) == pytest.approx(500, rel=2e-3)


def test_nothing_recorded_has_no_percentiles() -> None:
    assert LatencyHistogram().percentile_ms(99) is None


def test_histograms_merge_through_their_text() -> None:
    first, second = LatencyHistogram.of([0.001] * 10), LatencyHistogram.of([0.1] * 10)
    first.add_encoded(second.encode())
    assert first.count == 20
    assert first.percentile_ms(99) == pytest.approx(100, rel=2e-3)


def test_a_latency_beyond_the_range_counts_at_its_end() -> None:
    histogram = LatencyHistogram.of([1e9])
    assert histogram.count == 1
