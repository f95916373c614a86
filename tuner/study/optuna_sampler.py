"""Which configuration to measure next. The one place where a sampler is chosen.

`SpaceSampler` is an Optuna sampler over a `SearchSpace`: it proposes valid configurations only, and none twice. The
surrogate (`tuner/search/surrogate/`) predicts what every configuration would do from everything that the trials
showed; the one with the highest expected improvement is tried next.

All state is in the study's storage: what is asked depends on the seed and the stored trials alone, so that a second
process can go on. In a study of one's own:

    space = SearchSpace((Parameter("batch", (1, 2, 4, 8), "batch_size"), Parameter("cores", (1, 2, 4), "cpu_cores")))
    sampler = SpaceSampler(space, Objective(("capacity_qps",)), seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: measure(trial.suggest_categorical("batch", (1, 2, 4, 8)), ...), n_trials=20)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from results import Estimate, Explanation, Surface, TrialRecord
from search_spaces import Configuration, ParameterValue, SearchSpace
from tuner.search.beliefs import Expectation
from tuner.search.objective import Objective, capacity_at_cost
from tuner.study.keys import PLAN, RECORD, SPEC
from tuner.study.plain_study import Proposed, own_part, stop_after_this

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tuner.search.surrogate.acquisition import Scale
    from tuner.search.surrogate.features import Candidates, Floats, Ints, Trials
    from tuner.search.surrogate.mixture import Judgement, Surrogate
    from tuner.search.surrogate.predict import Prediction

Bools: TypeAlias = "NDArray[np.bool_]"

_MAX_CANDIDATES = 50_000
_MAX_CELLS = 10_000  # of the surface over the two parameters that matter most
_MIN_EXPECTED = 4  # complete trials, for an expectation of each from the others
_SPREAD_START = 0.3  # where the first trials are several, each is the one least like the others of so large a share


class SpaceExhausted(Exception):
    """Every configuration was asked."""


@dataclass(frozen=True)
class Proposal:
    """A configuration to try, and what is expected of it: the share of the best's cost (or other first metric) that it
    is expected to save, None before there is a best.
    """

    configuration: dict[str, ParameterValue]
    expected_improvement: float | None


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as Optuna stores and shows it, with the values as the spec writes them."""
    found: dict[str, BaseDistribution] = {}
    for parameter in space.parameters:
        choices = parameter.choices
        if isinstance(choices, range):
            found[parameter.name] = IntDistribution(choices[0], choices[-1], step=choices.step)
        else:
            found[parameter.name] = CategoricalDistribution(tuple(choices))
    return found


def records_of(trials: Sequence[FrozenTrial]) -> list[TrialRecord]:
    """The finished trials' records; a trial that a crash interrupted has none."""
    return [TrialRecord.model_validate(trial.user_attrs[RECORD]) for trial in trials if RECORD in trial.user_attrs]


class SpaceSampler(optuna.samplers.BaseSampler):
    """What the runner `refuses` is proposed only when nothing else is left. `price` is per hour, `limit_ms` the p99's.

    `earlier` are records of other studies, which say what to expect at first.
    """

    def __init__(
        self, space: SearchSpace, objective: Objective, *, seed: int = 0,
        refuses: Callable[[Configuration], bool] | None = None,
        price: Callable[[Configuration], float | None] | None = None,
        limit_ms: float | None = None, earlier: Sequence[TrialRecord] = (), weights: Path | None = None,
    ) -> None:  # fmt: skip
        self._space, self._objective, self._seed = space, objective, seed
        self._price, self._limit_ms, self._earlier = price or _no_price, limit_ms, earlier
        self._proposed, self._foreign = Proposed(), optuna.samplers.RandomSampler(seed=seed)
        self._reference_ms, self._weights = limit_ms, weights
        everything = space.size.exact and space.size.count <= _MAX_CANDIDATES
        # Some of a larger space: the same ones for every seed, and so for every process that shares a study.
        self.candidates = space.sample(_MAX_CANDIDATES, seed if everything else 0)
        if not everything:
            random.Random(seed).shuffle(self.candidates)  # noqa: S311 (not for secrets)
        self._numbers = {space.ranks(candidate): number for number, candidate in enumerate(self.candidates)}
        self._runnable = np.array([refuses is None or not refuses(candidate) for candidate in self.candidates])

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """All parameters, always: they are chosen together."""
        return distributions(self._space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """At random: a parameter of the user's own, which is not of the space, or has other choices there."""
        return self._foreign.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, ParameterValue]:
        """The next configuration. Stops the study with the last one; raises SpaceExhausted when there is none left."""
        with self._proposed.lock:
            return self._sample(study, trial)

    def _sample(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, ParameterValue]:
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        # In our own study a trial without a record is one that a crash interrupted: it proved nothing.
        ours = PLAN in study.user_attrs or SPEC in study.user_attrs
        told = [] if ours else [found for other in trials if (found := self._told(other)) is not None]
        records = records_of(trials) + told
        pending = [dict(other.params) for other in trials if other.state == TrialState.RUNNING]
        if ours:
            return self.propose(records, pending, trial.number).configuration
        spent = self._spent(self._proposed.spent(study, trials, self._space.names))
        chosen = self.propose(records, pending, trial.number, spent).configuration
        self._proposed.remember(study, trial.number, chosen)
        if spent.sum() + 1 >= len(self.candidates):
            stop_after_this(study)
        return chosen

    def propose(
        self, records: Sequence[TrialRecord], pending: Sequence[Configuration], turn: int, spent: Bools | None = None
    ) -> Proposal:
        """The next configuration, from what was measured and what is being measured. `turn` varies the draw, `spent`
        marks candidates that are not to come again.

        Raises SpaceExhausted when there is none left.
        """
        from tuner.search.surrogate.acquisition import chebyshev, expected_improvement, expected_loss
        from tuner.search.surrogate.mixture import mixed

        waiting = [
            number
            for one in pending
            if len(one) == len(self._space.names) and (number := self._numbers.get(self._space.ranks(one))) is not None
        ]
        free = self._free(records, waiting, spent)
        trials = self._trials(records)
        predictions = self._surrogate.predict(trials, np.array(waiting, dtype=np.int64))
        seen = np.array([found for record in records if (found := self._objective.losses(record)) is not None])
        metrics = len(self._objective.metrics)
        if metrics == 1 or len(seen) == 0:
            scale: Scale = _first
        else:
            weights = np.random.default_rng([self._seed, turn]).dirichlet(np.ones(metrics))
            scale = chebyshev(weights, seen.min(axis=0), seen.max(axis=0))
        if len(seen) == 0:
            chosen = self._first(predictions, scale, free, waiting, turn)
            return Proposal(dict(self.candidates[chosen]), None)
        best = float(scale(list(seen.T)).min())
        score = mixed(predictions, [expected_improvement(one, self._losses, best, scale) for _, one in predictions])
        chosen = free[score[free].argmax()]
        if score[chosen] <= 1e-9:
            loss = mixed(predictions, [expected_loss(one, self._losses, scale) for _, one in predictions])
            chosen = free[loss[free].argmin()]
        return Proposal(dict(self.candidates[chosen]), float(score[chosen]))

    def _first(
        self, predictions: list[tuple[float, Prediction]], scale: Scale, free: Ints, waiting: Sequence[int], turn: int
    ) -> int:  # fmt: skip
        """What to try while nothing was measured: drawn by how promising it is, so that seeds differ. Where others are
        under way, that which is least like them, of much that is promising; after earlier studies what is best by them.
        """
        from tuner.search.surrogate.acquisition import promise
        from tuner.search.surrogate.mixture import mixed

        # Of earlier studies, and of what is the cheapest, only the network has heard.
        heard = [(weight, one) for weight, one in predictions if one.best is not None] or predictions
        told = bool(self._earlier)
        learned = self._objective.metrics == ("cost_per_million_requests",)
        odds = mixed(heard, [promise(one, self._losses, scale, free, learned=learned, told=told) for _, one in heard])
        if waiting:
            return self._farthest(free[odds >= np.quantile(odds, 1 - _SPREAD_START)], waiting)
        if told:
            return int(free[odds.argmax()])
        return int(np.random.default_rng([self._seed, turn]).choice(free, p=odds / odds.sum()))

    def predict(self, records: Sequence[TrialRecord]) -> list[tuple[float, Prediction]]:
        """What each expert predicts for all `candidates`, in their order, with its weight."""
        return self._surrogate.predict(self._trials(records), np.zeros(0, dtype=np.int64))

    def judge(self, records: Sequence[TrialRecord]) -> list[Judgement]:
        """What was predicted of each trial that proved something, before it, and the trust in the network since."""
        trials = self._trials(records)
        return self._surrogate.judge(trials) if len(trials) else []

    def expected(self, records: Sequence[TrialRecord]) -> dict[int, Expectation]:
        """What the other trials make one expect of the log capacity of each that served or was pruned, by its number;
        empty while there are too few to say.
        """
        shown = [one for one in records if one.state in ("complete", "pruned")]
        ordered = sorted(records, key=lambda record: record.number)
        known = [one for one in ordered if len(self._trials([one]))]
        trials = self._trials(ordered)
        if sum(one.state == "complete" for one in known) < _MIN_EXPECTED or len(known) != len(trials):
            return {}
        wanted = {one.number for one in shown}
        found = {}
        for number, record in enumerate(known):
            if record.number in wanted:
                found[record.number] = Expectation(*self._surrogate.expected(trials, number))
        return found

    def explain(self, records: Sequence[TrialRecord]) -> Explanation | None:
        """What was learned of the first metric; None before anything was measured."""
        from tuner.search.surrogate.explain import as_rows, best_over, total_effects
        from tuner.search.surrogate.mixture import mixed

        trials = self._trials(records)
        if not any(self._objective.losses(record) for record in records):
            return None
        predictions = self.predict(records)
        every = np.arange(len(self.candidates))

        def figure(which: Callable[[Prediction], tuple[Floats, Floats]]) -> Floats:
            at = [which(one) for _, one in predictions]
            return mixed(
                predictions, [self._losses(cap[:, None, None], p99[:, None, None])[0][:, 0, 0] for cap, p99 in at]
            )

        loss = figure(lambda one: (one.middle(), one.p99_mean))
        low = figure(lambda one: (one.quantiles(every, 0.95), one.p99_mean - 1.645 * one.p99_spread))
        high = figure(lambda one: (one.quantiles(every, 0.05), one.p99_mean + 1.645 * one.p99_spread))
        serves = mixed(predictions, [one.outcome[:, 0] for _, one in predictions])
        ranks = self._ranks
        expected = serves > 0.5
        effects = total_effects(ranks[expected], loss[expected]) if expected.any() else [0.0] * ranks.shape[1]
        order = np.argsort(effects)[::-1]
        sign = -1.0 if self._objective.maximised[0] else 1.0
        surface = None
        if (
            len(order) > 1
            and len(self._space.parameters[order[0]].choices) * len(self._space.parameters[order[1]].choices)
            <= _MAX_CELLS
        ):
            pair = (int(order[0]), int(order[1]))
            x, y = (self._space.parameters[one] for one in pair)
            where = best_over(ranks, pair, (len(x.choices), len(y.choices)), loss, serves)
            surface = Surface(
                x=x.name, y=y.name, x_values=tuple(x.choices), y_values=tuple(y.choices),
                value=as_rows(np.exp(sign * loss), where),
                low=as_rows(np.exp(sign * (high if sign < 0 else low)), where),
                high=as_rows(np.exp(sign * (low if sign < 0 else high)), where),
            )  # fmt: skip
        return Explanation(
            metric=self._objective.metrics[0], surface=surface, trust=self._surrogate.trust(trials),
            importance={self._space.names[one]: effects[one] for one in order},
        )  # fmt: skip

    @cached_property
    def _ranks(self) -> Ints:
        """A row per candidate."""
        return np.array(list(self._numbers))

    @cached_property
    def _surrogate(self) -> Surrogate:
        # torch and scikit-learn take a second to import: not before the first question.
        from tuner.search.surrogate.mixture import Surrogate
        from tuner.search.surrogate.space import candidates_of, trials_of

        if not self._earlier:
            return Surrogate(self._described, weights=self._weights)
        configurations = [record.configuration for record in self._earlier]
        numbers = {id(record): number for number, record in enumerate(self._earlier)}
        before = candidates_of(self._space, configurations, lambda _: None)
        before = type(before)(
            before.columns, np.log([one.cost_per_hour or np.nan for one in self._earlier]), before.physics
        )
        earlier = trials_of(self._earlier, lambda one: numbers[id(one)], self._space, self._limit_ms, earlier=True)
        return Surrogate(self._described, before, earlier, self._weights)

    @cached_property
    def _described(self) -> Candidates:
        from tuner.search.surrogate.space import candidates_of

        return candidates_of(self._space, self.candidates, self._price)

    def _trials(self, records: Sequence[TrialRecord]) -> Trials:
        from tuner.search.surrogate.space import trials_of

        def number_of(record: TrialRecord) -> int | None:
            return self._numbers.get(self._space.ranks(record.configuration))

        ordered = sorted(records, key=lambda record: record.number)
        if self._limit_ms is None:  # no SLO, as in a table: what is usual here stands for it
            self._reference_ms = next((record.p99_ms.value for record in ordered if record.p99_ms), None)
        return trials_of(ordered, number_of, self._space, self._reference_ms)

    def _losses(self, log_capacity: Floats, log_p99: Floats) -> list[Floats]:
        p99_ms = np.exp(log_p99) * (self._reference_ms or 1.0)
        return self._objective.losses_at(log_capacity, p99_ms, self._described.log_price[:, None, None])

    def _farthest(self, numbers: Ints, others: Sequence[int]) -> int:
        """Of some candidates the one that is least like any of the others: several first trials show more apart."""
        ranks = self._ranks / [max(1, len(one.choices) - 1) for one in self._space.parameters]
        steps = np.abs(ranks[numbers][:, None] - ranks[list(others)][None]).sum(axis=2)
        return int(numbers[steps.min(axis=1).argmax()])

    def _spent(self, parts: Sequence[Configuration]) -> Bools:
        """Which candidates have one of these configurations, or of these parts of one."""
        found = np.zeros(len(self.candidates), dtype=bool)
        for part in parts:
            wanted = [(column, self._space.rank(one, part[one.name]))
                      for column, one in enumerate(self._space.parameters) if one.name in part]  # fmt: skip
            if all(rank is not None for _, rank in wanted):
                found |= np.all([self._ranks[:, column] == rank for column, rank in wanted], axis=0)
        return found

    def _free(self, records: Sequence[TrialRecord], waiting: Sequence[int], spent: Bools | None = None) -> Ints:
        free = np.ones(len(self.candidates), dtype=bool) if spent is None else ~spent
        free[list(waiting)] = False
        for record in records:
            number = self._numbers.get(self._space.ranks(record.configuration))
            if number is not None:
                free[number] = False
        if not free.any():
            raise SpaceExhausted
        runnable = free & self._runnable
        return np.flatnonzero(runnable if runnable.any() else free)

    def _told(self, trial: FrozenTrial) -> TrialRecord | None:
        """What the values of a trial say, in a study of the user's own; None of one that is not over."""
        if (
            RECORD in trial.user_attrs
            or trial.state not in (TrialState.COMPLETE, TrialState.FAIL)
            or (configuration := own_part(trial, self._space.names)) is None
        ):
            return None
        shared: dict[str, Any] = {"number": trial.number, "configuration": configuration}
        values = dict(zip(self._objective.metrics, trial.values or (), strict=False))
        price = self._price(configuration)
        capacity = values.get("capacity_qps")
        if capacity is None and price and (cost := values.get("cost_per_million_requests")):
            capacity = capacity_at_cost(price, cost)
        if capacity is None or not capacity > 0:
            # Nobody told why; that it cannot serve is likelier than that it failed by chance.
            return TrialRecord(state="infeasible", reason="no capacity was told", **shared)
        p99 = values.get("p99_ms")
        return TrialRecord(
            state="complete", capacity_qps=Estimate.exactly(capacity), cost_per_hour=price,
            p99_ms=None if p99 is None else Estimate.exactly(p99),
            cost_per_million_requests=values.get("cost_per_million_requests"), **shared,
        )  # fmt: skip


def _no_price(_configuration: Configuration) -> None:
    """Of what costs nobody knows what. A function of the module's, which can be pickled."""


def _first(losses: Sequence[Floats]) -> Floats:
    return losses[0]
