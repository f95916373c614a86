"""Recorded traffic for a capacity plan, read as the load test reads it."""

from __future__ import annotations

from pathlib import Path

from loadtest import TraceError, read_recorded
from results import ResultsError
from results.planning import Traffic, recorded_traffic
from tuner.outcome.prometheus import SCHEME, read_recorded_rates


def read_traffic(source: Path | str) -> Traffic:
    """A trace for a plan, as the load test reads it, or what Prometheus has recorded. Raises ResultsError that names
    file and line, and as `read_recorded_rates`.
    """
    if isinstance(source, str) and source.startswith(SCHEME):
        return read_recorded_rates(source)
    path = Path(source)
    try:
        found = read_recorded(path)
    except TraceError as error:
        raise ResultsError(str(error)) from error
    return recorded_traffic(found.name, found.times_s, found.steps_s, found.rates, found.begins)
