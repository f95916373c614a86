"""Recorded traffic as arrivals: its shape, at whatever rate a probe has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.recorded import RecordedTraffic, TraceError, read_recorded

__all__ = ["RecordedTraffic", "Trace", "TraceError", "read_recorded", "read_trace", "trace_of"]

Floats = NDArray[np.float64]
_PIECE = 10_000.0  # arrivals that are drawn at once


@dataclass(frozen=True)
class Trace:
    """Either `gaps` between requests, relative to their mean, or `steps_s` of time with `rates` relative to their mean.

    A probe at some rate sends the same pattern at that mean rate, over and over: gaps are stretched, which keeps how
    requests bunch; rates keep their duration.
    """

    gaps: Floats | None = None
    steps_s: Floats | None = None
    rates: Floats | None = None

    @property
    def cycle_s(self) -> float:
        """The seconds after which the rates begin again; 0 for recorded times, which are stretched to any rate."""
        return 0.0 if self.steps_s is None else float(self.steps_s.sum())

    @property
    def longest_step_s(self) -> float:
        """How long a rate lasts at most."""
        return 0.0 if self.steps_s is None else float(self.steps_s.max())

    def schedule(self, rate_qps: float, generator: np.random.Generator) -> Iterator[float]:
        """Endless times in seconds. Times begin anywhere in the trace, rates at its beginning."""
        if self.gaps is not None:
            return _repeated(np.roll(self.gaps, int(generator.integers(len(self.gaps)))) / rate_qps)
        assert self.steps_s is not None and self.rates is not None  # noqa: S101, PT018 (one of the two is set)
        return _at_rates(self.steps_s, self.rates * rate_qps, generator)


def read_trace(path: Path) -> Trace:
    """Reads recorded traffic (see `loadtest.arrivals.recorded`) as arrivals. Raises TraceError."""
    return trace_of(read_recorded(path))


def trace_of(recorded: RecordedTraffic) -> Trace:
    """The shape of recorded traffic, without its scale."""
    if recorded.rates is None:
        gaps = np.diff(recorded.times_s)
        return Trace(gaps=gaps / gaps.mean())
    steps = recorded.steps_s
    return Trace(steps_s=steps, rates=recorded.rates / float(steps @ recorded.rates / steps.sum()))


def _repeated(gaps_s: Floats) -> Iterator[float]:
    now = 0.0
    while True:
        times = now + np.cumsum(gaps_s)
        yield from times.tolist()
        now = float(times[-1])


def _at_rates(steps_s: Floats, rates: Floats, generator: np.random.Generator) -> Iterator[float]:
    """A Poisson process whose rate changes: unit-rate arrivals, put through the inverse of the cumulated rate."""
    ends = np.concatenate([[0.0], np.cumsum(steps_s)])
    expected = np.concatenate([[0.0], np.cumsum(steps_s * rates)])
    begin, total = 0.0, float(expected[-1])
    pieces = max(1, math.ceil(total / _PIECE))  # a day of them at once would take seconds
    while True:
        for piece in range(pieces):
            low, high = total * piece / pieces, total * (piece + 1) / pieces
            places = np.sort(generator.uniform(low, high, generator.poisson(high - low)))
            yield from (begin + np.interp(places, expected, ends)).tolist()
        begin += float(ends[-1])
