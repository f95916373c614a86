"""How much more a server might hold than was measured while others took a share of its cores."""

from __future__ import annotations

import math
from collections.abc import Iterable

from loadtest.plan import Interval, Measurement, Probe

# A server that is given a share s less of its cores serves s less, and at a latency limit less than that: where others
# come in bursts it must hold the limit in the worst of them, when the two take turns. Hence (1 - s) squared.
_LOSS_POWER = 2.0
_MAX_TAKEN = 0.9
_MIN_REQUESTS = 30


def taken_share(probes: Iterable[Probe]) -> float:
    """The share of the server's cores that others took while it did not hold a rate: the mean over those probes' time.

    Probes in which it held the rate are left out: what was taken then did no harm.
    """
    lost = [
        (probe.neighbours.taken if probe.neighbours.disturbed else 0.0, probe.duration_s)
        for probe in probes
        if probe.neighbours is not None and probe.verdict in ("missed", "undecided")
    ]
    total_s = sum(duration_s for _, duration_s in lost)
    return sum(taken * duration_s for taken, duration_s in lost) / total_s if total_s else 0.0


def possible_gain(probes: Iterable[Probe]) -> float:
    """How many times as much the server might hold if its neighbours were quiet, at most, by all its probes."""
    return gain_of(taken_share(probes))


def gain_of(taken: float) -> float:
    """How many times as much a server might hold that others cost so large a share of its speed."""
    return 1 / math.pow(1 - min(_MAX_TAKEN, taken), _LOSS_POWER)


def widened(measurement: Measurement) -> Measurement:
    """The measurement, with an upper end of its capacity that allows for what others took. Nobody's neighbours make a
    server faster, so the lower end stays.
    """
    capacity = measurement.capacity_qps
    gain = possible_gain(measurement.probes)
    if capacity is None or gain == 1:
        return measurement
    wide = capacity.model_copy(update={"high": capacity.high * gain})
    return measurement.model_copy(update={"capacity_qps": wide})


def at_least(measurement: Measurement, allowed: float) -> Measurement:
    """Where neighbours left no probe that counts: the highest rate at which no more than `allowed` of the requests
    missed their limit, as a lower bound. To have been disturbed never makes a request faster.

    The generator's own probes do not count where it was late because others used its cores; what held then holds.
    """
    held = [one for one in measurement.probes if one.requests >= _MIN_REQUESTS and _held(one, allowed)]
    if measurement.outcome != "invalid" or not held:
        return measurement
    best = max(held, key=lambda one: one.rate_qps)
    high = max(best.rate_qps, measurement.saturated_qps or 0.0) * possible_gain(measurement.probes)
    capacity = Interval(value=best.rate_qps, low=min(one.rate_qps for one in held), high=high)
    return measurement.model_copy(
        update={
            "outcome": "measured", "reason": "", "capacity_qps": capacity, "client_limited": True,
            "p50_ms": best.p50_ms, "p95_ms": best.p95_ms, "p99_ms": best.p99_ms,
            "error_rate": best.errors / best.requests,
        }
    )  # fmt: skip


def _held(probe: Probe, allowed: float) -> bool:
    return max(probe.misses, probe.errors) <= allowed * probe.requests
