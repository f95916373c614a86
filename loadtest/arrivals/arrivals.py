"""When requests are due: seeded schedules of an open loop, in seconds after the start of a probe."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.trace import Trace
from loadtest.plan import Burst, LoadPlan

Floats = NDArray[np.float64]

_CHUNK = 1024


class Arrivals:
    """The kind of arrivals that a plan asks for. The same rate and seed give the same schedule, in any process."""

    def __init__(self, plan: LoadPlan, trace: Trace | None) -> None:
        self._kind, self._burst, self._trace = plan.arrivals, plan.burst, trace

    @property
    def poisson(self) -> bool:
        """Whether arrivals are independent of each other."""
        return self._kind == "poisson"

    @property
    def correlated_s(self) -> float:
        """For how many seconds arrivals are correlated: a burst makes many requests late together."""
        if self._kind == "bursty":
            return 2 * self._burst.length_s * self._burst.factor
        return 0.0 if self._trace is None else self._trace.longest_step_s

    @property
    def cycle_s(self) -> float:
        """How many seconds a stretch must last to have seen every part of the pattern once; 0 if there is no
        pattern.
        """
        if self._kind == "bursty":
            return self._burst.length_s / self._burst.share
        return 0.0 if self._trace is None else self._trace.cycle_s

    def schedule(self, rate_qps: float, seed: int) -> Iterator[float]:
        """Endless ascending times at which requests are due, `rate_qps` a second on average."""
        generator = np.random.default_rng(seed)
        if self._trace is not None:
            return self._trace.schedule(rate_qps, generator)
        if self._kind == "bursty":
            return _bursty(rate_qps, self._burst, generator)
        if self._kind == "constant":
            return (number / rate_qps for number in itertools.count(1))
        return _poisson(rate_qps, generator)


def _poisson(rate_qps: float, generator: np.random.Generator) -> Iterator[float]:
    """Exponential gaps, as from many independent users."""
    now = 0.0
    while True:
        times = now + np.cumsum(generator.exponential(1 / rate_qps, _CHUNK))
        yield from times.tolist()
        now = float(times[-1])


def _bursty(rate_qps: float, burst: Burst, generator: np.random.Generator) -> Iterator[float]:
    """A Markov-modulated Poisson process with two states (Fischer and Meier-Hellstern, Perform. Evaluation 18, 1993).

    `burst.share` of the time the rate is `burst.factor` times the mean, else as much lower as keeps the mean.
    """
    high = burst.factor * rate_qps
    low = rate_qps * (1 - burst.factor * burst.share) / (1 - burst.share)
    begin, bursting = 0.0, bool(generator.random() < burst.share)
    while True:
        length = burst.length_s if bursting else burst.length_s * (1 - burst.share) / burst.share
        end = begin + float(generator.exponential(length))
        count = generator.poisson((high if bursting else low) * (end - begin))
        # Given their number, the arrivals of a Poisson process are uniform.
        yield from np.sort(generator.uniform(begin, end, count)).tolist()
        begin, bursting = end, not bursting
