"""Which configuration to measure next. The one place where a sampler is chosen.

`SpaceSampler` is an Optuna sampler over a `SearchSpace`: it proposes valid configurations only, and none twice. The
first few spread out over the space; then Optuna's Gaussian process, fitted to everything that the finished trials
proved, proposes a point, and the nearest valid configuration that is still unmeasured is taken.

All state is in the study's storage: what is asked depends on the seed and the stored trials alone, so that a second
process can go on.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from results import TrialRecord
from search_spaces import Configuration, Parameter, ParameterValue, SearchSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECORD = "record"  # the trial's user attribute that holds its TrialRecord
_MOST_CANDIDATES = 50_000
_STARTUP_TRIALS = 6
_SPREAD_DRAWS = 32
_PRUNED_PENALTY = 0.4  # in logs: a pruned configuration is taken to be half as dear again as the bound it proved

Losses = Callable[[TrialRecord], tuple[float, ...] | None]


class SpaceExhausted(Exception):
    """Every valid configuration has been asked for."""


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
    """`losses` are those of a complete trial (lower is better, several for a Pareto front), `bounds` lower bounds of
    the losses of a pruned one. What the runner `refuses` is proposed only when nothing else is left.
    """

    def __init__(
        self, space: SearchSpace, losses: Losses, bounds: Losses, refuses: Callable[[Configuration], bool], seed: int
    ) -> None:
        self._space, self._losses, self._bounds, self._seed = space, losses, bounds, seed
        self._candidates = space.sample(_MOST_CANDIDATES, seed)
        self._runnable = np.array([not refuses(candidate) for candidate in self._candidates])
        self._codes = np.array([space.ranks(candidate) for candidate in self._candidates], dtype=float)
        self._scale = np.array([max(1, len(parameter.choices) - 1) for parameter in space.parameters], dtype=float)
        self._ordered = np.array([parameter.ordered for parameter in space.parameters])

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
        """Never needed: no parameter is outside the relative space."""
        raise NotImplementedError(f"{param_name} is not a parameter of the space")

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, ParameterValue]:
        """The next configuration. Raises SpaceExhausted when there is none left."""
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        records = records_of(trials)
        pending = [dict(other.params) for other in trials if other.state == optuna.trial.TrialState.RUNNING]
        return self.propose(records, pending, trial.number)

    def propose(
        self, records: Sequence[TrialRecord], pending: Sequence[dict[str, Any]], turn: int
    ) -> dict[str, ParameterValue]:
        """The next configuration, from what was measured and what is being measured. `turn` varies the draw."""
        taken = {self._space.ranks(record.configuration) for record in records}
        taken |= {self._space.ranks(configuration) for configuration in pending if configuration}
        free = np.array([tuple(int(code) for code in row) not in taken for row in self._codes])
        if not free.any():
            raise SpaceExhausted
        if (free & self._runnable).any():
            free &= self._runnable
        generator = np.random.default_rng([self._seed, turn])
        points, losses = self._evidence(records)
        if len(records) < _STARTUP_TRIALS or len(points) < 2:
            chosen = self._spread(taken, free, generator)
        else:
            target = self._ask_gaussian_process(points, losses, int(generator.integers(2**31)))
            distance = np.where(free, self._distance(np.array(target, dtype=float)), np.inf)
            chosen = int(np.argmin(distance))
        return dict(self._candidates[chosen])

    def _spread(self, taken: set[tuple[int, ...]], free: NDArray[np.bool_], generator: np.random.Generator) -> int:
        """Of some free candidates drawn at random, the one farthest from all that were taken."""
        indices = np.flatnonzero(free)
        drawn = generator.choice(indices, size=min(_SPREAD_DRAWS, len(indices)), replace=False)
        if not taken:
            return int(drawn[0])
        nearest = np.min([self._distance(np.array(code, dtype=float))[drawn] for code in sorted(taken)], axis=0)
        return int(drawn[int(np.argmax(nearest))])

    def _distance(self, code: NDArray[np.float64]) -> NDArray[np.float64]:
        """From every candidate to one point: ranks scaled to 0..1 where choices are ordered, 0 or 1 where not."""
        apart = np.abs(self._codes - code)
        steps = np.where(self._ordered, apart / self._scale, (apart > 0).astype(float))
        return np.asarray(np.sqrt((steps**2).sum(axis=1)))

    def _evidence(self, records: Sequence[TrialRecord]) -> tuple[list[tuple[int, ...]], list[tuple[float, ...]]]:
        """Where something was proved, and the losses to learn from.

        A pruned trial proved only that its loss is above a bound, and is taken to be somewhat above it; one that cannot
        serve at all counts as worse than the worst. None of them looks as good as the best.
        """
        complete = {record.number: found for record in records if (found := self._losses(record)) is not None}
        if not complete:
            return [], []
        columns = list(zip(*complete.values(), strict=True))
        worst = [max(column) + max(0.5, statistics.pstdev(column)) for column in columns]
        points: list[tuple[int, ...]] = []
        losses: list[tuple[float, ...]] = []
        for record in records:
            if record.number in complete:
                value = complete[record.number]
            elif record.state == "pruned" and (bound := self._bounds(record)) is not None:
                value = tuple(loss + _PRUNED_PENALTY for loss in bound)
            else:
                value = tuple(worst)
            points.append(self._space.ranks(record.configuration))
            losses.append(value)
        return points, losses

    def _ask_gaussian_process(
        self, points: Sequence[tuple[int, ...]], losses: Sequence[tuple[float, ...]], seed: int
    ) -> list[int]:
        """One question to Optuna's GP sampler, in a study of its own that holds the evidence as ranks."""
        spaces = {parameter.name: _rank_distribution(parameter) for parameter in self._space.parameters}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.GPSampler(
                seed=seed, n_startup_trials=0, independent_sampler=optuna.samplers.RandomSampler(seed=seed)
            )
            study = optuna.create_study(directions=["minimize"] * len(losses[0]), sampler=sampler)
            for point, value in zip(points, losses, strict=True):
                params = dict(zip(self._space.names, point, strict=True))
                study.add_trial(optuna.create_trial(params=params, distributions=spaces, values=list(value)))
            asked = study.ask(spaces).params
        return [int(asked[name]) for name in self._space.names]


def _rank_distribution(parameter: Parameter) -> BaseDistribution:
    count = len(parameter.choices)
    return IntDistribution(0, count - 1) if parameter.ordered else CategoricalDistribution(tuple(range(count)))
