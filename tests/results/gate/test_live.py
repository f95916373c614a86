"""Live latencies beside a latency curve: who is slower is found, who is not is left alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from results import Estimate
from results.gate import Expected, LiveStep, Setting, Verification, expected_curve, verified
from results.gate.live import quantile
from results.percentiles import Percentile
from results.trial_parts import (
    ProbeRecord,
)

CAPACITY = Estimate.exactly(100.0)
SETTING = Setting(0.05, 0.15, looks=1)
CURVE = Expected(np.array([20.0, 50.0, 80.0, 100.0]), np.array([10.0, 14.0, 25.0, 48.0]), 0.02)


def probe(rate: float, p99: float, **more: object) -> ProbeRecord:
    return ProbeRecord.model_validate(
        {
            "rate_qps": rate, "verdict": "met", "started_s": 0, "duration_s": 10, "requests": 1000, "misses": 0,
            "errors": 0, "p99_ms": {"value": p99, "low": 0.95 * p99, "high": 1.05 * p99}, **more,
        }
    )  # fmt: skip


def lived(
    factor: float, low: float = 30.0, high: float = 90.0, count: int = 60, noise: float = 0.05, curve: Expected = CURVE
) -> Verification:
    generator = np.random.default_rng(1)
    rates = generator.uniform(low, high, count)
    p99s = CURVE.at(rates) * factor * np.exp(generator.normal(0, noise, count))
    steps = [LiveStep(60.0 * at, rate, p99) for at, (rate, p99) in enumerate(zip(rates, p99s, strict=True))]
    return verified(steps, curve, CAPACITY, 50.0, SETTING)


def test_what_is_as_measured_holds_at_every_rate() -> None:
    found = lived(1.0)
    assert found.outcome == "holds"
    assert found.advice == ("Tuning again is not worth it for what is seen here.",)


def test_what_is_slower_is_found_and_by_how_much() -> None:
    found = lived(1.15)
    assert found.outcome == "slower"
    assert found.comparison is not None
    assert found.comparison.low < 0.15 < found.comparison.high
    assert "worth it" in found.advice[0]


def test_noise_leaves_it_open() -> None:
    found = lived(1.08, curve=replace(CURVE, error=0.15))
    assert found.outcome == "inconclusive"
    assert found.reason is not None
    assert "a longer time (`range`)" in found.reason


def test_rates_that_were_never_measured_are_not_compared() -> None:
    found = lived(3.0, low=1.0, high=10.0)
    assert found.outcome == "inconclusive"
    assert found.live.compared == 0
    assert any("smaller configuration" in text for text in found.advice)
    over = lived(3.0, low=120.0, high=150.0)
    assert over.outcome == "inconclusive"
    assert over.live.over_capacity == 1.0
    assert any("more replicas" in text for text in over.advice)
    assert verified([], CURVE, CAPACITY, 50.0, SETTING).reason == "there was no traffic at all"


def test_a_curve_that_neighbours_disturbed_proves_nothing_but_what_is_slower_still() -> None:
    curve = replace(CURVE, disturbed=True)
    assert lived(1.0, curve=curve).outcome == "inconclusive"
    assert lived(1.2, curve=curve).outcome == "slower"


def test_a_curve_rises_and_leaves_out_what_does_not_count() -> None:
    found = expected_curve(
        [
            probe(80, 20), probe(40, 16), probe(60, 14), probe(130, 400), probe(70, 999, disturbed="a neighbour"),
            probe(75, 999, verdict="invalid"),
        ],
        CAPACITY,
    )  # fmt: skip
    assert found is not None
    assert found.rates_qps.tolist() == [40, 60, 80]
    assert found.latency_ms.tolist() == pytest.approx([math.sqrt(16 * 14)] * 2 + [20])
    assert expected_curve([probe(130, 400)], CAPACITY) is None


def test_a_probe_is_read_as_prometheus_reads_a_histogram() -> None:
    histogram = tuple((float(bound), 10) for bound in range(1, 101))
    assert quantile(histogram, (50.0, 100.0, math.inf), 0.99) == pytest.approx(99.0)
    assert quantile(histogram, (80.0, 200.0), 0.99) == pytest.approx(80 + 120 * 190 / 200)
    assert quantile(histogram, (50.0,), 0.99) == 50.0  # beyond the last bound, that
    coarse = expected_curve([probe(50, 99.0, histogram=histogram)], CAPACITY, (80.0, 200.0))
    assert coarse is not None
    assert coarse.latency_ms[0] == pytest.approx(194.0)


def test_a_probe_that_was_stored_without_a_percentile_has_it_in_its_histogram() -> None:
    histogram = tuple((float(bound), 10) for bound in range(1, 101))
    found = expected_curve([probe(50, 99.0, histogram=histogram)], CAPACITY, percentile=Percentile("latency", 90))
    assert found is not None
    assert found.latency_ms[0] == pytest.approx(90.0)
    assert expected_curve([probe(50, 99.0)], CAPACITY, percentile=Percentile("latency", 90)) is None
