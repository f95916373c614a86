"""How much more a server might hold than was measured while others took a share of its cores."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from loadtest.figures import Interval
from loadtest.neighbours.documents import Neighbours
from loadtest.plan import Measurement, Probe

# A server that is given a share s less of its cores serves s less, and at a latency limit less than that: where others
# come in bursts it must hold the limit in the worst of them, when the two take turns. Hence (1 - s) squared.
_LOSS_POWER = 2.0
_MAX_TAKEN = 0.9
_MIN_REQUESTS = 30
VAGUE = 2.0  # high over low: an answer that wide is never sure, whatever was seen to hold and to miss
# A request may cost less CPU time in larger batches than was seen, by about that; from so little use it is not known.
_CHEAPER, _MIN_USED = 1.5, 0.02
_BURST_ERROR = 1.1  # a burst may miss the throughput at full load by that


def taken_share(probes: Iterable[Probe]) -> float:
    """The share of the server's cores that others took: the mean over the time of probes that it did not hold, or over
    that of those that it held, whichever is larger.

    A rate that was held beside neighbours is held all the more without them. But the capacity is inferred from the
    latencies of all probes, and those were longer for the neighbours' work: it would look lower than it is. The two
    kinds are not mixed, or a long quiet probe far below the capacity would hide what happened at the edge.
    """
    counted = [probe for probe in probes if probe.neighbours is not None and probe.verdict != "invalid"]
    return max(_mean_taken(probe for probe in counted if (probe.verdict == "met") is met) for met in (True, False))


def _mean_taken(probes: Iterable[Probe]) -> float:
    found = tuple(probes)
    lost_s = sum(taken_in(one, one.neighbours) * one.duration_s for one in found if one.neighbours is not None)
    return lost_s / max(1e-9, sum(one.duration_s for one in found))


def taken_in(probe: Probe, seen: Neighbours) -> float:
    """The share of its speed that the server lost in a probe to neighbours that disturbed it, at most. It was busy for
    at least as long as so many requests at once make it, each for as long as half of them took: Poisson arrivals.
    """
    if not seen.disturbed:
        return 0.0
    at_once = probe.achieved_qps * (probe.p50_ms or 0.0) / 1e3
    return seen.taken_while(-math.expm1(-at_once))


def possible_gain(probes: Iterable[Probe]) -> float:
    """How many times as much the server might hold if its neighbours were quiet, at most, by all its probes."""
    return gain_of(taken_share(probes))


def gain_of(taken: float) -> float:
    """How many times as much a server might hold that others cost so large a share of its speed."""
    return 1 / math.pow(1 - min(_MAX_TAKEN, taken), _LOSS_POWER)


def raised(rate_qps: float, gain: float, probes: Iterable[Probe], saturated_qps: float | None = None) -> float:
    """That rate times the gain, but no more than the server's cores can do at what a request cost them in probes, nor
    than what it answered at full load without what others took.
    """
    costs = [
        (one.neighbours.server_cores / one.neighbours.server_used_cores * one.achieved_qps)
        for one in probes
        if one.neighbours is not None and one.neighbours.server_used_cores >= _MIN_USED * one.neighbours.server_cores
    ]
    max_qps = _CHEAPER * max(costs, default=math.inf)
    if saturated_qps is not None:
        max_qps = min(max_qps, _BURST_ERROR * saturated_qps * math.pow(gain, 1 / _LOSS_POWER))
    return min(gain * rate_qps, max(rate_qps, max_qps))


def widened_interval(capacity: Interval, probes: Iterable[Probe], saturated_qps: float | None) -> Interval:
    """With an upper end that allows for what others took. Nobody's neighbours make a server faster, so the lower end
    stays.
    """
    probes = tuple(probes)
    return capacity.model_copy(update={"high": raised(capacity.high, possible_gain(probes), probes, saturated_qps)})


def widened(measurement: Measurement, most_qps: float = math.inf) -> Measurement:
    """The measurement, its capacity with such an interval, and no longer sure where that is wide. More than `most_qps`
    could not have been answered on any machine.
    """
    capacity = measurement.capacity_qps
    if capacity is None or possible_gain(measurement.probes) == 1:
        return measurement
    wide = widened_interval(capacity, measurement.probes, measurement.saturated_qps)
    wide = wide.model_copy(update={"high": min(wide.high, max(capacity.high, most_qps))})
    update: dict[str, Any] = {"capacity_qps": wide}
    if measurement.certainty == "sure" and wide.high > VAGUE * wide.low:
        at_most = max(measurement.at_most_qps or 0.0, wide.high)
        update |= {"certainty": "uncertain", "at_least_qps": measurement.at_least_qps or wide.low,
                   "at_most_qps": at_most}  # fmt: skip
    return measurement.model_copy(update=update)


def despite_neighbours(measurement: Measurement, allowed: float) -> Measurement:
    """What can be said of a server whose neighbours left no probe that counts: not nothing, or it would pay for them.

    At least, it holds the highest rate at which no more than `allowed` of the requests missed their limit: to have been
    disturbed never makes a request faster, and a generator that was late only makes them look slower. Where no rate
    held nothing is known: what it answered in bursts it may have answered late, and it may hang under load.
    """
    if measurement.outcome != "invalid":
        return measurement
    held = [one for one in measurement.probes if one.requests >= _MIN_REQUESTS and _held(one, allowed)]
    if not held:
        return measurement
    best = max(held, key=lambda one: one.rate_qps)
    high = max(best.rate_qps, measurement.saturated_qps or 0.0)
    gain = gain_of(max((one.neighbours.taken for one in measurement.probes if one.neighbours), default=0.0))
    capacity = Interval(
        value=best.rate_qps, low=min(one.rate_qps for one in held), high=raised(high, gain, measurement.probes)
    )
    update: dict[str, Any] = {"outcome": "measured", "reason": "", "client_limited": True}
    update |= {"p50_ms": best.p50_ms, "p95_ms": best.p95_ms, "p99_ms": best.p99_ms}
    update |= {"error_rate": best.errors / best.requests, "best_qps": best.rate_qps, "best_requests": best.requests}
    update |= {"streaming": best.streaming, "tokens": best.tokens}
    update |= {"certainty": "uncertain", "at_least_qps": capacity.low, "at_most_qps": capacity.high}
    return measurement.model_copy(update={**update, "capacity_qps": capacity})


def _held(probe: Probe, allowed: float) -> bool:
    return max(probe.misses, probe.errors) <= allowed * probe.requests
