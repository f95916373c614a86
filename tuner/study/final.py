"""The final: the best of the search, and today's configuration, on fresh launches until one is known to be best.

Every launch is stored as it ends, so that a run that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from loadtest import TOO_SHORT
from results import TrialRecord
from results.text import assigned
from tuner.display import Display
from tuner.search.beliefs import Beliefs
from tuner.search.contenders import believed, find_current
from tuner.search.final import FinalRules, next_round
from tuner.search.memory import MemoryLimit
from tuner.search.objective import Objective, undecided, unready
from tuner.search.proposer import Proposer
from tuner.study.budget import UNLIMITED, Limits, Spent, launch_s, why_not
from tuner.study.outlook import Outlook
from tuner.study.storage.store import StudyStore
from tuner.trial.setup import TrialRequest, TrialSetup
from tuner.trial.trial import run_trial

Launches = dict[int, tuple[TrialRecord, ...]]
_TODAY_AGAIN = 2  # launches of today's configuration whose trial was too short to tell, at most


@dataclass(frozen=True)
class Final:
    """What the final works with. Its launches are longer than trials, one at a time, and never pruned. `limits` are
    those of the whole run, in which `parallel` trials ran at once; `memory` is the parameter that only limits it.
    """

    setup: TrialSetup
    store: StudyStore
    proposer: Proposer
    objective: Objective
    display: Display
    limits: Limits = UNLIMITED
    parallel: int = 1
    memory: MemoryLimit | None = None

    def run(self) -> None:
        """Blocks until the answer is sure, or the final's share of the budget is spent. Raises as `run_trial`."""
        records = self.store.records()
        confirmations: Launches = self.store.attributes.confirmations()
        aim = self.setup.loaded.spec.objective
        rules = FinalRules(aim.confidence, aim.final)
        max_launches = rules.launches(len(records))
        outlook = self._look_ahead(records) if records else Outlook()
        self._launch_rounds(records, confirmations, outlook, max_launches, rules)
        self._keep_untried(records, confirmations, outlook)

    def _launch_rounds(
        self,
        records: Sequence[TrialRecord],
        confirmations: Launches,
        outlook: Outlook,
        max_launches: int,
        rules: FinalRules,
    ) -> None:
        while max_launches:
            left = max_launches - sum(not unready(one) for one in chain.from_iterable(confirmations.values()))
            chosen = self._next_round(records, confirmations, outlook, left, rules)
            if not chosen:
                return
            reasons = {one: self._why_spent(records, confirmations, one) for one in chosen}
            unfit = [reason for reason in reasons.values() if reason is not None]
            best = chosen[0]  # as is believed so far: without it, launches of others can decide nothing
            if reasons[best] or (unfit and len(unfit) == len(chosen) - 1 and best in _started(confirmations)):
                self.display.notice(f"the final ends: {unfit[0]}")
                return
            this_round = _last_round(confirmations) + 1
            for number in chosen:
                if self._why_spent(records, confirmations, number) is not None:
                    continue
                record = self._launch(records, confirmations, number, max_launches, this_round)
                if unready(record):
                    why = (record.reason or "").removeprefix(f"{TOO_SHORT}: ")
                    self.display.notice(f"the final ends: {assigned(record.configuration)} was {why}")
                    return

    def _believed(self, records: Sequence[TrialRecord], confirmations: Launches, outlook: Outlook) -> Beliefs | None:
        return believed(self.objective, records, confirmations, outlook.expected, self.memory)

    def _look_ahead(self, records: Sequence[TrialRecord]) -> Outlook:
        outlook = Outlook(self.proposer.expected(records))
        self.store.attributes.keep_outlook(outlook)
        return outlook

    def _keep_untried(self, records: Sequence[TrialRecord], confirmations: Launches, outlook: Outlook) -> None:
        """Store how much better an untried configuration is expected to be than the best one, by what is believed of
        the best after all its launches. (The lowest figure that the search saw was a lucky one.)
        """
        beliefs = self._believed(records, confirmations, outlook)
        if beliefs is not None:
            launched = _started(confirmations)
            best = beliefs.best([one for one in beliefs.numbers if one in launched] or None)
            untried = self.proposer.untried_improvement(records, beliefs.loss(best))
            self.store.attributes.keep_outlook(replace(outlook, untried_improvement=untried))

    def _why_spent(self, records: Sequence[TrialRecord], confirmations: Launches, number: int) -> str | None:
        if not self.limits:
            return None
        price = next(one.cost_per_hour for one in records if one.number == number)
        spent, load_s = self._spent(records, confirmations), self.setup.longest_load_s(confirmation=True)
        return why_not(self.limits, spent, load_s, price, currency=self.setup.loaded.spec.prices.currency)

    def _spent(self, records: Sequence[TrialRecord], confirmations: Launches) -> Spent:
        return Spent.by(records, self.parallel) + Spent.by(chain.from_iterable(confirmations.values()))

    def _next_round(
        self, records: Sequence[TrialRecord], confirmations: Launches, outlook: Outlook, left: int, rules: FinalRules
    ) -> tuple[int, ...]:
        beliefs = self._believed(records, confirmations, outlook)
        if beliefs is None:
            return ()
        if left <= 0 and not self._anything_holds(confirmations):
            # What did not hold the SLO again is no recommendation: the next best follows, each of them once.
            unseen = [one for one in beliefs.measured if one not in _started(confirmations)]
            return (beliefs.best(unseen),) if unseen else ()
        loaded = self.setup.loaded
        today = find_current(loaded, records)
        current = today.number if today is not None and today.number in beliefs else None
        counts = {number: sum(not undecided(one) for one in found) for number, found in _started(confirmations).items()}
        chosen = next_round(beliefs, current, counts, left, rules)
        if today is not None and current is None and left > 0 and _untold(today, confirmations):
            return (*chosen[:1], today.number, *chosen[1:])[:left]
        return chosen

    def _anything_holds(self, confirmations: Launches) -> bool:
        return any(self.objective.losses(one) is not None for launches in confirmations.values() for one in launches)

    def _launch(
        self, records: Sequence[TrialRecord], confirmations: Launches, number: int, max_launches: int, this_round: int
    ) -> TrialRecord:
        first = next(record for record in records if record.number == number)
        position = sum(map(len, confirmations.values())) + 1
        self.display.confirmation_started(first, position, max(position, max_launches))
        again = len(confirmations.get(number, ())) + 1
        # Nothing is compiled yet, so it may start more slowly than the trials did.
        load_s = self.setup.longest_load_s(confirmation=True)
        most_s = launch_s(self.limits, self._spent(records, confirmations), load_s, first.cost_per_hour)
        request = TrialRequest(
            number, first.configuration, confirmation=again, final_round=this_round, launch_s=lambda _seconds: most_s
        )
        record = run_trial(self.setup, request, partial(self.display.phase, number))
        self.store.attributes.confirm(number, record)
        confirmations[number] = (*confirmations.get(number, ()), record)
        self.display.confirmation_finished(first, record)
        return record


def _started(confirmations: Launches) -> Launches:
    """The further launches whose server had the time to start, of those trials that have any."""
    found = {number: tuple(one for one in launches if not unready(one)) for number, launches in confirmations.items()}
    return {number: launches for number, launches in found.items() if launches}


def _untold(today: TrialRecord, confirmations: Launches) -> bool:
    """Whether nobody knows yet if it serves: neighbours may have kept its only trial from an answer."""
    launches = (today, *confirmations.get(today.number, ()))
    return len(launches) <= _TODAY_AGAIN and all(map(undecided, launches))


def _last_round(confirmations: Launches) -> int:
    """The number of the last round; 0 before the first."""
    return max((one.timing.final_round or 0 for one in chain.from_iterable(confirmations.values())), default=0)
