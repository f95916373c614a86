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
from tuner.stopping import MOST_TRIALS, why_stop
from tuner.store import StudyStore
from tuner.trial import Question, TrialSetup, run_trial

_DOUBT = 0.5  # the trust below which the Gaussian process decides
_CONFIRMED = 3  # how many of the best are measured again


@dataclass(frozen=True)
class Study:
    """What the loop works with. `budget` counts trials of every state, those of earlier runs included; None: until
    another trial is not worth what it costs.
    """

    setup: TrialSetup
    store: StudyStore
    objective: Objective
    display: Display
    budget: int | None

    def search(self) -> None:
        """Spend the budget. Every finished trial is stored before the next begins."""
        spec = self.setup.loaded.spec
        records = self.store.records()
        if spec.current is not None and not records:
            self.store.enqueue(spec.current)
        most = MOST_TRIALS if self.budget is None else self.budget
        doubted = False
        while len(records) < most:
            try:
                if self.budget is None and (reason := self._why_stop(records)):
                    self.store.stop(reason)
                    self.display.notice(reason)
                    return
                number, configuration = self.store.ask()
            except SpaceExhausted:
                self.display.notice(f"all {len(records)} configurations of the space have been tried")
                return
            break_even = partial(self.objective.break_even_qps, best=self._best(records))
            question = Question(number, configuration, break_even)
            self.display.trial_started(number, configuration, len(records) + 1, most)
            record = run_trial(self.setup, question, self.display.phase)
            self.store.tell(record)
            records.append(record)
            self.display.trial_finished(record, self._best(records))
            doubted = self._say_trust(records, doubted)

    def _why_stop(self, records: list[TrialRecord]) -> str | None:
        best = self._best(records)
        improvement = None if best is None else self.store.expected_improvement(records)
        return None if best is None or improvement is None else why_stop(improvement, self.objective, best, records)

    def _say_trust(self, records: list[TrialRecord], doubted: bool) -> bool:
        """Say when predictions stop fitting what is measured, and when they fit again."""
        judged = self.store.judge(records)
        if not judged or (judged[-1].trust < _DOUBT) == doubted:
            return doubted
        if doubted:
            self.display.notice("the service is as predicted again: the search trusts what it knows of services")
        else:
            self.display.notice(
                "the service is unlike those that the search has learned from: it goes on with a Gaussian process"
            )
        return not doubted

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
