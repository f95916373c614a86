"""Warm-up: load the server until what it shows is stationary, so that nothing counts before.

MSER-5 (White, An effective truncation heuristic for bias reduction in simulation output, Simulation 69, 1997; batches
of five: Spratt, 1998) drops as many batches from the front as make the standard error of the mean of the rest smallest.
A series has settled when that is no more than half of it, for the latency and for the throughput, and when its last
quarter agrees with the quarter before.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import dataclass

import gevent
import numpy as np
from numpy.typing import NDArray

from loadtest.figures import WarmupPoint
from loadtest.generator.load import LoadSegment
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.generator.reporter import ProgressReporter
from loadtest.plan import LoadPlan
from loadtest.request.request_log import RequestLog

Floats = NDArray[np.float64]

_LONE = 8  # requests
_LONE_FAILED = 3 * _LONE
_USERS = 4
_CHECK_S = 0.25
_MIN_S = 1.0
_MIN_ANSWERS, _BATCH = 20, 5
_AGREE = 0.10  # relative difference of the last two quarters, beyond their own noise
_POINT_S = 0.25


@dataclass(frozen=True)
class WarmUp:
    """`base_s` is the median of `lone_s`, latencies of lone requests; None where most failed: `kinds` says how."""

    base_s: float | None
    kinds: Counter[str]
    settled: bool = True
    points: tuple[WarmupPoint, ...] = ()
    lone_s: tuple[float, ...] = ()


def warm_up(endpoint: ServerUnderTest, plan: LoadPlan, reporter: ProgressReporter) -> WarmUp:
    """Lone requests first, which show whether it answers at all, then a few users until it is settled."""
    reporter.moved("warmup")
    begun = time.perf_counter()
    until = begun + min(plan.max_warmup_s, reporter.remaining_s())
    # The first request has the time that any other has: a short warm-up makes no server one that does not answer.
    first_until = max(until, begun + min(plan.request_timeout_s, reporter.remaining_s()))
    base_s, kinds = _lone(endpoint, first_until, until)
    if base_s is None:
        return WarmUp(None, kinds)
    settled, points = _until_settled(endpoint, begun, until)
    endpoint.must_recover = True  # from the users that were just broken off
    endpoint.recover(base_s, min(2.0, reporter.remaining_s() / 8))
    latencies, _ = endpoint.lone(_LONE, time.perf_counter() + max(0.5, min(2.0, reporter.remaining_s() / 4)))
    endpoint.note(latencies)
    base_s = statistics.median(latencies) if latencies else base_s
    return WarmUp(base_s, kinds, settled, points, tuple(latencies) or (base_s,))


def _lone(endpoint: ServerUnderTest, first_until: float, until: float) -> tuple[float | None, Counter[str]]:
    """The median latency of a few requests, when more of them are answered than fail. The first one, in which a server
    may still prepare something, counts where the time allows no other.
    """
    answered, failed = endpoint.lone(1, first_until)
    while time.perf_counter() < until and failed.total() < _LONE_FAILED:
        latencies, kinds = endpoint.lone(_LONE, until, has_answered=bool(answered))
        endpoint.note(latencies)
        answered, failed = answered + latencies, failed + kinds
        if len(latencies) > kinds.total():
            return statistics.median(latencies), failed
    return statistics.median(answered) if len(answered) > failed.total() else None, failed


def _until_settled(endpoint: ServerUnderTest, begun: float, until: float) -> tuple[bool, tuple[WarmupPoint, ...]]:
    load, settled = endpoint.load, False
    started = load.start(LoadSegment(1.0, 0, until - begun, _USERS))
    while not settled and time.perf_counter() < until:
        gevent.sleep(min(_CHECK_S, max(0.01, until - time.perf_counter())))
        answered = _answered(load.sent())
        settled = time.perf_counter() - started >= _MIN_S and has_settled(*answered)
    load.stop()
    times, latencies = _answered(load.sent())
    endpoint.note(latencies)
    load.drain(0.0)
    return settled, _points(times - begun, latencies)


def _answered(sent: RequestLog) -> tuple[Floats, Floats]:
    """When answers came, in order, and their latencies; failures are left out."""
    latency = sent.latency[: sent.count]
    good = ~np.isnan(latency) & ~sent.failed[: sent.count]
    ended = sent.scheduled[: sent.count][good] + latency[good]
    order = np.argsort(ended)
    return ended[order], latency[good][order]


def has_settled(ended_s: Floats, latencies_s: Floats) -> bool:
    """Whether latencies and throughput are stationary, in the order in which the answers came."""
    if len(latencies_s) < _MIN_ANSWERS:
        return False
    batch = _BATCH if len(latencies_s) >= 4 * _MIN_ANSWERS else 1
    latency = _batch_means(latencies_s, batch)
    gaps = _batch_means(np.diff(ended_s), batch)
    return all(mser(series) <= len(series) / 2 and _agree(series) for series in (latency, gaps))


def mser(series: Floats) -> int:
    """How many values to drop from the front: the MSER statistic, sum of squares about the mean over the square count.

    The last five values are never the only ones kept: their spread may be small by chance.
    """
    count = len(series)
    kept = count - np.arange(max(1, count - 5))
    sums = np.cumsum(series[::-1])[::-1][: len(kept)]
    squares = np.cumsum(series[::-1] ** 2)[::-1][: len(kept)]
    return int(np.argmin((squares - sums**2 / kept) / kept.astype(np.float64) ** 2))


def _agree(series: Floats) -> bool:
    half = series[len(series) // 2 :]
    before, after = half[: len(half) // 2], half[len(half) // 2 :]
    noise = 2 * float(np.sqrt(before.var() / len(before) + after.var() / len(after)))
    return abs(float(after.mean() - before.mean())) <= _AGREE * float(half.mean()) + noise


def _batch_means(values: Floats, size: int) -> Floats:
    return np.asarray(values[: len(values) // size * size].reshape(-1, size).mean(axis=1))


def _points(times_s: Floats, latencies_s: Floats) -> tuple[WarmupPoint, ...]:
    found = []
    for begin in np.arange(0.0, float(times_s[-1]) if len(times_s) else 0.0, _POINT_S):
        inside = (times_s >= begin) & (times_s < begin + _POINT_S)
        if inside.any():
            p50_ms = float(np.median(latencies_s[inside])) * 1e3
            found.append(WarmupPoint(at_s=float(begin), p50_ms=p50_ms, qps=float(inside.sum()) / _POINT_S))
    return tuple(found)
