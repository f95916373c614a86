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
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SLOWEST, _FASTEST = 1.02, 0.25  # service time, in mean gaps between arrivals
_GRID, _GOLDEN = 16, 8
_STABLE = 0.985  # utilisation above which there is no long run to speak of
_EXPLAINS = 0.4  # least squared correlation
_LEAST_EXPLAINED = 50  # latencies
_ROUNDED = 500  # utilisations are rounded to 1/500, so that their long runs can be kept
_DROPPED = 2_000
# With this seed the first two moments of the waits at 70 to 95% utilisation are within 1.4% of their exact values
# (Pollaczek and Khinchine); most seeds are off by 5 to 10%.
_LONG, _TYPICAL_SEED = 400_000, 37
_TAIL = np.concatenate([np.linspace(0.0, 0.9, 91), 1 - np.geomspace(0.1, 2e-5, 120)[1:]])


def waits(arrivals: Floats, service: float) -> Floats:
    """Waiting times before service by Lindley's recursion, starting empty; arrivals in order, any unit of time."""
    steps = np.cumsum(np.concatenate([[0.0], service - np.diff(arrivals)]))
    return np.asarray(steps - np.minimum(np.minimum.accumulate(steps), 0.0))


class LongRun:
    """How long the reference's waits are in the long run, for one kind of arrivals. `arrivals` have a mean gap of 1."""

    def __init__(self, arrivals: Floats) -> None:
        self._arrivals = arrivals
        self._kept = lru_cache(maxsize=512)(self._quantiles)

    def share_beyond(self, wait: float, utilisation: float) -> float:
        """The share of waits above `wait` (in mean gaps) at a utilisation below 1."""
        lower = math.floor(utilisation * _ROUNDED)
        below, above = (self._share(wait, step) for step in (lower, lower + 1))
        weight = utilisation * _ROUNDED - lower
        return float(below ** (1 - weight) * above**weight)

    def _share(self, wait: float, step: int) -> float:
        return max(1e-7, 1 - float(np.interp(wait, self._kept(step), _TAIL, left=0.0, right=1.0)))

    def _quantiles(self, step: int) -> Floats:
        found = waits(self._arrivals, step / _ROUNDED)[_DROPPED:]
        # The waits of empty queues are all zero; a grain makes the quantiles strictly increase.
        return np.asarray(np.quantile(found, _TAIL) + np.arange(len(_TAIL)) * 1e-9)


@lru_cache
def poisson_long_run() -> LongRun:
    """Of independent arrivals, always the same ones."""
    return LongRun(np.cumsum(np.random.default_rng(_TYPICAL_SEED).exponential(1.0, _LONG)))


@dataclass(frozen=True)
class Reference:
    """The reference's latencies on the scale of the measured ones, in seconds, in this stretch.

    `explained` is the share of the measured variance that they explain.
    """

    latencies_s: Floats
    base_s: float
    slope: float
    utilisation: float
    gap_s: float
    explained: float
    long_run: LongRun

    def share_beyond(self, limit_s: float) -> float:
        """The share of its latencies over a limit in the long run."""
        return self.long_run.share_beyond((limit_s - self.base_s) / self.slope / self.gap_s, self.utilisation)


def fit(
    arrivals_s: Floats, measured_s: Floats, known: NDArray[np.bool_], rate_qps: float, long_run: LongRun
) -> Reference | None:
    """The best reference, or None where none explains much. `known` marks the latencies that are to be explained."""
    target = measured_s[known]
    spread = float(target.std()) if len(target) >= _LEAST_EXPLAINED else 0.0
    if spread == 0:
        return None
    centred = (target - target.mean()) / (spread * len(target))

    def correlation(service_s: float) -> float:
        found = waits(arrivals_s, service_s)[known]
        return float(found @ centred) / max(1e-12, float(found.std()))

    service_s = _highest(correlation, _FASTEST / rate_qps, _SLOWEST / rate_qps)
    utilisation, fitted = service_s * rate_qps, correlation(service_s)
    if fitted <= 0 or fitted**2 < _EXPLAINS or utilisation > _STABLE:
        return None
    here = waits(arrivals_s, service_s)
    slope = fitted * spread / float(here[known].std())
    base_s = float(target.mean()) - slope * float(here[known].mean())
    return Reference(base_s + slope * here, base_s, slope, utilisation, 1 / rate_qps, fitted**2, long_run)


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
