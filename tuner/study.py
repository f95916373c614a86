"""The tuning loop: ask, launch, measure, tell; then measure the best again and recommend.

One configuration flows through this file from top to bottom; everything that a step needs to know is in its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from results import TrialRecord
from tuner.display import Display
from tuner.objective import Objective
from tuner.sampler import SpaceExhausted
from tuner.store import StudyStore
from tuner.trial import Question, TrialSetup, run_trial

_CONFIRMED = 3  # how many of the best are measured again


@dataclass(frozen=True)
class Study:
    """What the loop works with. `budget` counts trials of every state, those of earlier runs included."""

    setup: TrialSetup
    store: StudyStore
    objective: Objective
    display: Display
    budget: int

    def search(self) -> None:
        """Spend the budget. Every finished trial is stored before the next begins."""
        spec = self.setup.loaded.spec
        records = self.store.records()
        if spec.current is not None and not records:
            self.store.enqueue(spec.current)
        while len(records) < self.budget:
            try:
                number, configuration = self.store.ask()
            except SpaceExhausted:
                self.display.notice(f"all {len(records)} configurations of the space have been tried")
                return
            break_even = partial(self.objective.break_even_qps, best=self._best(records))
            question = Question(number, configuration, break_even)
            self.display.trial_started(number, configuration, len(records) + 1, self.budget)
            record = run_trial(self.setup, question, self.display.phase)
            self.store.tell(record)
            records.append(record)
            self.display.trial_finished(record, self._best(records))

    def confirm(self) -> None:
        """Measure the best few again, on fresh launches, longer and without pruning: the luckiest of many noisy
        measurements looks better than it is. Where none of them holds the SLO again, the next best follow.
        """
        again = self.store.confirmations()
        ranked = self.objective.ranked(self.store.records())
        for position, first in enumerate(ranked, start=1):
            if position > _CONFIRMED and any(self.objective.losses(record) is not None for record in again.values()):
                return
            if first.number in again:
                continue
            self.display.confirmation_started(first, position, max(position, min(_CONFIRMED, len(ranked))))
            question = Question(first.number, first.configuration, _never, again=True)
            again[first.number] = run_trial(self.setup, question, self.display.phase)
            self.store.confirm(first.number, again[first.number])
            self.display.confirmation_finished(first, again[first.number])

    def _best(self, records: list[TrialRecord]) -> TrialRecord | None:
        return next(iter(self.objective.ranked(records)), None)


def _never(_price: float | None) -> None:
    """No rate is compared with when a configuration is measured again."""
