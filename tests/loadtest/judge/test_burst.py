"""The throughput of a burst by users, counted between completions."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.judge.burst import BurstResult, burst_is_over, crowd_after, longest_s, next_users, telling


def batches(users: int, batch: int, takes_s: float, duration_s: float) -> BurstResult:
    """A server that answers `batch` at once, every so often, to users who send again at once."""
    sent, latency = [], []
    waiting = [(0.0, user) for user in range(users)]
    now = 0.0
    while now < duration_s:
        taken, waiting = waiting[:batch], waiting[batch:]
        now += takes_s
        for since, user in taken:
            sent.append(since)
            latency.append(now - since)
            waiting.append((now, user))
    order = np.argsort(sent, kind="stable")
    failed = np.zeros(len(sent), dtype=bool)
    return BurstResult.of(users, duration_s, np.array(sent)[order], np.array(latency)[order], failed)


@pytest.mark.parametrize(("batch", "takes_s"), [(8, 0.16), (16, 0.5), (4, 0.05), (32, 0.3)])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7])
def test_batches_are_not_understated(batch: int, takes_s: float, phase: float) -> None:
    found = batches(2 * batch, batch, takes_s, (6 + phase) * takes_s)
    assert found.throughput_qps == pytest.approx(batch / takes_s, rel=0.05)


def test_a_burst_in_which_nothing_is_answered_says_nothing() -> None:
    found = BurstResult.of(8, 1.0, np.zeros(8), np.full(8, np.inf), np.zeros(8, dtype=bool))
    assert found.throughput_qps is None
    assert len(found.latencies_s) == 0


def test_failures_are_no_throughput() -> None:
    sent = np.arange(100) / 100
    found = BurstResult.of(4, 1.0, sent, np.full(100, 0.001), np.arange(100) % 2 == 0)
    assert found.failed == 50
    assert found.throughput_qps == pytest.approx(50, rel=0.05)


def test_it_ends_when_every_user_was_answered_a_few_times_or_the_time_is_over() -> None:
    assert not burst_is_over(8, 10, 0.6, 2.0)
    assert burst_is_over(8, 24, 0.6, 2.0)
    assert not burst_is_over(8, 1000, 0.1, 2.0)
    assert burst_is_over(8, 0, 2.0, 2.0)
    assert longest_s(90, 0.01) > longest_s(20, 0.01)
    assert longest_s(60, 3.0) > longest_s(60, 0.01)


def test_more_users_follow_while_the_server_gets_faster() -> None:
    slow, fast, faster = (
        BurstResult(users, 1.0, np.zeros(1), 0, qps) for users, qps in ((8, 50.0), (12, 90.0), (24, 95.0))
    )
    assert next_users([], 0.1) == 8
    assert next_users([slow], 0.1) == 12
    assert next_users([slow], 1.0) == 75
    assert next_users([slow, fast], 0.1) == 24
    assert next_users([slow, fast, faster], 0.1) is None
    assert next_users([fast, faster], 0.1) is None


def test_a_crowd_follows_while_users_are_answered_as_often_each() -> None:
    """A server that works on everything at once shows in no burst of 30 users what it can do."""

    def asked(*throughput_qps: float, seconds: float = 1.2) -> list[BurstResult]:
        users = (8, 15, 30, 120, 480)
        return [BurstResult(one, seconds, np.zeros(1), 0, qps) for one, qps in zip(users, throughput_qps, strict=False)]

    assert crowd_after(asked(20, 38, 75), 60) == 120
    assert crowd_after(asked(20, 38, 75, 300), 60) == 480
    assert crowd_after(asked(20, 38, 75, 300, 1200), 60) == 512
    assert crowd_after(asked(20, 38, 75, 180), 60) is None  # each is answered more rarely: that is about all
    assert crowd_after(asked(20, 38, 50), 60) is None
    assert crowd_after(asked(20, 38), 60) is None  # `next_users` decides
    assert crowd_after(asked(20, 38, 75, seconds=6), 60) is None  # no time
    assert [one.users for one in telling(asked(20, 38, 75, 300, 1200))] == [8, 120, 480]
    assert [one.users for one in telling(asked(20, 38))] == [8, 15]
