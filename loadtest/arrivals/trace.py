"""Recorded traffic as arrivals: a CSV file of the times of requests, or of rates over time."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_PIECE = 10_000.0  # arrivals that are drawn at once


class TraceError(Exception):
    """The file is not a trace; the message names file and line."""


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
        """How long the rates take to come round; 0 for times, which are stretched."""
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
    """Reads `time` (seconds or ISO dates, ascending), with `rate` where each line is a rate from that time on.

    Raises TraceError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not rows or "time" not in rows[0]:
        raise TraceError(f"{path}:1 needs a header with the column time (and rate, where lines are rates)")
    times = np.array([_time(row.get("time"), f"{path}:{line}") for line, row in enumerate(rows, start=2)])
    falling = np.flatnonzero(np.diff(times) < 0)
    if len(falling):
        raise TraceError(f"{path}:{falling[0] + 3}: the time is before that of the line above; sort the trace")
    if len(times) < 2 or times[-1] <= times[0]:
        raise TraceError(f"{path} needs at least two different times")
    gaps = np.diff(times)
    if "rate" not in rows[0]:
        return Trace(gaps=gaps / gaps.mean())
    rates = np.array([_rate(row.get("rate"), f"{path}:{line}") for line, row in enumerate(rows, start=2)])
    steps = np.append(gaps, gaps[-1])  # the last rate holds as long as the one before
    mean = float(steps @ rates / steps.sum())
    if mean <= 0:
        raise TraceError(f"{path}: all rates are 0")
    return Trace(steps_s=steps, rates=rates / mean)


def _time(text: str | None, where: str) -> float:
    try:
        found = float(text or "")
    except ValueError:
        try:
            found = datetime.fromisoformat((text or "").strip()).timestamp()
        except ValueError:
            raise TraceError(f"{where}: {text!r} is neither seconds nor an ISO date and time") from None
    if not np.isfinite(found):
        raise TraceError(f"{where}: {text!r} is not a finite time")
    return found


def _rate(text: str | None, where: str) -> float:
    try:
        found = float(text or "")
    except ValueError:
        found = -1.0
    if not (np.isfinite(found) and found >= 0):
        raise TraceError(f"{where}: {text!r} is not a rate in requests per second")
    return found


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
