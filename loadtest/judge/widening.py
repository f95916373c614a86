"""How much more a server might hold than was measured while others took a share of its cores."""

from __future__ import annotations

import math
from collections.abc import Iterable

from loadtest.plan import Interval, Probe

# A server that is given a share s less of its cores serves s less, and at a latency limit less than that: where others
# come in bursts it must hold the limit in the worst of them, when the two take turns. Hence (1 - s) squared.
_LOSS_POWER = 2.0
_MAX_TAKEN = 0.9


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
    """How many times as much the server might hold if its neighbours were quiet, at most."""
    return 1 / math.pow(1 - min(_MAX_TAKEN, taken_share(probes)), _LOSS_POWER)


def widened(interval: Interval, probes: Iterable[Probe]) -> Interval:
    """The interval of a capacity, with an upper end that allows for what others took. Nobody's neighbours make a
    server faster, so the lower end stays.
    """
    return interval.model_copy(update={"high": interval.high * possible_gain(probes)})
