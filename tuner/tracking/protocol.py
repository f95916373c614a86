"""The seam between a run and what keeps track of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from results import Recommendation, TrialRecord
from tuner.display import StudyOutline


class TrackerDownError(Exception):
    """A tracker that cannot be reached or refuses what it is sent; the message says why, without secrets."""


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that is over, and `best`, the best so far. `phases` are what it did and since when; times are in
    nanoseconds since 1970. A `confirmation` measured a configuration again, under its first trial's number.
    """

    record: TrialRecord
    started_ns: int
    ended_ns: int
    phases: tuple[tuple[str, int], ...] = ()
    best: TrialRecord | None = None
    confirmation: bool = False

    @property
    def name(self) -> str:
        """The trial's name for people: `trial 7`, or `trial 7, again`."""
        return f"trial {self.record.number}{', again' if self.confirmation else ''}"


class Tracker(Protocol):
    """Calls come from one thread that is no trial's, in the study's order, and may block. Any exception ends the
    tracker: it is called no more, and the run goes on.
    """

    @property
    def name(self) -> str:
        """What it is and where, for a message: without secrets."""

    def begin(self, outline: StudyOutline) -> None:
        """Before the first trial."""

    def trial(self, trial: FinishedTrial) -> None:
        """A trial, or a confirmation, is over."""

    def end(self, recommendation: Recommendation | None, folder: Path) -> None:
        """The run is over and its files lie in `folder`; without a recommendation it was interrupted or failed."""
