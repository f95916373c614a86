"""The traffic that is planned for: a rate over time, as a number, a pattern, or a recorded trace."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from results.files import ResultsError
from results.text import duration, figure, visible

Floats = NDArray[np.float64]
Pattern = Literal["steady", "daily", "burst", "periodic"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

_DAY_S = 86_400.0
_STEP_S = 60.0
_MIN_STEP_S = 1.0
_MAX_QPS = 1e9  # as --qps has it
_MAX_STEPS, _MAX_COUNTED = 100_000, 20_000
_PEAK_H = 20.0  # local time of the daily peak: the evening, as public traces of web traffic have it
_BURST_S, _BURSTS = 300.0, (10.0, 15.0, 21.0)  # five minutes long, at these hours
_PERIOD_S, _BUSY_SHARE = 3600.0, 0.25  # jobs that start on the hour and run for a quarter of it


@dataclass(frozen=True)
class Traffic:
    """`rates` in requests per second, each for `step_s` seconds; what comes after is the same again. `known`: it comes
    by the clock, so that replicas may. `span` says from when to when a record goes.
    """

    step_s: float
    rates: Floats
    name: str
    known: bool = False
    span: str | None = None

    @property
    def peak_qps(self) -> float:
        """The highest rate of a step."""
        return float(self.rates.max())

    @property
    def mean_qps(self) -> float:
        """The mean rate over all steps."""
        return float(self.rates.mean())

    @property
    def seconds(self) -> float:
        """How many seconds it lasts, before it begins again."""
        return self.step_s * len(self.rates)

    def scaled(self, peak_qps: float) -> Traffic:
        """The same shape with another peak."""
        return replace(self, rates=self.rates * (peak_qps / self.peak_qps))


def pattern(kind: Pattern, peak_qps: float, valley_qps: float | None = None) -> Traffic:
    """A day of traffic between a valley (a fifth of the peak where none is given) and a peak.

    - `steady`: always the peak.
    - `daily`: one wave, highest at 20 h, lowest at 8 h.
    - `burst`: the valley, and three times a day the peak for five minutes, at once.
    - `periodic`: the peak for the first quarter of every hour, the valley for the rest.

    Raises ResultsError for rates that cannot be.
    """
    if kind not in PATTERNS:
        raise ResultsError(f"there is no pattern {visible(str(kind))}; there are {', '.join(PATTERNS)}")
    if not 0 < peak_qps < math.inf:
        raise ResultsError(f"traffic with a peak of {peak_qps:g} requests/s: a peak is above 0")
    low = peak_qps / 5 if valley_qps is None else valley_qps
    if not 0 <= low <= peak_qps:
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
    _check_rates(rates, f"{kind} traffic")
    return Traffic(_STEP_S, rates, f"{kind} traffic", known=True)


def recorded_traffic(
    name: str, times_s: Floats, steps_s: Floats, rates: Floats | None, begins: datetime | None = None
) -> Traffic:
    """Traffic from a record: rates (requests/s) that each hold for their step, or without them the time of each
    request.

    `begins` is when the first one was, where that is known. Raises ResultsError where there is nothing to plan for.
    """
    shown = visible(name)
    if rates is None:
        return _of_requests(times_s, shown, begins)
    return _even(times_s, steps_s, rates, shown, begins)


def _of_requests(times: Floats, name: str, begins: datetime | None) -> Traffic:
    """Counts per step of a length in which there are some."""
    span = float(times[-1] - times[0])
    if span <= 0:
        raise ResultsError(f"{name}: all requests at one time; a trace covers some minutes at least")
    step = max(float(np.clip(100 * span / len(times), _MIN_STEP_S, _STEP_S)), span / _MAX_COUNTED)
    counts = np.bincount(((times - times[0]) / step).astype(int)).astype(float)
    return _checked(Traffic(step, counts / step, name, span=_span(begins, span)))


def _even(starts: Floats, lengths: Floats, rates: Floats, name: str, begins: datetime | None) -> Traffic:
    """Onto equal steps, so that no request is lost: a step has the mean rate of its time."""
    if (lengths <= 0).any():
        raise ResultsError(f"{name}: two lines have the same time")
    _check_rates(rates, name)
    span = float(starts[-1] + lengths[-1])
    step = max(min(_STEP_S, float(lengths.min())), _MIN_STEP_S, span / _MAX_STEPS)
    edges = np.linspace(0.0, span, max(1, round(span / step)) + 1)
    requests = np.interp(edges, np.append(starts, span), np.append(0.0, np.cumsum(rates * lengths)))
    return _checked(Traffic(float(edges[1]), np.diff(requests) / float(edges[1]), name, span=_span(begins, span)))


def _span(begins: datetime | None, seconds: float) -> str:
    if begins is None:
        return f"{duration(seconds)} long"
    ends = begins + timedelta(seconds=seconds)
    return f"from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC, {duration(seconds)}"


def _check_rates(rates: Floats, name: str) -> None:
    """Raises ResultsError for what nobody can have counted, before arithmetic makes it look like something."""
    impossible = rates[~((rates >= 0) & (rates < math.inf))]
    if len(impossible):
        raise ResultsError(f"{name}: a rate of {impossible[0]:g} requests/s; it must be a number of 0 or more")
    if float(rates.max()) > _MAX_QPS:
        raise ResultsError(
            f"{name}: a rate of {figure(float(rates.max()))} requests/s, more than any traffic; is its unit right?"
        )


def _checked(traffic: Traffic) -> Traffic:
    if traffic.peak_qps <= 0:
        raise ResultsError(f"{traffic.name}: no requests at all")
    return traffic
