"""How fast the machine was in each trial, so that trials an hour apart can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from results.records import TrialRecord


class TimedWork(NamedTuple):
    """The logarithm of the time that fixed work took while a launch was measured, and its standard error."""

    log: float
    error: float

    @classmethod
    def of(cls, record: TrialRecord) -> TimedWork:
        """Not numbers where it was not timed, or not well enough to tell its error."""
        machine = record.machine
        if machine is None or not machine.work_ms or machine.work_error is None:
            return NOT_TIMED
        return cls(math.log(machine.work_ms), machine.work_error)


NOT_TIMED = TimedWork(math.nan, math.nan)


def machine_speeds(records: Sequence[TrialRecord]) -> list[float | None]:
    """Relative to the first of these trials whose machine was timed: 0.8 did the same work in a quarter more time."""
    return _relative([None if one.machine is None else one.machine.work_ms for one in records])


def memory_speeds(records: Sequence[TrialRecord]) -> list[float | None]:
    """As `machine_speeds`, for a copy through memory."""
    return _relative([None if one.machine is None else one.machine.copy_ms for one in records])


def _relative(times_ms: Sequence[float | None]) -> list[float | None]:
    first_ms = next((time_ms for time_ms in times_ms if time_ms), None)
    return [first_ms / time_ms if first_ms and time_ms else None for time_ms in times_ms]
