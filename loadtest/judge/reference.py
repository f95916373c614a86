"""A reference queue: what a server of constant speed would have made of the very arrivals that were sent.

How late requests get depends on the server and on luck: whether a burst fell into the stretch that was measured. We
know every arrival, so the luck can be computed. The reference serves first come, first served, a constant time each;
that time is the one whose waits explain the measured latencies best. Where they explain them well, the reference's
misses in this stretch against its misses in the long run say how lucky the stretch was (a control variate: Asmussen
and Glynn, Stochastic Simulation, 2007, section V.2). Where they do not, as with service times that vary a lot, it says
nothing and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SLOWEST, _FASTEST = 1.02, 0.25  # service time, in mean gaps between arrivals
_GRID, _GOLDEN = 16, 8
_STABLE = 0.985  # utilisation above which there is no long run to speak of
_EXPLAINS = 0.4  # least squared correlation
_MIN_EXPLAINED = 50  # latencies
_SERIES, _NEWTON, _MIN_SHARE = 4.0, 20, 1e-7


def waits(arrivals: Floats, service: float) -> Floats:
    """Waiting times before service by Lindley's recursion, starting empty; arrivals in order, any unit of time."""
    steps = np.cumsum(np.concatenate([[0.0], service - np.diff(arrivals)]))
    return np.asarray(steps - np.minimum(np.minimum.accumulate(steps), 0.0))


def share_waiting(wait: float, utilisation: float) -> float:
    """The share of waits above `wait` (in service times) in the long run, with independent arrivals: M/D/1.

    Erlang's series (1909), whose terms alternate and grow, where it is short; beyond, the exponential that it nears
    (Tijms, A First Course in Stochastic Models, 2003, section 9.6.1), which is within 0.3% from four service times on.
    """
    if wait < 0:
        return 1.0
    if wait < _SERIES:
        terms = (
            (-utilisation * (wait - k)) ** k / math.factorial(k) * math.exp(utilisation * (wait - k))
            for k in range(int(wait) + 1)
        )
        return max(_MIN_SHARE, 1 - (1 - utilisation) * sum(terms))
    rate = 2 * (1 - utilisation) / utilisation  # the root of utilisation * (e^x - 1) = x, by Newton's method
    for _ in range(_NEWTON):
        grown = utilisation * math.exp(rate)
        rate -= (grown - utilisation - rate) / (grown - 1)
    return max(_MIN_SHARE, (1 - utilisation) / (utilisation * math.exp(rate) - 1) * math.exp(-rate * wait))


@dataclass(frozen=True)
class Reference:
    """The reference's latencies on the scale of the measured ones, in seconds, in this stretch.

    `explained` is the share of the measured variance that they explain.
    """

    latencies_s: Floats
    base_s: float
    slope: float
    utilisation: float
    service_s: float
    explained: float

    def share_beyond(self, limit_s: float) -> float:
        """The share of its latencies over a limit in the long run."""
        return share_waiting((limit_s - self.base_s) / self.slope / self.service_s, self.utilisation)


def fit(arrivals_s: Floats, measured_s: Floats, known: NDArray[np.bool_], rate_qps: float) -> Reference | None:
    """The best reference, or None where none explains much. `known` marks the latencies that are to be explained."""
    target = measured_s[known]
    spread = float(target.std()) if len(target) >= _MIN_EXPLAINED else 0.0
    if spread == 0:
        return None
    centred = (target - target.mean()) / (spread * len(target))

    def correlation(service_s: float) -> float:
        found = waits(arrivals_s, service_s)[known]
        # Not `found @ centred`: BLAS has a thread for every core there is, and they would fight for the one we are on.
        return float((found * centred).sum()) / max(1e-12, float(found.std()))

    service_s = _highest(correlation, _FASTEST / rate_qps, _SLOWEST / rate_qps)
    utilisation, fitted = service_s * rate_qps, correlation(service_s)
    if fitted <= 0 or fitted**2 < _EXPLAINS or utilisation > _STABLE:
        return None
    here = waits(arrivals_s, service_s)
    slope = fitted * spread / float(here[known].std())
    base_s = float(target.mean()) - slope * float(here[known].mean())
    return Reference(base_s + slope * here, base_s, slope, utilisation, service_s, fitted**2)


def _highest(score: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one number is highest: a grid, then golden section between the best point's neighbours."""
    grid = np.linspace(low, high, _GRID)
    top = int(np.argmax([score(float(value)) for value in grid]))
    low, high = float(grid[max(0, top - 1)]), float(grid[min(_GRID - 1, top + 1)])
    left, right = low + 0.382 * (high - low), low + 0.618 * (high - low)
    at_left, at_right = score(left), score(right)
    for _ in range(_GOLDEN):
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = low + 0.382 * (high - low)
            at_left = score(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + 0.618 * (high - low)
            at_right = score(right)
    return (low + high) / 2
