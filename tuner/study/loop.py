"""The tuning loop: ask, launch, measure, tell; then measure the best again and recommend.

One configuration flows through this file from top to bottom; everything that a step needs to know is in its arguments.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from results import TrialRecord
from results.text import assigned
from runners.readiness import MAY_BE_ERRORS
from search_spaces import Configuration
from tuner.display import Display
from tuner.search.candidates import SpaceExhausted, TooDearError
from tuner.search.contenders import find_current, to_beat
from tuner.search.objective import Objective
from tuner.search.proposer import Proposer
from tuner.search.stopping import max_trials, why_give_up, why_no_more, why_stop
from tuner.study.budget import UNLIMITED, Limits
from tuner.study.final import Final
from tuner.study.spending import SearchSpending
from tuner.study.storage.store import StudyStore
from tuner.trial.pool import TrialPool
from tuner.trial.setup import TrialRequest, TrialSetup
from tuner.trial.trial import NotRemovedError

_DOUBT = 0.5  # the trust below which the Gaussian processes decide
_LOOK_S = 1.0


@dataclass(frozen=True)
class TuningLoop:
    """What the loop works with. `budget` counts trials of every state, those of earlier runs included; None: until
    another trial is not worth what it costs. `limits` are those of time and money, whichever is reached first.
    """

    setup: TrialSetup
    store: StudyStore
    proposer: Proposer
    objective: Objective
    display: Display
    budget: int | None
    parallel: int = 1
    limits: Limits = UNLIMITED

    def search(self) -> None:
        """Run trials until the budget is spent. Every finished trial is stored before another one takes its place."""
        spec = self.setup.loaded.spec
        if spec.current is not None and find_current(self.setup.loaded, self.store.records()) is None:
            self.store.enqueue(spec.current)
        if self.store.attributes.stopped:
            self.store.attributes.stop(None)  # an earlier run's own end; whether it still holds is seen anew
        self.help()

    def help(self) -> None:
        """Run trials of a study that another process has begun, beside all that share it, until its budget is spent."""
        try:
            with TrialPool(self.setup, self.parallel, self.display) as pool:
                self._search(pool, max_trials(self.budget, limited=bool(self.limits)))
        finally:
            self.store.give_up()

    def _search(self, pool: TrialPool, most: int) -> None:
        doubted = exhausted = stopped = held = doubts = False
        earlier = {record.number for record in self.store.records()}
        while True:
            records, others = self.store.look()
            wanted = len(records) + pool.running + others < most and not stopped
            if wanted and pool.has_room and not held and (not exhausted or self.store.waiting()):
                try:
                    stopped = self._start_trial(pool, records, most, earlier)
                except SpaceExhausted:
                    exhausted = True
                except TooDearError as error:
                    held = pool.running > 0  # what runs may take less than is set aside for it
                    stopped = not held and self._is_spent(records, others, error)
            elif pool.running:
                held = False
                try:
                    record = pool.finished()
                except NotRemovedError as error:
                    self.store.tell(error.record)
                    raise
                counts = self.store.tell(record)
                records = self.store.records()
                self.spending.end(records, record.number)
                if not counts:
                    self.display.trial_lost(record.number)
                    continue
                self.display.trial_finished(record, self._best(records))
                doubts = _say_doubts(self.display, record, doubts)
                doubted = self._say_trust(records, doubted)
            elif others and len(records) < most:
                time.sleep(_LOOK_S)  # theirs may yet be ours
            else:
                break
        if exhausted:
            self.display.notice(f"all {len(records)} configurations of the space have been tried")
        elif self.budget is None and not stopped and len(records) >= most:
            self._stop(why_no_more(len(records), limited=bool(self.limits)))

    def _start_trial(self, pool: TrialPool, records: list[TrialRecord], most: int, earlier: Collection[int]) -> bool:
        """Ask, and begin. `earlier` are the numbers of an earlier run's trials. True when another trial is not worth
        what it costs. Raises SpaceExhausted, TooDearError.
        """
        parameters = self.setup.loaded.space.parameters
        hopeless = why_give_up(records, earlier, parameters) if self.setup.measurer.launches else None
        reason = hopeless or self.spending.why_none(records)
        if reason is None and self.budget is None and not self.limits:
            reason = self.store.attributes.stopped or self._why_stop(records)
        if reason:
            return self._stop(reason)
        asked = self.store.ask(most, self._propose)
        if asked is not None:
            number, configuration = asked
            if reason := self.spending.why_not(records, number, configuration):
                self.store.withdraw(number)  # it was left, or asked for in advance: what fits is tried in its place
                self.display.notice(f"{assigned(configuration)} is not tried now: {reason}")
                return False
            break_even = partial(self.objective.break_even_qps, best=to_beat(self.objective, records))
            self.display.trial_started(number, configuration, len(records) + pool.running + 1, self.budget)
            launch_s = self.spending.begin(records, number, configuration)
            pool.start(TrialRequest(number, configuration, break_even, at_once=self.parallel, launch_s=launch_s))
        return False

    def _propose(self, records: Sequence[TrialRecord], pending: Sequence[Configuration], turn: int) -> Configuration:
        most = self.spending.most_per_hour(records)
        return self.proposer.propose(records, pending, turn, most_per_hour=most).configuration

    @cached_property
    def spending(self) -> SearchSpending:
        """What the search may still spend."""
        return SearchSpending(self.setup, self.store, self.limits, self.parallel)

    def _is_spent(self, records: list[TrialRecord], others: int, error: TooDearError) -> bool:
        """Whether there is no money for a trial; what `others` run may take less than is set aside for it."""
        if others:
            time.sleep(_LOOK_S)
            return False
        return self._stop(self.spending.why_too_dear(records, error.per_hour))

    def _stop(self, reason: str) -> bool:
        self.store.attributes.stop(reason)
        self.display.notice(reason)
        return True

    def _why_stop(self, records: list[TrialRecord]) -> str | None:
        best = self._best(records)
        improvement = None if best is None else self.proposer.propose(records, [], len(records)).expected_improvement
        if best is None or improvement is None:
            return None
        return why_stop(improvement, self.objective, best, records, self.setup.loaded.spec.prices.currency)

    def _say_trust(self, records: list[TrialRecord], doubted: bool) -> bool:
        """Say when predictions stop fitting what is measured, and when they fit again."""
        judged = self.proposer.calibration(records)
        if not judged or (judged[-1].trust < _DOUBT) == doubted:
            return doubted
        if doubted:
            self.display.notice("the service is as predicted again: the search trusts what it knows of services")
        else:
            self.display.notice(
                "the service is unlike those that the search has learned from: it goes on with Gaussian processes"
            )
        return not doubted

    def explain(self) -> None:
        """Keep what was learned about the parameters."""
        self.store.attributes.keep_explanation(self.proposer.explain(self.store.records()))

    def confirm(self) -> None:
        """The final: the best few, and today's configuration, on fresh launches."""
        Final(
            self.setup, self.store, self.proposer, self.objective, self.display, self.limits, self.parallel,
            self.proposer.memory,
        ).run()  # fmt: skip

    def _best(self, records: list[TrialRecord]) -> TrialRecord | None:
        return next(iter(self.objective.ranked(records)), None)


def _say_doubts(display: Display, record: TrialRecord, said: bool) -> bool:
    """Say once, while there is time to end the run, that what is measured may be errors; the report says it too."""
    doubt = next((one for one in record.notes if MAY_BE_ERRORS in one), None)
    if said or doubt is None:
        return said
    display.notice(f"trial {record.number}: {doubt}")
    return True
