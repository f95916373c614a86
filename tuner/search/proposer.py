"""Which configuration to measure next, and what is expected of each: the search itself, which knows no Optuna.

The surrogate (`tuner/search/surrogate/`) predicts what every configuration would do from everything that the trials
showed; the one that is expected to be better by most is tried next. What is proposed depends on the seed and the
records alone, so that a second process can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from results import Explanation, TrialRecord
from search_spaces import Configuration, ParameterValue, SearchSpace
from tuner.search.candidates import Bools, CandidatePool, SpaceExhausted
from tuner.search.launches import LAUNCH_SPREAD, Expectation
from tuner.search.memory import MemoryLimit
from tuner.search.objective import Objective
from tuner.search.space_model import SpaceModel
from tuner.search.stopping import MIN_SHARE

if TYPE_CHECKING:
    from tuner.search.surrogate.acquisition import Losses, Scale
    from tuner.search.surrogate.features import Floats, Ints, Trials
    from tuner.search.surrogate.mixture import Judgement
    from tuner.search.surrogate.predict import Prediction

_COST = ("cost_per_million_requests",)
_MIN_EXPECTED = 4  # complete trials, for an expectation of each from the others
# Of the spread of predictions: there are hundreds of configurations for some twenty trials, and what is little known is
# mostly dear. Chosen on made-up services and measured tables that nothing is reported on.
_NARROWED = 0.4
_SPREAD_START = 0.3  # where the first trials are several, each is the one least like the others of so large a share


@dataclass(frozen=True)
class Proposal:
    """A configuration to try, and how much is left to gain: the largest share of the best's cost (or other first
    metric) that any configuration is expected to save, None before there is a best.
    """

    configuration: dict[str, ParameterValue]
    expected_improvement: float | None


class Proposer:
    """Proposes, predicts, judges and explains. What the runner `refuses` is proposed only when nothing else is left; so
    is what differs from a trial in nothing but more `memory`, of which that one had enough. `price` is per hour,
    `limit_ms` the p99's. `warm_start` are records of other studies, which say what to expect at first.
    """

    def __init__(
        self, space: SearchSpace, objective: Objective, *, seed: int = 0,
        refuses: Callable[[Configuration], bool] | None = None,
        price: Callable[[Configuration], float | None] | None = None,
        limit_ms: float | None = None, warm_start: Sequence[TrialRecord] = (), weights: Path | None = None,
        memory: MemoryLimit | None = None,
    ) -> None:  # fmt: skip
        self.space, self.objective, self.price, self._seed = space, objective, price or _no_price, seed
        self.pool, self.memory = CandidatePool(space, seed, refuses), memory
        self._model = SpaceModel(self.pool, self.price, limit_ms, warm_start, weights)

    def propose(
        self, records: Sequence[TrialRecord], pending: Sequence[Configuration], turn: int, spent: Bools | None = None,
        most_per_hour: float | None = None,
    ) -> Proposal:  # fmt: skip
        """The next configuration, from what was measured and what is being measured. `turn` varies the draw, `spent`
        marks candidates that are not to come again, and those that cost more than `most_per_hour` are left out.

        Raises SpaceExhausted when there is none left, TooDearError when all that are left cost more.
        """
        from tuner.search.surrogate.acquisition import believed_best, expected_loss
        from tuner.search.surrogate.mixture import mixed, narrowed

        waiting = self.pool.numbers_of(pending)
        free = self.pool.free((record.configuration for record in records), waiting, spent)
        if most_per_hour is not None:
            free = self._model.affordable(free, most_per_hour)
        known = self._known(records)[free]
        free = free if known.all() else free[~known]
        trials = self._trials(records)
        predictions = self._model.surrogate.predict(trials, np.array(waiting, dtype=np.int64))
        losses = self._model.losses(self.objective, records)
        seen = np.array([found for record in records if (found := self.objective.losses(record)) is not None])
        scale = self._scale(seen, turn)
        before = self._model.best_before(losses)
        if before is not None and before in free:  # even after `current`, which is tried first
            return Proposal(self.pool.configuration(before), None)
        if len(seen) == 0:
            chosen = self._first(predictions, losses, scale, free, waiting, turn)
            return Proposal(self.pool.configuration(chosen), None)
        best = float(scale(list(seen.T)).min())
        served = trials.only(trials.state == 0)
        noisy = bool((served.error > 0).any())
        if len(self.objective.metrics) == 1 and len(served) == len(seen) and noisy:
            best = believed_best(predictions, losses, served)
        # First what is probably better, by no less than launches differ by where they do; where nothing is, what may be
        # better, by all that is not known of it.
        possible = _improvement(predictions, losses, best, scale)
        probable = _improvement(narrowed(predictions, _NARROWED), losses, best, scale)
        sure = self._for_less_memory(records, predictions, losses, served, best)
        possible, probable = np.maximum(possible, sure), np.maximum(probable, sure)
        score = probable if probable[free].max() >= (LAUNCH_SPREAD if noisy else MIN_SHARE) else possible
        chosen = free[score[free].argmax()]
        if score[chosen] <= 1e-9:
            loss = mixed(predictions, [expected_loss(one, losses, scale) for _, one in predictions])
            chosen = free[loss[free].argmin()]
        return Proposal(self.pool.configuration(chosen), float(possible[free].max()))

    def _scale(self, seen: Floats, turn: int) -> Scale:
        """How several metrics become one: each turn with other weights, by what was seen of them."""
        from tuner.search.surrogate.acquisition import chebyshev

        metrics = len(self.objective.metrics)
        if metrics == 1 or len(seen) == 0:
            return _first
        weights = np.random.default_rng([self._seed, turn]).dirichlet(np.ones(metrics))
        return chebyshev(weights, seen.min(axis=0), seen.max(axis=0))

    def _known(self, records: Sequence[TrialRecord]) -> Bools:
        """Which candidates would show what a trial has shown, for at least as much money."""
        if self.memory is None:
            return np.zeros(len(self.pool), dtype=bool)
        return self.memory.known(self.pool, self._model.candidates.log_price, records)

    def _for_less_memory(
        self, records: Sequence[TrialRecord], predictions: list[tuple[float, Prediction]], losses: Losses,
        served: Trials, best: float,
    ) -> Floats:  # fmt: skip
        """Per candidate: by how much it is better than `best` as the server of a trial with less memory, of which that
        one needed no more; 0 where it is none. To measure it is to launch that server again.
        """
        from tuner.search.surrogate.acquisition import believed_capacity

        if self.memory is None or self.objective.metrics != _COST:
            return np.zeros(len(self.pool))
        believed = dict(zip(*believed_capacity(predictions, served), strict=True))
        log_capacity = np.full((len(self.pool), 1, 1), -np.inf)
        for record in records:
            smaller, number = self.memory.enough(self.pool, record), self.pool.number_of(record.configuration)
            if smaller is not None and number in believed:
                log_capacity[smaller] = max(log_capacity[smaller, 0, 0], believed[number])
        return np.maximum(0.0, best - losses(log_capacity, np.zeros_like(log_capacity))[0][:, 0, 0])

    def _first(
        self, predictions: list[tuple[float, Prediction]], losses: Losses, scale: Scale, free: Ints,
        waiting: Sequence[int], turn: int,
    ) -> int:  # fmt: skip
        """What to try while nothing was measured: drawn by how promising it is, so that seeds differ. Where others are
        under way, that which is least like them, of much that is promising; after a warm start what is likeliest by it.
        """
        from tuner.search.surrogate.acquisition import promise
        from tuner.search.surrogate.mixture import mixed

        # Of what is the cheapest only the network has heard.
        heard = [(weight, one) for weight, one in predictions if one.best is not None] or predictions
        warm_started = bool(self._model.warm_start)
        learned = self.objective.metrics == _COST
        odds = mixed(
            heard, [promise(one, losses, scale, free, learned=learned, warm_started=warm_started) for _, one in heard]
        )
        if waiting:
            return self.pool.farthest(free[odds >= np.quantile(odds, 1 - _SPREAD_START)], waiting)
        if warm_started:
            return int(free[odds.argmax()])
        return int(np.random.default_rng([self._seed, turn]).choice(free, p=odds / odds.sum()))

    def untried_improvement(self, records: Sequence[TrialRecord], best: float) -> float:
        """How much lower than `best` (a loss of the first metric, in logs: so about a share) the most promising of the
        configurations that were not tried is expected to be; 0 where all were.
        """
        try:
            free = self.pool.free((record.configuration for record in records), [], None)
        except SpaceExhausted:
            return 0.0
        free = free[~self._known(records)[free]]
        predictions, losses = self.predict(records), self._model.losses(self.objective, records)
        trials = self._trials(records)
        sure = self._for_less_memory(records, predictions, losses, trials.only(trials.state == 0), best)
        return float(np.maximum(_improvement(predictions, losses, best, _first), sure)[free].max(initial=0.0))

    def predict(self, records: Sequence[TrialRecord]) -> list[tuple[float, Prediction]]:
        """What each expert predicts for all candidates of the pool, in their order, with its weight."""
        return self._model.surrogate.predict(self._trials(records), np.zeros(0, dtype=np.int64))

    def calibration(self, records: Sequence[TrialRecord]) -> list[Judgement]:
        """What was predicted of each trial that proved something, before it, and the trust in the network since."""
        trials = self._trials(records)
        return self._model.surrogate.judge(trials) if len(trials) else []

    def expected(self, records: Sequence[TrialRecord]) -> dict[int, Expectation]:
        """What the other trials make one expect of the log capacity of each that served or was pruned, by its number;
        empty while there are too few to say.
        """
        ordered = sorted(records, key=lambda record: record.number)
        known = [one for one in ordered if len(self._trials([one]))]
        trials = self._trials(ordered)
        if sum(one.state == "complete" for one in known) < _MIN_EXPECTED or len(known) != len(trials):
            return {}
        servers = {} if self.memory is None else self.memory.servers(known, {})
        same = np.array([servers.get(one.number, one.number) for one in known])
        found = {}
        for number, record in enumerate(known):
            if record.state in ("complete", "pruned"):
                others = trials.only(same != same[number])
                found[record.number] = Expectation(*self._model.surrogate.expected(trials, number, others))
        return found

    def _trials(self, records: Sequence[TrialRecord]) -> Trials:
        return self._model.trials([self.objective.modelled(one) for one in records])

    def explain(self, records: Sequence[TrialRecord]) -> Explanation | None:
        """What was learned of the first metric; None before anything was measured."""
        from tuner.search.explanation import explained

        if not any(self.objective.losses(record) for record in records):
            return None
        trust = self._model.surrogate.trust(self._trials(records))
        losses = self._model.losses(self.objective, records)
        return explained(self.pool, self.objective, self.predict(records), losses, trust)


def _improvement(predictions: list[tuple[float, Prediction]], losses: Losses, best: float, scale: Scale) -> Floats:
    """Per candidate: by how much it is expected to be better than `best`."""
    from tuner.search.surrogate.acquisition import expected_improvement
    from tuner.search.surrogate.mixture import mixed

    return mixed(predictions, [expected_improvement(one, losses, best, scale) for _, one in predictions])


def _no_price(_configuration: Configuration) -> None:
    """The price where none is known. It is a module's function so that it can be pickled."""


def _first(losses: Sequence[Floats]) -> Floats:
    return losses[0]
