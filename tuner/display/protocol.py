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
class MoneyOutline:
    """What earlier trials of the study cost, in the currency of its prices."""

    currency: str = ""
    spent: float = 0.0


@dataclass(frozen=True)
class StudyOutline:
    """What is known before the first trial. `seconds_at_most` leaves out the servers' own start; `parallel` trials run
    at once. `study` is the same in every run that goes on with the study, and in no other. `open_ended`: no number of
    trials was asked for; `budget` is the most. `time_left_s` is what earlier runs left of a budget of time. `limited`
    are the percentiles that the SLO limits. `states` says of the `finished` trials how many ended in each state, and
    `best` is the best of them.
    """

    service: str
    objective: str
    slo: str
    space: SpaceOutline
    budget: int
    finished: int
    seconds_at_most: float | None
    output: Path
    money: MoneyOutline = MoneyOutline()
    parallel: int = 1
    study: str = ""
    open_ended: bool = False
    time_left_s: float | None = None
    limited: tuple[Percentile, ...] = ()
    states: Mapping[str, int] = field(default_factory=dict)
    best: TrialRecord | None = None

    @property
    def parameters(self) -> int:
        """How many parameters the space has."""
        return self.space.parameters

    @property
    def space_size(self) -> str:
        """How many valid configurations the space has."""
        return self.space.size

    @property
    def currency(self) -> str:
        """That of all prices."""
        return self.money.currency

    @property
    def spent(self) -> float:
        """What earlier trials of the study cost."""
        return self.money.spent


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
