"""When requests arrive, as the load generator sends them: poisson, constant, bursty, and a trace's changing rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Pattern:
    """`kind` is of `loadtest.judge.features.ARRIVALS`; `levels` are a trace's rates over their mean, `step_s` each."""

    kind: str = "poisson"
    factor: float = 3.0
    share: float = 0.1
    length_s: float = 1.0
    levels: tuple[float, ...] = ()
    step_s: float = 1.0

    @classmethod
    def draw(cls, random: Random) -> Pattern:
        """Mostly Poisson."""
        kind = str(random.choice(["poisson", "constant", "bursty", "trace"], p=[0.78, 0.08, 0.08, 0.06]))
        if kind == "bursty":
            share = float(random.uniform(0.05, 0.25))
            factor = float(random.uniform(1.5, min(4.0, 0.95 / share)))
            return cls(kind, factor, share, float(np.exp(random.uniform(np.log(0.3), np.log(3)))))
        if kind == "trace":
            levels = np.exp(random.normal(0, random.uniform(0.05, 0.4), int(random.integers(3, 10))))
            return cls(kind, levels=tuple(levels / levels.mean()), step_s=float(random.uniform(0.5, 4)))
        return cls(kind)

    def times(self, random: Random, rate_qps: float, count: int) -> Floats:
        """The first so many arrivals, ascending, in seconds."""
        if self.kind == "constant":
            return np.arange(1, count + 1) / rate_qps
        unit = np.cumsum(random.exponential(1.0, count))
        if self.kind == "poisson":
            return unit / rate_qps
        return _warped(unit / rate_qps, *(self._bursty(random, count / rate_qps) if self.kind == "bursty"
                                          else self._trace(count / rate_qps)))  # fmt: skip

    def _bursty(self, random: Random, seconds: float) -> tuple[Floats, Floats]:
        cycle = self.length_s / self.share
        cycles = int(1.5 * seconds / cycle) + 10
        lengths = np.empty(2 * cycles)
        first = int(random.random() < self.share)
        low = (1 - self.factor * self.share) / (1 - self.share)
        lengths[first::2] = random.exponential(cycle - self.length_s, cycles)
        lengths[1 - first :: 2] = random.exponential(self.length_s, cycles)
        levels = np.empty(2 * cycles)
        levels[first::2], levels[1 - first :: 2] = low, self.factor
        return lengths, levels

    def _trace(self, seconds: float) -> tuple[Floats, Floats]:
        repeats = int(1.5 * seconds / (self.step_s * len(self.levels))) + 2
        return np.full(repeats * len(self.levels), self.step_s), np.tile(self.levels, repeats)


def _warped(times: Floats, lengths: Floats, levels: Floats) -> Floats:
    """Arrivals of a constant mean rate, moved so that the rate follows the levels."""
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    work = np.concatenate([[0.0], np.cumsum(lengths * np.maximum(levels, 1e-6))])
    return np.asarray(np.interp(times, work, ends) + np.maximum(0.0, times - work[-1]))
