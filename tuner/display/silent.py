"""Says nothing: for programs that call `tune` as a function, and as the base of an observer of their own."""

from __future__ import annotations

from pathlib import Path

from results import Recommendation, TrialRecord
from search_spaces import Configuration
from tuner.display.protocol import StudyOutline


class Observer:
    """Is told what happens in a study, and does nothing with it. Override what you want to see; see `Display`."""

    def study_started(self, outline: StudyOutline) -> None:
        """Before the first trial."""

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        """A configuration is about to be launched."""

    def phase(self, number: int, name: str, fraction: float) -> None:
        """What a running trial does; called from the trial's thread."""

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """A trial is over; `best` is the best so far."""

    def trial_lost(self, number: int) -> None:
        """A trial that was started does not count: another process has taken it up."""

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """One of the best is about to be measured again."""

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """It was measured again."""

    def notice(self, text: str) -> None:
        """A sentence that a user should see."""

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """The result; its files lie in `output`."""

    def close(self) -> None:
        """The study is over, whatever happened."""
