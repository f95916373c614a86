"""Which configuration to measure next, and what is expected of each: the search itself, which knows no Optuna.

The surrogate (`tuner/search/surrogate/`) predicts what every configuration would do from everything that the trials
showed; the one with the highest expected improvement is tried next. What is proposed depends on the seed and the
records alone, so that a second process can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from results import Explanation, TrialRecord
from search_spaces import Configuration, ParameterValue, SearchSpace
from tuner.search.beliefs import Expectation
from tuner.search.candidates import Bools, CandidatePool, SpaceExhausted
from tuner.search.objective import Objective

if TYPE_CHECKING:
    from tuner.search.surrogate.acquisition import Losses, Scale
    from tuner.search.surrogate.features import Candidates, Floats, Ints, Trials
    from tuner.search.surrogate.mixture import Judgement, Surrogate
    from tuner.search.surrogate.predict import Prediction

_MIN_EXPECTED = 4  # complete trials, for an expectation of each from the others
_SPREAD_START = 0.3  # where the first trials are several, each is the one least like the others of so large a share


@dataclass(frozen=True)
class Proposal:
    """A configuration to try, and what is expected of it: the share of the best's cost (or other first metric) that it
    is expected to save, None before there is a best.
    """

    configuration: dict[str, ParameterValue]
    expected_improvement: float | None


class Proposer:
    """Proposes, predicts, judges and explains. What the runner `refuses` is proposed only when nothing else is left.
    `price` is per hour, `limit_ms` the p99's. `warm_start` are records of other studies, which say what to expect at
    first.
    """

    def __init__(
        self, space: SearchSpace, objective: Objective, *, seed: int = 0,
        refuses: Callable[[Configuration], bool] | None = None,
        price: Callable[[Configuration], float | None] | None = None,
        limit_ms: float | None = None, warm_start: Sequence[TrialRecord] = (), weights: Path | None = None,
    ) -> None:  # fmt: skip
        self.space, self.objective, self.price = space, objective, price or _no_price
        self._seed, self._limit_ms, self._warm_start, self._weights = seed, limit_ms, warm_start, weights
        self.pool = CandidatePool(space, seed, refuses)

    def propose(
        self, records: Sequence[TrialRecord], pending: Sequence[Configuration], turn: int, spent: Bools | None = None
    ) -> Proposal:
        """The next configuration, from what was measured and what is being measured. `turn` varies the draw, `spent`
        marks candidates that are not to come again.

        Raises SpaceExhausted when there is none left.
        """
        from tuner.search.surrogate.acquisition import believed_best, chebyshev, expected_improvement, expected_loss
        from tuner.search.surrogate.mixture import mixed

        waiting = self.pool.numbers_of(pending)
        free = self.pool.free((record.configuration for record in records), waiting, spent)
        trials = self._trials(records)
        predictions = self._surrogate.predict(trials, np.array(waiting, dtype=np.int64))
        losses = self._losses(records)
        seen = np.array([found for record in records if (found := self.objective.losses(record)) is not None])
        metrics = len(self.objective.metrics)
        if metrics == 1 or len(seen) == 0:
            scale: Scale = _first
        else:
            weights = np.random.default_rng([self._seed, turn]).dirichlet(np.ones(metrics))
            scale = chebyshev(weights, seen.min(axis=0), seen.max(axis=0))
        if len(seen) == 0:
            chosen = self._first(predictions, losses, scale, free, waiting, turn)
            return Proposal(self.pool.configuration(chosen), None)
        best = float(scale(list(seen.T)).min())
        served = trials.only(trials.state == 0)
        if len(self.objective.metrics) == 1 and len(served) == len(seen) and (served.error > 0).any():
            best = believed_best(predictions, losses, served)
        score = mixed(predictions, [expected_improvement(one, losses, best, scale) for _, one in predictions])
        chosen = free[score[free].argmax()]
        if score[chosen] <= 1e-9:
            loss = mixed(predictions, [expected_loss(one, losses, scale) for _, one in predictions])
            chosen = free[loss[free].argmin()]
        return Proposal(self.pool.configuration(chosen), float(score[chosen]))

    def _first(
        self, predictions: list[tuple[float, Prediction]], losses: Losses, scale: Scale, free: Ints,
        waiting: Sequence[int], turn: int,
    ) -> int:  # fmt: skip
        """What to try while nothing was measured: drawn by how promising it is, so that seeds differ. Where others are
        under way, that which is least like them, of much that is promising; after a warm start what is best by it.
        """
        from tuner.search.surrogate.acquisition import promise
        from tuner.search.surrogate.mixture import mixed

        # Of a warm start, and of what is the cheapest, only the network has heard.
        heard = [(weight, one) for weight, one in predictions if one.best is not None] or predictions
        told = bool(self._warm_start)
        learned = self.objective.metrics == ("cost_per_million_requests",)
        odds = mixed(heard, [promise(one, losses, scale, free, learned=learned, told=told) for _, one in heard])
        if waiting:
            return self.pool.farthest(free[odds >= np.quantile(odds, 1 - _SPREAD_START)], waiting)
        if told:
            return int(free[odds.argmax()])
        return int(np.random.default_rng([self._seed, turn]).choice(free, p=odds / odds.sum()))

    def untried_improvement(self, records: Sequence[TrialRecord], best: float) -> float:
        """How much lower than `best` (a loss of the first metric, in logs: so about a share) the most promising of the
        configurations that were not tried is expected to be; 0 where all were.
        """
        from tuner.search.surrogate.acquisition import expected_improvement
        from tuner.search.surrogate.mixture import mixed

        try:
            free = self.pool.free((record.configuration for record in records), [], None)
        except SpaceExhausted:
            return 0.0
        predictions, losses = self.predict(records), self._losses(records)
        return float(
            mixed(predictions, [expected_improvement(one, losses, best, _first) for _, one in predictions])[free].max()
        )

    def predict(self, records: Sequence[TrialRecord]) -> list[tuple[float, Prediction]]:
        """What each expert predicts for all candidates of the pool, in their order, with its weight."""
        return self._surrogate.predict(self._trials(records), np.zeros(0, dtype=np.int64))

    def calibration(self, records: Sequence[TrialRecord]) -> list[Judgement]:
        """What was predicted of each trial that proved something, before it, and the trust in the network since."""
        trials = self._trials(records)
        return self._surrogate.judge(trials) if len(trials) else []

    def expected(self, records: Sequence[TrialRecord]) -> dict[int, Expectation]:
        """What the other trials make one expect of the log capacity of each that served or was pruned, by its number;
        empty while there are too few to say.
        """
        ordered = sorted(records, key=lambda record: record.number)
        known = [one for one in ordered if len(self._trials([one]))]
        trials = self._trials(ordered)
        if sum(one.state == "complete" for one in known) < _MIN_EXPECTED or len(known) != len(trials):
            return {}
        found = {}
        for number, record in enumerate(known):
            if record.state in ("complete", "pruned"):
                found[record.number] = Expectation(*self._surrogate.expected(trials, number))
        return found

    def explain(self, records: Sequence[TrialRecord]) -> Explanation | None:
        """What was learned of the first metric; None before anything was measured."""
        from tuner.search.explanation import explained

        if not any(self.objective.losses(record) for record in records):
            return None
        trust = self._surrogate.trust(self._trials(records))
        return explained(self.pool, self.objective, self.predict(records), self._losses(records), trust)

    @cached_property
    def _surrogate(self) -> Surrogate:
        # scikit-learn takes a second to import: not before the first question.
        from tuner.search.surrogate.mixture import Surrogate
        from tuner.search.surrogate.space import candidates_of, trials_of

        if not self._warm_start:
            return Surrogate(self._described, weights=self._weights)
        configurations = [record.configuration for record in self._warm_start]
        numbers = {id(record): number for number, record in enumerate(self._warm_start)}
        before = candidates_of(self.space, configurations, lambda _: None)
        prices = np.log([one.cost_per_hour or np.nan for one in self._warm_start])
        before = type(before)(before.columns, prices, before.physics)
        earlier = trials_of(self._warm_start, lambda one: numbers[id(one)], self.space, self._limit_ms, earlier=True)
        return Surrogate(self._described, before, earlier, self._weights)

    @cached_property
    def _described(self) -> Candidates:
        from tuner.search.surrogate.space import candidates_of

        return candidates_of(self.space, self.pool.configurations, self.price)

    def _trials(self, records: Sequence[TrialRecord]) -> Trials:
        from tuner.search.surrogate.space import trials_of

        ordered = sorted(records, key=lambda record: record.number)
        return trials_of(
            ordered, lambda one: self.pool.number_of(one.configuration), self.space, self._reference_ms(ordered)
        )

    def _reference_ms(self, records: Sequence[TrialRecord]) -> float | None:
        """The p99's limit; where there is no SLO, as in a table, what is usual there stands for it."""
        if self._limit_ms is not None:
            return self._limit_ms
        ordered = sorted(records, key=lambda record: record.number)
        return next((record.p99_ms.value for record in ordered if record.p99_ms), None)

    def _losses(self, records: Sequence[TrialRecord]) -> Losses:
        """The objective's losses of all candidates, by log capacities and by log p99s relative to the reference."""
        reference_ms = self._reference_ms(records) or 1.0

        def losses(log_capacity: Floats, log_p99: Floats) -> list[Floats]:
            p99_ms = np.exp(log_p99) * reference_ms
            return self.objective.losses_at(log_capacity, p99_ms, self._described.log_price[:, None, None])

        return losses


def _no_price(_configuration: Configuration) -> None:
    """Of what costs nobody knows what. A function of the module's, which can be pickled."""


def _first(losses: Sequence[Floats]) -> Floats:
    return losses[0]
