"""The tuning loop: ask, launch, measure, tell; then measure the best again and recommend.

One configuration flows through this file from top to bottom; everything that a step needs to know is in its arguments.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from results import TrialRecord
from search_spaces import Configuration
from tuner.display import Display
from tuner.search.candidates import SpaceExhausted
from tuner.search.contenders import find_current, to_beat
from tuner.search.objective import Objective
from tuner.search.proposer import Proposer
from tuner.search.stopping import max_trials, why_give_up, why_no_more, why_stop
from tuner.study.budget import UNLIMITED, Limits, Spent, why_not
from tuner.study.final import Final
from tuner.study.storage.store import StudyStore
from tuner.trial.pool import TrialPool
from tuner.trial.setup import TrialRequest, TrialSetup
from tuner.trial.trial import NotRemovedError

_DOUBT = 0.5  # the trust below which the Gaussian process decides
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
        if self.store.stopped:
            self.store.stop(None)  # an earlier run's own end; whether it still holds is seen anew
        self.help()

    def help(self) -> None:
        """Run trials of a study that another process has begun, beside all that share it, until its budget is spent."""
        try:
            with TrialPool(self.setup, self.parallel, self.display) as pool:
                self._search(pool, max_trials(self.budget, limited=bool(self.limits)))
        finally:
            self.store.give_up()

    def _search(self, pool: TrialPool, most: int) -> None:
        doubted = exhausted = stopped = False
        earlier = {record.number for record in self.store.records()}
        while True:
            records, others = self.store.records(), self.store.others()
            wanted = len(records) + pool.running + others < most and not stopped
            if wanted and pool.has_room and (not exhausted or self.store.waiting()):
                try:
                    stopped = self._start_trial(pool, records, most, earlier)
                except SpaceExhausted:
                    exhausted = True
            elif pool.running:
                try:
                    record = pool.finished()
                except NotRemovedError as error:
                    self.store.tell(error.record)
                    raise
                if not self.store.tell(record):
                    self.display.notice(
                        f"trial {record.number} does not count: another process has taken it up meanwhile"
                    )
                    continue
                records = self.store.records()
                self.display.trial_finished(record, self._best(records))
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
        what it costs. Raises SpaceExhausted.
        """
        hopeless = why_give_up(records, earlier) if self.setup.measurer.launches else None
        reason = hopeless or self._why_spent(records)
        if reason is None and self.budget is None and not self.limits:
            reason = self.store.stopped or self._why_stop(records)
        if reason:
            return self._stop(reason)
        asked = self.store.ask(most, self._propose)
        if asked is not None:
            number, configuration = asked
            if reason := self._why_spent(records, asked):
                self.store.withdraw(number)
                return self._stop(reason)
            break_even = partial(self.objective.break_even_qps, best=to_beat(self.objective, records))
            self.display.trial_started(number, configuration, len(records) + pool.running + 1, self.budget)
            pool.start(TrialRequest(number, configuration, break_even))
        return False

    def _propose(self, records: Sequence[TrialRecord], pending: Sequence[Configuration], turn: int) -> Configuration:
        return self.proposer.propose(records, pending, turn).configuration

    def _stop(self, reason: str) -> bool:
        self.store.stop(reason)
        self.display.notice(reason)
        return True

    def _why_spent(self, records: list[TrialRecord], asked: tuple[int, Configuration] | None = None) -> str | None:
        """Why no further trial may begin, or not the one that was `asked`, with its number; None if one may. The
        final's part of the time and money is not available to the search.
        """
        if not self.limits:
            return None
        limits = self.limits.for_search(self.setup.loaded.spec.objective.final)
        load_s, currency = self.setup.loaded.max_load_s(confirmation=False), self.setup.loaded.spec.prices.currency
        price, beside = None, 0.0
        if asked is not None and limits.cost is not None:
            price = self.setup.price(asked[1])
            beside = sum(self.setup.price(one) or 0.0 for one in self.store.under_way(asked[0]))
        spent = Spent.by(records, self.parallel)
        reason = why_not(limits, spent, load_s, price, currency=currency, beside_per_hour=beside)
        return reason and f"Stopped: {reason}"

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
                "the service is unlike those that the search has learned from: it goes on with a Gaussian process"
            )
        return not doubted

    def explain(self) -> None:
        """Keep what was learned about the parameters."""
        self.store.keep_explanation(self.proposer.explain(self.store.records()))

    def confirm(self) -> None:
        """The final: the best few, and today's configuration, on fresh launches."""
        Final(
            self.setup, self.store, self.proposer, self.objective, self.display, self.limits, self.parallel
        ).run()  # fmt: skip

    def _best(self, records: list[TrialRecord]) -> TrialRecord | None:
        return next(iter(self.objective.ranked(records)), None)
