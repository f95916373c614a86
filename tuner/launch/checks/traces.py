"""Recorded traffic of which the probes of a load test would see another load than it was."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from loadtest import Trace, read_trace
from tuner.spec.reading import LoadedSpec

_PROBES = 5  # a probe lasts about so many-th a part of a trial at most: a search needs some at both sides of a capacity
_LONGEST_TRIAL_S = 3600
_PIECE = 500  # requests: a probe of 10 s at 50/s
_STEADY = 0.2  # standard deviation of a piece's rate, of the mean; of requests that are independent it is 0.045


def unlike_its_probes(loaded: LoadedSpec) -> Iterator[str]:
    """A sentence about a trace that is too long for a probe, or whose pieces are not alike."""
    if loaded.spec.load.trace is None:
        return
    trace = read_trace(loaded.folder / loaded.spec.load.trace)
    yield from _too_long(trace, loaded.spec.load.max_trial)
    yield from _unsteady(trace)


def _too_long(trace: Trace, max_trial_s: float) -> Iterator[str]:
    if _PROBES * trace.cycle_s <= max_trial_s:
        return
    needed_s = math.ceil(_PROBES * trace.cycle_s)
    longer = f", or write load.max_trial: {needed_s}s" if needed_s <= _LONGEST_TRIAL_S else ""
    yield (
        f"load.trace: its rates take {trace.cycle_s:.0f} s to come round, and a probe lasts about a fifth of "
        f"load.max_trial ({max_trial_s:g} s) at most, from their beginning on: what comes after the first "
        f"{max_trial_s / _PROBES:.0f} s or so is not measured; cut out the part that matters{longer}"
    )


def _unsteady(trace: Trace) -> Iterator[str]:
    """Each probe replays a piece from anywhere in it, at what is the probe's rate on the average of the whole."""
    count = 0 if trace.gaps is None else len(trace.gaps) // _PIECE
    if trace.gaps is None or count < 2:
        return
    pieces = trace.gaps[: count * _PIECE].reshape(count, _PIECE).mean(axis=1)
    rates = 1 / np.maximum(pieces, 1e-9)
    if float(rates.std()) > _STEADY:
        yield (
            f"load.trace: over {_PIECE} requests its rate is {rates.min():.2g} to {rates.max():.2g} times its mean, "
            "and a probe replays a piece from anywhere in it, which is counted as the mean: write its rates over time "
            "(the columns time and rate), or cut out a stretch whose rate is steady"
        )
