"""The traffic that is planned for: a rate over time, as a number, a pattern, or a recorded trace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from results.files import ResultsError
from results.text import visible

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Pattern = Literal["steady", "daily", "burst", "periodic"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

_DAY_S = 86_400.0
_STEP_S = 60.0
_LEAST_STEP_S = 1.0
_MOST_STEPS = 200_000
_PEAK_H = 20.0  # local time of the daily peak: the evening, as public traces of web traffic have it
_BURST_S, _BURSTS = 300.0, (10.0, 15.0, 21.0)  # five minutes long, at these hours
_PERIOD_S, _BUSY_SHARE = 3600.0, 0.25  # jobs that start on the hour and run for a quarter of it
_TIMES = ("time", "timestamp", "ts", "datetime", "date", "seconds", "at_s", "t")
_RATES = ("rate", "qps", "rps", "rate_qps", "requests_per_second")
_COUNTS = ("requests", "count")


@dataclass(frozen=True)
class Traffic:
    """`rates` in requests per second, each for `step_s` seconds; what comes after is the same again. `known`: it comes
    by the clock, so that replicas may.
    """

    step_s: float
    rates: Floats
    name: str
    known: bool = False

    @property
    def peak_qps(self) -> float:
        """The highest rate of a step."""
        return float(self.rates.max())

    @property
    def mean_qps(self) -> float:
        """The mean rate."""
        return float(self.rates.mean())

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.step_s * len(self.rates)

    def scaled(self, peak_qps: float) -> Traffic:
        """The same shape with another peak."""
        return Traffic(self.step_s, self.rates * (peak_qps / self.peak_qps), self.name, self.known)


def pattern(kind: Pattern, peak_qps: float, valley_qps: float | None = None) -> Traffic:
    """A day of traffic between a valley (a fifth of the peak where none is given) and a peak.

    - `steady`: always the peak.
    - `daily`: one wave, highest at 20 h, lowest at 8 h.
    - `burst`: the valley, and three times a day the peak for five minutes, at once.
    - `periodic`: the peak for the first quarter of every hour, the valley for the rest.

    Raises ResultsError for rates that cannot be.
    """
    low = peak_qps / 5 if valley_qps is None else valley_qps
    if not (0 < peak_qps < math.inf and 0 <= low <= peak_qps):
        raise ResultsError(
            f"traffic between {low:g} and {peak_qps:g} requests/s: the valley must not be above the peak"
        )
    at = np.arange(0.0, _DAY_S, _STEP_S)
    if kind == "steady":
        rates = np.full(len(at), peak_qps)
    elif kind == "daily":
        rates = low + (peak_qps - low) * (1 + np.cos(2 * np.pi * (at / 3600 - _PEAK_H) / 24)) / 2
    elif kind == "burst":
        busy = np.any([(at >= 3600 * hour) & (at < 3600 * hour + _BURST_S) for hour in _BURSTS], axis=0)
        rates = np.where(busy, peak_qps, low)
    else:
        rates = np.where(at % _PERIOD_S < _BUSY_SHARE * _PERIOD_S, peak_qps, low)
    return Traffic(_STEP_S, rates, f"{kind} traffic", known=True)


def read_traffic(path: Path) -> Traffic:
    """A CSV file with a column `time` (seconds, or dates; ascending) and `rate` (requests/s from then on), or
    `requests` (how many from then to the next line); with `time` alone each line is a request.

    Raises ResultsError, naming file, line and column.
    """
    table, times = _read(path)
    named = {name.strip().lower(): name for name in map(str, table.columns)}
    rate = next((named[name] for name in _RATES if name in named), None)
    count = next((named[name] for name in _COUNTS if name in named), None)
    shown = visible(path.name)
    if rate is None and count is None:
        return _of_requests(times, shown)
    if len(times) < 2:
        raise ResultsError(f"{visible(str(path))}: one line is no trace; --qps plans for a steady rate")
    values = _numbers(path, table, rate or count or "")
    gaps = np.diff(times)
    if (gaps <= 0).any():
        raise ResultsError(f"{shown}: two lines have the same time")
    lengths = np.append(gaps, np.median(gaps))
    rates = values if rate is not None else values / lengths
    return _even(times - times[0], lengths, rates, shown)


def _read(path: Path) -> tuple[pd.DataFrame, Floats]:
    import pandas as pd

    shown = visible(str(path))
    try:
        table = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True, index_col=False, compression=None)
    except OSError as error:
        raise ResultsError(f"cannot read {shown}: {error.strerror}; name a CSV file with time and rate") from error
    except ValueError as error:  # pandas' own errors, and Unicode's
        why = " ".join(visible(str(error)).split())
        raise ResultsError(f"{shown} is not a CSV file with time and rate: {why}") from error
    named = {name.strip().lower(): name for name in map(str, table.columns)}
    column = next((named[name] for name in _TIMES if name in named), None)
    if column is None:
        raise ResultsError(f"{shown}:1: no column for the time; name one `time` (seconds or dates), and one `rate`")
    if table.empty:
        raise ResultsError(f"{shown}: nothing but a heading; each line is a time and the rate from then on")
    if table[column].dtype.kind in "if":
        times = _numbers(path, table, column)
    else:
        moments = pd.to_datetime(table[column], errors="coerce", utc=True, format="ISO8601")
        if moments.isna().any():
            line = int(np.flatnonzero(moments.isna())[0]) + 2
            raise ResultsError(f"{shown}:{line}: {column} is neither seconds nor a date such as 2026-03-01T12:00:00Z")
        times = np.asarray((moments - moments.iloc[0]).dt.total_seconds(), dtype=float)
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        raise ResultsError(f"{shown}:{int(back[0]) + 3}: {column} goes back in time; sort the lines")
    return table, times


def _numbers(path: Path, table: pd.DataFrame, column: str) -> Floats:
    import pandas as pd

    values = np.asarray(pd.to_numeric(table[column], errors="coerce"), dtype=float)
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(wrong):
        found = visible(str(table[column].iloc[int(wrong[0])]))
        raise ResultsError(f"{visible(str(path))}:{int(wrong[0]) + 2}: {column} is {found}; it must be 0 or more")
    return values


def _of_requests(times: Floats, name: str) -> Traffic:
    """Counts per step of a length in which there are some."""
    span = float(times[-1] - times[0])
    if span <= 0:
        raise ResultsError(f"{name}: all requests at one time; a trace covers some minutes at least")
    step = max(float(np.clip(100 * span / len(times), _LEAST_STEP_S, _STEP_S)), span / _MOST_STEPS)
    counts = np.bincount(((times - times[0]) / step).astype(int)).astype(float)
    return _checked(Traffic(step, counts / step, name))


def _even(starts: Floats, lengths: Floats, rates: Floats, name: str) -> Traffic:
    """Onto equal steps, so that no request is lost: a step has the mean rate of its time."""
    if (lengths <= 0).any():
        raise ResultsError(f"{name}: two lines have the same time")
    span = float(starts[-1] + lengths[-1])
    step = max(min(_STEP_S, float(lengths.min())), _LEAST_STEP_S, span / _MOST_STEPS)
    edges = np.linspace(0.0, span, max(1, round(span / step)) + 1)
    requests = np.interp(edges, np.append(starts, span), np.append(0.0, np.cumsum(rates * lengths)))
    return _checked(Traffic(float(edges[1]), np.diff(requests) / float(edges[1]), name))


def _checked(traffic: Traffic) -> Traffic:
    if traffic.peak_qps <= 0:
        raise ResultsError(f"{traffic.name}: no requests at all")
    return traffic
