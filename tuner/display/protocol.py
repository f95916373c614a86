"""The seam between the loop and the screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from results import Recommendation, TrialRecord
from results.percentiles import Percentile
from search_spaces import Configuration


@dataclass(frozen=True)
class SpaceOutline:
    """How large a search space is: its parameters, and its valid configurations as text (`about 3e+12`)."""

    parameters: int
    size: str


@dataclass(frozen=True)
class BudgetOutline:
    """What a study may use. `trials` is the most of them; `open_ended`: no number of trials was asked for. At most
    `max_load_s` of load is still to come, the servers' own start left out; `time_left_s` is what earlier runs left of a
    budget of time.
    """

    trials: int
    open_ended: bool = False
    max_load_s: float | None = None
    time_left_s: float | None = None


@dataclass(frozen=True)
class EarlierTrials:
    """What earlier runs of the study did: how many trials ended in each state, the best of them, and what all launches
    cost.
    """

    states: Mapping[str, int] = field(default_factory=dict)
    best: TrialRecord | None = None
    spent: float = 0.0

    @property
    def count(self) -> int:
        """How many trials there are."""
        return sum(self.states.values())


@dataclass(frozen=True)
class StudyOutline:
    """What is known before the first trial. `parallel` trials run at once. `study` is the same in every run that goes
    on with the study, and in no other. `limited` are the percentiles that the SLO limits. `currency` is that of all
    prices.
    """

    service: str
    objective: str
    slo: str
    space: SpaceOutline
    budget: BudgetOutline
    output: Path
    earlier: EarlierTrials = EarlierTrials()
    parallel: int = 1
    study: str = ""
    limited: tuple[Percentile, ...] = ()
    currency: str = ""


class Display(Protocol):
    """Calls come from one thread, `phase` excepted, in the study's order; `close` comes last, whatever happened."""

    def study_started(self, outline: StudyOutline) -> None:
        """Before the first trial."""

    def trial_started(self, number: int, configuration: Configuration, position: int, budget: int | None) -> None:
        """`position` counts from 1 to `budget` (None: no number of trials was asked for): the finished trials of all
        processes that share the study, those under way here, and this one.
        """

    def phase(self, number: int, name: str, fraction: float) -> None:
        """What a running trial does, and how much of its time limit has passed (0 to 1); from the trial's thread."""

    def trial_finished(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """`best` is the best so far, this one included."""

    def trial_lost(self, number: int) -> None:
        """A trial that was started does not count, since another process has taken it up: nothing else comes of it."""

    def confirmation_started(self, first: TrialRecord, position: int, count: int) -> None:
        """One of the best is about to be measured again."""

    def confirmation_finished(self, first: TrialRecord, confirmation: TrialRecord) -> None:
        """Both measurements of one configuration."""

    def notice(self, text: str) -> None:
        """A sentence that the user should see."""

    def recommended(self, recommendation: Recommendation, output: Path) -> None:
        """The result; its files lie in `output`."""

    def close(self) -> None:
        """Give the terminal back. May be called twice."""
