"""How fast the machine was in each trial, so that trials an hour apart can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from results.records import TrialRecord


def machine_speeds(records: Sequence[TrialRecord]) -> list[float | None]:
    """Relative to the first of these trials whose machine was timed: 0.8 did the same work in a quarter more time."""
    times_ms = [None if one.machine is None else one.machine.work_ms for one in records]
    first_ms = next((work_ms for work_ms in times_ms if work_ms), None)
    return [first_ms / work_ms if first_ms and work_ms else None for work_ms in times_ms]
