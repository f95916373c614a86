"""Nothing counts before latency and throughput are stationary."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.generator.warmup import has_settled, mser

Floats = NDArray[np.float64]


def answers(latencies_s: Floats, users: int = 4) -> tuple[Floats, Floats]:
    """When so many users get their answers, in order, and how long each took, until the first user has no more."""
    latency = [latencies_s[user::users] for user in range(users)]
    ended = [np.cumsum(one) for one in latency]
    all_ended, all_latencies = np.concatenate(ended), np.concatenate(latency)
    order = np.argsort(all_ended)
    order = order[all_ended[order] <= min(one[-1] for one in ended)]
    return all_ended[order], all_latencies[order]


def noisy(mean_s: Floats | float, count: int, seed: int = 0) -> Floats:
    return np.asarray(mean_s * np.random.default_rng(seed).lognormal(0, 0.2, count))


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_server_has_settled(seed: int) -> None:
    assert has_settled(*answers(noisy(0.01, 400, seed)))


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_gets_faster_has_not(seed: int) -> None:
    assert not has_settled(*answers(noisy(np.geomspace(0.05, 0.01, 400), 400, seed)))


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_gets_slower_has_not(seed: int) -> None:
    assert not has_settled(*answers(noisy(np.geomspace(0.01, 0.05, 400), 400, seed)))


def test_a_slow_start_is_forgotten_once_it_is_long_past() -> None:
    slow_start = np.concatenate([np.full(40, 0.2), np.full(360, 0.01)])
    assert not has_settled(*answers(slow_start[:60]))
    assert has_settled(*answers(noisy(slow_start, 400)))


def test_a_handful_of_answers_proves_nothing() -> None:
    assert not has_settled(*answers(np.full(19, 0.01)))


@pytest.mark.parametrize("slow", [0, 10, 30])
def test_mser_drops_the_transient_and_little_else(slow: int) -> None:
    series = np.concatenate([np.full(slow, 5.0), np.full(100 - slow, 1.0)]) + noisy(0.1, 100)
    assert slow <= mser(series) <= slow + 15


def test_mser_of_a_series_that_never_settles_is_beyond_its_middle() -> None:
    assert mser(np.geomspace(1, 100, 100)) < 50  # it grows at the end: dropping the front does not help
    assert mser(np.geomspace(100, 1, 100)) > 50
