"""The search as an Optuna sampler, for anyone's study: valid configurations only, and none twice.

`SpaceSampler` asks the proposer (`tuner/search/proposer.py`). All state is in the study's storage: what is asked
depends on the seed and the stored trials alone, so that a second process can go on. In a study of one's own:

    space = SearchSpace((Parameter("batch", (1, 2, 4, 8), "batch_size"), Parameter("cores", (1, 2, 4), "cpu_cores")))
    sampler = SpaceSampler(space, Objective(("capacity_qps",)), seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: measure(trial.suggest_categorical("batch", (1, 2, 4, 8)), ...), n_trials=20)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from results import Estimate, Latencies, TrialRecord
from search_spaces import Configuration, ParameterValue, SearchSpace
from tuner.search.objective import Objective, capacity_at_cost
from tuner.search.proposer import Proposer
from tuner.study.plain_study import Proposed, own_part, stop_after_this
from tuner.study.storage.distributions import distributions, records_of
from tuner.study.storage.keys import PLAN, RECORD, SPEC


class SpaceSampler(optuna.samplers.BaseSampler):
    """`price` is per hour, `limit_ms` the p99's limit. What a runner `refuses` is asked only when nothing else is left.
    `warm_start` are records of other studies, which say what to expect at first.
    """

    def __init__(
        self, space: SearchSpace, objective: Objective, *, seed: int = 0,
        refuses: Callable[[Configuration], bool] | None = None,
        price: Callable[[Configuration], float | None] | None = None,
        limit_ms: float | None = None, warm_start: Sequence[TrialRecord] = (), weights: Path | None = None,
    ) -> None:  # fmt: skip
        self.proposer = Proposer(
            space,
            objective,
            seed=seed,
            refuses=refuses,
            price=price,
            limit_ms=limit_ms,
            warm_start=warm_start,
            weights=weights,
        )
        self._proposed, self._foreign = Proposed(), optuna.samplers.RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """All parameters, always: they are chosen together."""
        return distributions(self.proposer.space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a value at random, for a parameter that is not of the space, or that has other choices there."""
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
        proposer = self.proposer
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        # In our own study a trial without a record is one that a crash interrupted: it proved nothing.
        ours = PLAN in study.user_attrs or SPEC in study.user_attrs
        foreign = [] if ours else [one for other in trials if (one := _record_of_values(proposer, other)) is not None]
        records = records_of(trials) + foreign
        pending = [dict(other.params) for other in trials if other.state == TrialState.RUNNING]
        if ours:
            return proposer.propose(records, pending, trial.number).configuration
        spent = proposer.pool.with_parts(self._proposed.spent(study, trials, proposer.space.names))
        chosen = proposer.propose(records, pending, trial.number, spent).configuration
        self._proposed.remember(study, trial.number, chosen)
        if spent.sum() + 1 >= len(proposer.pool):
            stop_after_this(study)
        return chosen


def _record_of_values(proposer: Proposer, trial: FrozenTrial) -> TrialRecord | None:
    """A trial of the user's own study as a record; None while the trial is not over."""
    if (
        RECORD in trial.user_attrs
        or trial.state not in (TrialState.COMPLETE, TrialState.FAIL)
        or (configuration := own_part(trial, proposer.space.names)) is None
    ):
        return None
    shared: dict[str, Any] = {"number": trial.number, "configuration": configuration}
    values = dict(zip(proposer.objective.metrics, trial.values or (), strict=False))
    price = proposer.price(configuration)
    capacity = values.get("capacity_qps")
    if capacity is None and price and (cost := values.get("cost_per_million_requests")):
        capacity = capacity_at_cost(price, cost)
    if capacity is None or not capacity > 0:
        # Nobody told why; that it cannot serve is likelier than that it failed by chance.
        return TrialRecord(state="infeasible", reason="no capacity was told", **shared)
    p99 = values.get("p99_ms")
    return TrialRecord(
        state="complete", capacity_qps=Estimate.exactly(capacity), cost_per_hour=price,
        latency=Latencies(p99_ms=None if p99 is None else Estimate.exactly(p99)),
        cost_per_million_requests=values.get("cost_per_million_requests"), **shared,
    )  # fmt: skip
