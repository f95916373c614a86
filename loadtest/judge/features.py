"""What the network reads: a token for what is asked, one for each burst and one for each probe.

Rates are in units of the throughput of the fastest burst and times in units of the limit, so that a server's absolute
speed does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.judge.burst import BurstResult

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

METRICS = ("latency", "ttft", "itl")  # the time per token is read as the time between tokens
ARRIVALS = ("poisson", "constant", "bursty", "trace")
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.997)
_CLIP = 4.0  # limits; what came later than that, or failed, came then
_LUCK = (0.6, 0.8, 0.92)  # utilisations of the reference queues
WAVES = (2.0, 6.0, 18.0)
_BLOCKS = 10


@dataclass(frozen=True)
class Query:
    """Which limit is asked for: `allowed` is the share of requests that may miss it. `arrivals` is of ARRIVALS."""

    limit_s: float
    allowed: float
    metric: str = "latency"
    arrivals: str = "poisson"


@dataclass(frozen=True)
class Requests:
    """One probe: requests in the order of their schedule.

    `scheduled_s` counts from the probe's start. `values_s` are what the limit bounds, infinite where a request failed
    or has no answer yet. `counted` marks those that are judged. `rate_qps` is the rate that was asked for.
    """

    rate_qps: float
    scheduled_s: Floats
    values_s: Floats
    counted: Flags
    failed: int = 0


@dataclass(frozen=True)
class NetworkInput:
    """The network's input, and the rates of its bursts and probes in requests/s: the anchors of what it answers."""

    query: Floats
    bursts: Floats  # (bursts, BURST_WIDTH)
    probes: Floats  # (probes, PROBE_WIDTH)
    anchors: Floats  # logarithms of rates, in units of `scale_qps`: of the bursts, then of the probes
    scale_qps: float


def scale_qps(bursts: list[BurstResult], base_s: float) -> float:
    """The unit of rates: about the most that the server can do."""
    return max([0.5 / max(1e-6, base_s), *(burst.throughput_qps or 0.0 for burst in bursts)])


def _ratio(value: float, unit: float) -> float:
    return math.log(min(max(value / unit, 1e-3), 1e3))


def _waves(values: Floats) -> Floats:
    """Sines and cosines: a small network then tells apart what differs by a few percent."""
    return np.concatenate([f(values * wave) for wave in WAVES for f in (np.sin, np.cos)], axis=-1)


def query_token(asked: Query, lone_s: Floats, scale: float, probes: int) -> Floats:
    """What is asked, the lone requests, and how the server's speed compares to the limit."""
    base = float(np.median(lone_s)) if len(lone_s) else asked.limit_s
    metric = [float(asked.metric == name) for name in METRICS]
    arrivals = [float(asked.arrivals == name) for name in ARRIVALS]
    low, high = (float(lone_s.min()), float(lone_s.max())) if len(lone_s) else (base, base)
    spread = float(np.log(np.maximum(lone_s, 1e-9)).std()) if len(lone_s) else 0.0
    return np.array([
        math.log(asked.allowed / (1 - asked.allowed)) / 3, _ratio(base, asked.limit_s), _ratio(high, base),
        _ratio(low, base), spread, math.log1p(len(lone_s)) / 3, _ratio(scale * asked.limit_s, 1.0) / 3,
        _ratio(scale * base, 1.0), math.log(asked.limit_s) / 3, probes / 5, *metric, *arrivals,
    ])  # fmt: skip


def burst_token(burst: BurstResult, asked: Query, base_s: float, scale: float) -> Floats:
    """One burst: how fast, with how many users, and what they waited."""
    found = burst.latencies_s
    rate = max(burst.throughput_qps or 0.0, 0.02 * scale)
    quantiles = np.quantile(found, (0.1, 0.5, 0.9, 0.98)) if len(found) else np.full(4, burst.duration_s)
    logs = np.log(np.clip(quantiles / asked.limit_s, 1e-2, 1e2))
    tried = len(found) + burst.failed
    return np.array([
        float(burst.throughput_qps is not None), _ratio(rate, scale), math.log(burst.users) / 3,
        _ratio(burst.users, rate * asked.limit_s), math.log1p(len(found)) / 5,
        math.log1p(len(found) / burst.users), _ratio(burst.duration_s, asked.limit_s) / 2,
        burst.failed / max(1, tried), *logs, _ratio(float(quantiles[1]), base_s),
        *_waves(np.array([_ratio(rate, scale)])),
    ])  # fmt: skip


def probe_token(probe: Requests, asked: Query, base_s: float, scale: float) -> Floats:
    """One probe: its rate, what its requests waited, how they hang together, and the luck of its arrivals."""
    times, counted, limit = probe.scheduled_s, probe.counted, asked.limit_s
    values = np.minimum(probe.values_s, _CLIP * limit)[counted]
    count, rate = len(values), _ratio(probe.rate_qps, scale)
    if count < 2:
        values, count = np.full(2, limit), 0
    logs = np.log(np.maximum(values / limit, 1e-3))
    ordered = np.sort(logs)
    at = np.clip(np.ceil(np.array([*QUANTILES, 1 - asked.allowed, 1.0]) * len(ordered)).astype(int) - 1, 0, None)
    quantiles = np.clip(ordered[at], -5, None)
    misses = int((logs > 0).sum())
    share = (misses + 0.5) / (len(logs) + 1)
    last = float(times[-1]) if len(times) else 1.0
    answered = int(np.isfinite(probe.values_s).sum())
    return np.array([
        rate, math.log1p(count) / 4, math.log1p(count * asked.allowed), math.log(share / (1 - share)) / 3,
        (math.log(share / (1 - share)) - math.log(asked.allowed / (1 - asked.allowed))) / 3, float(misses > 0),
        _beyond(ordered, 0.2, asked.allowed), _beyond(ordered, 0.06, asked.allowed),
        *quantiles, _ratio(math.exp(float(quantiles[2])) * limit, base_s),
        probe.failed / max(1, count), _ratio(last, limit) / 2, _ratio(probe.rate_qps * limit, 1.0) / 3,
        _ratio((answered + 1) / max(1e-6, last + limit), scale),
        _ratio(len(times) / max(1e-6, last), probe.rate_qps) * 3,
        *_order(logs), *_luck(times, logs, counted, probe.rate_qps), *_waves(np.array([rate])),
    ])  # fmt: skip


def _beyond(ordered: Floats, share: float, allowed: float) -> float:
    """Log odds of a miss by an exponential tail above that share's quantile, against what is allowed."""
    begin = int((1 - share) * len(ordered))
    threshold = math.exp(ordered[begin - 1]) if begin else 0.0
    excess = np.exp(ordered[begin:]) - threshold
    if threshold >= 1:
        found = float((ordered > 0).mean())
    else:
        room = 1 - threshold
        within = max(1, int((excess <= room).sum()))
        found = len(excess) / len(ordered) * math.exp(-room * within / max(1e-9, float(np.minimum(excess, room).sum())))
    found = min(max(found, 1e-5), 1 - 1e-3)
    return (math.log(found / (1 - found)) - math.log(allowed / (1 - allowed))) / 3


def _order(logs: Floats) -> list[float]:
    """How requests hang together: the correlation of neighbours, clusters of the slow ones, and the trend."""
    centred = logs - logs.mean()
    spread = float((centred * centred).sum())
    near = float((centred[1:] * centred[:-1]).sum()) / spread if spread > 0 else 0.0
    far = float((centred[8:] * centred[:-8]).sum()) / spread if spread > 0 and len(logs) > 16 else 0.0
    half = len(logs) // 2
    first, second = logs[:half], logs[half:]
    trend = float(second.mean() - first.mean()) if half else 0.0
    slow = logs > np.sort(logs)[int(0.9 * (len(logs) - 1))]
    effect = 0.0
    if len(logs) >= 2 * _BLOCKS and slow.any():
        size = len(logs) // _BLOCKS
        blocks = slow[: size * _BLOCKS].reshape(_BLOCKS, size).mean(axis=1)
        mean = float(slow.mean())
        effect = math.log(max(0.1, float(blocks.var(ddof=1)) * size / (mean * (1 - mean))))
    return [near, far, max(-2.0, min(2.0, trend)), effect / 2, float(logs.std()), float(logs.mean())]


def _luck(times: Floats, logs: Floats, counted: Flags, rate_qps: float) -> list[float]:
    """Reference queues that serve each request in the same time: what these very arrivals make of them against the long
    run (`loadtest.judge.reference` says why), and how well they explain what was measured.
    """
    found: list[float] = []
    marked = counted if len(logs) == int(counted.sum()) and len(logs) > 4 else None
    gaps = np.diff(times) * rate_qps
    for busy in _LUCK:
        if marked is None:
            found += [0.0, 0.0]
            continue
        steps = np.concatenate([[0.0], np.cumsum(busy - gaps)])
        waits = (steps - np.minimum(np.minimum.accumulate(steps), 0.0))[marked]
        usual = busy**2 / (2 * (1 - busy))
        mean, spread = float(waits.mean()), float(waits.std())
        centred = logs - logs.mean()
        scale = spread * float(logs.std()) * len(logs)
        found += [
            math.log((mean + 0.2 * usual) / (1.2 * usual)),
            float(((waits - mean) * centred).sum()) / scale if scale > 1e-9 else 0.0,
        ]
    squares = float(gaps.var()) if len(gaps) > 1 else 1.0
    return [*found, min(4.0, squares)]


# Where the unit of rates is in the tokens, for training: [0] of a probe and [1] of a burst are the anchors' rates.
PROBE_RATES, PROBE_WAVES, BURST_RATES, BURST_WAVES = (0, 23), 38, (1,), 13
QUERY_RATES = {6: 1 / 3, 7: 1.0}  # they rise with the unit
# Beyond what it was trained on the network would guess: limits this many times a lone request, requests of one probe.
_WIDEST, _MAX_REQUESTS = 30.0, 3000
QUERY_WIDTH, BURST_WIDTH, PROBE_WIDTH = 10 + len(METRICS) + len(ARRIVALS), 13 + 2 * len(WAVES), 44


def _latest(probe: Requests) -> Requests:
    """The probe, or the last part of it where it has more requests than any that was trained on."""
    numbers = np.flatnonzero(probe.counted)
    if len(numbers) <= _MAX_REQUESTS:
        return probe
    first = int(numbers[-_MAX_REQUESTS])
    times = probe.scheduled_s[first:] - (probe.scheduled_s[first - 1] if first else 0.0)
    failed = round(probe.failed * _MAX_REQUESTS / len(numbers))
    return Requests(probe.rate_qps, times, probe.values_s[first:], probe.counted[first:], failed)


def tokens(
    asked: Query, lone_s: Floats, bursts: list[BurstResult], probes: list[Requests], unit_qps: float | None = None
) -> NetworkInput:
    """Everything that a trial has seen, for one query. The unit of rates is `scale_qps` unless another is given."""
    base = float(np.median(lone_s)) if len(lone_s) else asked.limit_s
    scale = scale_qps(bursts, base) if unit_qps is None else unit_qps
    base = max(base, asked.limit_s / _WIDEST)
    lone_s, probes = np.maximum(lone_s, asked.limit_s / _WIDEST), [_latest(probe) for probe in probes]
    of_bursts = [burst_token(burst, asked, base, scale) for burst in bursts]
    of_probes = [probe_token(probe, asked, base, scale) for probe in probes]
    return NetworkInput(
        query_token(asked, lone_s, scale, len(probes)),
        np.array(of_bursts).reshape(-1, BURST_WIDTH),
        np.array(of_probes).reshape(-1, PROBE_WIDTH),
        np.array([*(token[1] for token in of_bursts), *(token[0] for token in of_probes)]),
        scale,
    )
