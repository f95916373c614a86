"""Where the time goes in a chain of services: how long each stage takes alone, and while the chain is loaded.

While the chain is loaded at its entry, a few requests a second go to each stage directly. Their arrivals are Poisson,
so they see the stage as it is on average over time (PASTA: Wolff, Poisson arrivals see time averages, Operations
Research 30, 1982), with the queue that the chain's own requests make there. A stage that is loaded alone at the same
rate would show another queue: what reaches it through another stage comes more evenly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import gevent
import numpy as np
from numpy.typing import NDArray

from loadtest.figures import StageTimes
from loadtest.generator.load import LoadSegment
from loadtest.generator.probe.prober import OpenLoopProber
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.generator.reporter import ProgressReporter
from loadtest.plan import LoadPlan, Measurement
from loadtest.request.request_log import RequestLog

_LOADED = 0.7  # of the capacity: near it, a queue's mean depends on luck more than on the stage
_EXTRA = 0.25  # of that rate, to all stages together besides
_WANTED = 60  # requests to each stage
_MIN_S = 4.0
_SETTLE = 0.15  # of the stretch, which does not count
_LONE, _LONE_S = 24, 2.0
_DRAIN_S = 5.0
_MOSTLY = 0.5  # answered well, or nothing is said of the stage
_CROWD, _CROWD_S = 2.0, 1.5  # times the requests that are in the chain at its capacity; for so long
_MIN_USERS, _MAX_USERS = 8, 64
_MIN_PAIRED = 8  # requests, for a covariance

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Stretch:
    """What was sent, and the time from when on it counts."""

    sent: RequestLog
    since: float


def with_stage_times(
    plan: LoadPlan, measurement: Measurement, endpoints: Sequence[ServerUnderTest], reporter: ProgressReporter
) -> Measurement:
    """The measurement with the times of the plan's stages, the entry's (the first endpoint's) first. Unchanged where
    the plan has none, or no capacity was found to load the chain by.
    """
    capacity = measurement.capacity_qps
    if not plan.stages or capacity is None:
        return measurement
    begun, rate_qps = time.perf_counter(), _LOADED * capacity.value
    each_qps = _EXTRA * rate_qps / len(plan.stages)
    length_s = min(max(_MIN_S, _WANTED / each_qps), plan.stages_s)
    lone_ms = []
    entry_s = (measurement.base_latency_ms or 0.0) / 1e3
    for endpoint in endpoints:
        OpenLoopProber(endpoint, entry_s if endpoint is endpoints[0] else 0.0).drain()
        latencies, _ = endpoint.lone(_LONE, time.perf_counter() + _LONE_S)
        lone_ms.append(float(np.mean(latencies)) * 1e3 if latencies else None)
        reporter.moved("probe", rate_qps)
    sent = _loaded(plan.seed, [rate_qps, *(each_qps for _ in plan.stages)], length_s, endpoints, reporter)
    entry = _answered(sent[0])
    names = ["", *(one.name for one in plan.stages)]
    users = math.ceil(_CROWD * capacity.value * float(entry[1].mean())) if len(entry[1]) else _MIN_USERS
    stages = []
    for name, endpoint, lone, one in zip(names, endpoints, lone_ms, sent, strict=True):
        saturated_qps = _saturated(endpoint, min(_MAX_USERS, max(_MIN_USERS, users)))
        stages.append(_times(name, lone, one, entry).model_copy(update={"saturated_qps": saturated_qps}))
        reporter.moved("probe", rate_qps)
    load_s = measurement.load_s + time.perf_counter() - begun
    return measurement.model_copy(update={"stages": tuple(stages), "stages_qps": rate_qps, "load_s": load_s})


def _loaded(
    seed: int, rates_qps: Sequence[float], length_s: float, endpoints: Sequence[ServerUnderTest],
    reporter: ProgressReporter,
) -> list[_Stretch]:  # fmt: skip
    """Every endpoint's requests at its rate, all at the same time."""
    begun = [
        endpoint.load.start(LoadSegment(rate, seed * 7919 + 5_000_011 + number, length_s))
        for number, (endpoint, rate) in enumerate(zip(endpoints, rates_qps, strict=True))
    ]
    until = time.perf_counter() + length_s
    while (left_s := until - time.perf_counter()) > 0:
        gevent.sleep(min(0.5, left_s))
        reporter.moved("probe", rates_qps[0])
    for endpoint in endpoints:
        endpoint.load.stop()
    for endpoint in endpoints:
        endpoint.load.drain(_DRAIN_S)
    return [
        _Stretch(endpoint.load.sent(), start + _SETTLE * length_s)
        for endpoint, start in zip(endpoints, begun, strict=True)
    ]


def _saturated(endpoint: ServerUnderTest, users: int) -> float | None:
    """Answers per second to so many users who ask the stage directly, one request after the other."""
    begun = endpoint.load.start(LoadSegment(1.0, 0, _CROWD_S, users))
    gevent.sleep(_CROWD_S)
    endpoint.load.stop()
    sent, ended = endpoint.load.sent(), time.perf_counter()
    done = sent.scheduled[: sent.count] + sent.latency[: sent.count]  # nan where none came
    good = done[~sent.failed[: sent.count] & (done > begun + _CROWD_S / 3)]
    endpoint.load.drain(_DRAIN_S)
    return len(good) / (ended - begun - _CROWD_S / 3) if len(good) else None


def _answered(stretch: _Stretch) -> tuple[Floats, Floats]:
    """When those that count were due, and their latencies in seconds; without those that failed."""
    counted = stretch.sent.between(stretch.since, np.inf)
    latency_s = stretch.sent.latency[counted]
    good = ~np.isnan(latency_s) & ~stretch.sent.failed[counted]
    return stretch.sent.scheduled[counted][good], latency_s[good]


def _times(name: str, lone_ms: float | None, stretch: _Stretch, entry: tuple[Floats, Floats]) -> StageTimes:
    counted = len(stretch.sent.between(stretch.since, np.inf))
    due, latency_s = _answered(stretch)
    enough = counted > 0 and len(due) >= _MOSTLY * counted
    mean_s = float(latency_s.mean()) + (_luck(due, latency_s, *entry) if name else 0.0) if enough else None
    return StageTimes(
        name=name,
        lone_ms=lone_ms,
        mean_ms=None if mean_s is None else 1e3 * mean_s,
        requests=counted,
        errors=counted - len(due),
    )


def _luck(due: Floats, latency_s: Floats, entry_due: Floats, entry_s: Floats) -> float:
    """What to add to the mean of a stage's few requests, since they met the chain at moments of other load than usual.

    A control variate: what the entry's many requests took at those moments, against all moments, as far as the stage's
    latencies follow it.
    """
    if len(due) < _MIN_PAIRED or len(entry_due) < _MIN_PAIRED:
        return 0.0
    then = np.interp(due, entry_due, entry_s)
    always = np.interp(np.linspace(entry_due[0], entry_due[-1], 1000), entry_due, entry_s)
    spread = float(then.var())
    follows = float(np.cov(then, latency_s, bias=True)[0, 1]) / spread if spread > 0 else 0.0
    return min(1.0, max(0.0, follows)) * float(always.mean() - then.mean())
