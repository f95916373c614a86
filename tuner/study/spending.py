"""What the search of a study may still spend: its part of the limits, less what its trials took and what runs now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from results import TrialRecord
from search_spaces import Configuration
from tuner.study.budget import Limits, Spent, most_per_hour, why_not, why_too_dear
from tuner.study.starts import Starts
from tuner.study.storage.store import StudyStore
from tuner.trial.setup import TrialSetup


@dataclass(frozen=True)
class SearchSpending:
    """`limits` are those of the whole run, of which the final has its own part; `parallel` trials run at once here."""

    setup: TrialSetup
    store: StudyStore
    limits: Limits
    parallel: int

    def why_none(self, records: Sequence[TrialRecord]) -> str | None:
        """Why no further trial may begin, whatever its price, as a sentence; None if one may."""
        reason = why_not(self._limits, Spent.by(records, self.parallel), self._load_s, None, currency=self._currency)
        return reason and f"Stopped: {reason}"

    def why_not(self, records: Sequence[TrialRecord], number: int, configuration: Configuration) -> str | None:
        """Why trial `number`, which was asked for and is of that configuration, may not begin; None if it may."""
        if self.limits.cost is None:
            return None
        spent = Spent.by(records, self.parallel)
        price, beside = self.setup.price(configuration), self._beside_per_hour(number, spent)
        return why_not(self._limits, spent, self._load_s, price, currency=self._currency, beside_per_hour=beside)

    def begin(
        self, records: Sequence[TrialRecord], number: int, configuration: Configuration
    ) -> Callable[[float], float]:
        """Trial `number` begins: a function that says how long its servers may take to start, by how long they have.
        The whole run's limits hold then. (That there is nothing left for the final is better than nothing measured.)
        """
        spent = Spent.by(records, self.parallel) + self._by_final
        return self._starts.begin(number, self.setup.price(configuration), spent, self._elsewhere_per_hour(number))

    def end(self, records: Sequence[TrialRecord], number: int) -> None:
        """Trial `number` is over, and among the records if it counts."""
        self._starts.end(number, Spent.by(records, self.parallel) + self._by_final)

    def most_per_hour(self, records: Sequence[TrialRecord]) -> float | None:
        """The highest price at which a configuration's trial fits into what is left; None where money is no limit."""
        cost = self._limits.cost
        if cost is None:
            return None
        spent = Spent.by(records, self.parallel)
        return most_per_hour(cost, spent, self._load_s, self._beside_per_hour(None, spent))

    def why_too_dear(self, records: Sequence[TrialRecord], cheapest_per_hour: float) -> str:
        """Why the search ends where even the cheapest configuration does not fit, as a sentence."""
        spent = Spent.by(records, self.parallel)
        what = "even the cheapest trial that is left"
        return f"Stopped: {why_too_dear(spent, self._load_s, cheapest_per_hour, self._currency, what)}"

    @cached_property
    def _by_final(self) -> Spent:
        return Spent.by(chain.from_iterable(self.store.attributes.confirmations().values()))

    @cached_property
    def _limits(self) -> Limits:
        return self.limits.for_search(self.setup.loaded.spec.objective.final, self._by_final)

    @property
    def _load_s(self) -> float:
        return self.setup.longest_load_s(confirmation=False)

    @property
    def _currency(self) -> str:
        return self.setup.loaded.spec.prices.currency

    @cached_property
    def _starts(self) -> Starts:
        return Starts(self.limits, self._load_s)

    def _beside_per_hour(self, number: int | None, spent: Spent) -> float:
        """What the trials that run now cost, without trial `number`."""
        return self._starts.beside_per_hour(number, spent) + self._elsewhere_per_hour(number)

    def _elsewhere_per_hour(self, number: int | None) -> float:
        ours = self._starts.numbers if number is None else self._starts.numbers | {number}
        return sum(self.setup.price(one) or 0.0 for one in self.store.under_way(ours))
