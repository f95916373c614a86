"""A search space and its records in the surrogate's terms: what it predicts from, and the losses that follow.

SciPy takes half a second to import, so nothing of the surrogate is imported before the first question.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from results import TrialRecord
from search_spaces import Configuration
from tuner.search.candidates import CandidatePool, TooDearError
from tuner.search.objective import Objective

if TYPE_CHECKING:
    from tuner.search.surrogate.acquisition import Losses
    from tuner.search.surrogate.features import Candidates, Floats, Ints, Trials
    from tuner.search.surrogate.mixture import Surrogate

_NOTHING, _ROUNDING = 1e-300, 1e-9  # a price that nothing has; in logs of prices
_GPU_ROLES = ("gpu_type", "gpu_memory", "gpu_compute", "gpus", "instance_type")


@dataclass(frozen=True)
class SpaceModel:
    """What can be predicted for the candidates of a pool. `price` is per hour, `limit_ms` the p99's; `warm_start` are
    records of other studies. `weights` are the network's, None for those that ship.
    """

    pool: CandidatePool
    price: Callable[[Configuration], float | None]
    limit_ms: float | None
    warm_start: Sequence[TrialRecord]
    weights: Path | None

    @cached_property
    def surrogate(self) -> Surrogate:
        """Predicts for all candidates of the pool, in their order."""
        from tuner.search.surrogate.mixture import Surrogate
        from tuner.search.surrogate.space import candidates_of, trials_of

        if not self.warm_start:
            return Surrogate(self.candidates, weights=self.weights)
        space, configurations = self.pool.space, [record.configuration for record in self.warm_start]
        numbers = {id(record): number for number, record in enumerate(self.warm_start)}
        before = candidates_of(space, configurations, lambda _: None)
        prices = np.log([one.cost_per_hour or np.nan for one in self.warm_start])
        before = type(before)(before.columns, prices, before.physics)
        earlier = trials_of(self.warm_start, lambda one: numbers[id(one)], space, self.limit_ms)
        return Surrogate(self.candidates, (before, earlier) if len(earlier) else None, self.weights)

    @cached_property
    def candidates(self) -> Candidates:
        """The pool's configurations as the network sees them."""
        from tuner.search.surrogate.space import candidates_of

        return candidates_of(self.pool.space, self.pool.configurations, self.price)

    def affordable(self, free: Ints, most_per_hour: float) -> Ints:
        """Those of them that cost no more, and those without a price. Raises TooDearError where there is none."""
        log_price = self.candidates.log_price[free]
        dear = log_price > math.log(max(most_per_hour, _NOTHING)) - _ROUNDING
        if dear.all():
            raise TooDearError(math.exp(log_price.min()))
        return free[~dear]

    def trials(self, records: Sequence[TrialRecord]) -> Trials:
        """The records that proved something, in the order of their numbers."""
        from tuner.search.surrogate.space import trials_of

        ordered = sorted(records, key=lambda record: record.number)
        return trials_of(
            ordered,
            lambda one: self.pool.number_of(one.configuration),
            self.pool.space,
            self._reference_ms(ordered),
        )

    def losses(self, objective: Objective, records: Sequence[TrialRecord]) -> Losses:
        """The objective's losses of all candidates, by log capacities and by log p99s relative to the reference."""
        reference_ms = self._reference_ms(records) or 1.0
        log_hourly = self._log_power(objective, records) if objective.by_energy else self.candidates.log_price

        def losses(log_capacity: Floats, log_p99: Floats) -> list[Floats]:
            p99_ms = np.exp(log_p99) * reference_ms
            return objective.losses_at(log_capacity, p99_ms, log_hourly[:, None, None])

        return losses

    def best_before(self, losses: Losses) -> int | None:
        """The number of the best that other studies measured by the first metric, which a warm start begins with,
        though it may not serve here; None where they measured none of the pool's.
        """
        log_capacity, log_p99 = self._measured_before
        if np.isnan(log_capacity).all():
            return None
        loss = np.nan_to_num(losses(log_capacity[:, None, None], log_p99[:, None, None])[0][:, 0, 0], nan=np.inf)
        return int(loss.argmin()) if np.isfinite(loss.min()) else None

    @cached_property
    def _measured_before(self) -> tuple[Floats, Floats]:
        """Per candidate the highest log capacity that other studies measured of it, nan where none did, and the log of
        the p99 there over the limit, 0 where it is not known.
        """
        log_capacity, log_p99 = np.full(len(self.pool), math.nan), np.zeros(len(self.pool))
        for record in self.warm_start:
            whole = set(self.pool.space.names) <= record.configuration.keys()
            number = self.pool.number_of(record.configuration) if whole else None
            capacity, p99 = record.capacity_qps, record.latency.p99_ms
            if number is None or record.state != "complete" or capacity is None or capacity.value <= 0:
                continue
            if not math.log(capacity.value) <= log_capacity[number]:
                log_capacity[number] = math.log(capacity.value)
                log_p99[number] = math.log(p99.value / (self.limit_ms or 1.0)) if p99 and p99.value > 0 else 0.0
        return log_capacity, log_p99

    def _log_power(self, objective: Objective, records: Sequence[TrialRecord]) -> Floats:
        """Of each candidate, as that of the trials on the same GPUs; nan where none was."""
        gpus = [one.name for one in self.pool.space.parameters if one.role in _GPU_ROLES]
        seen: defaultdict[tuple[object, ...], list[float]] = defaultdict(list)
        for record in records:
            if (power := objective.hourly(record)) is not None:
                seen[tuple(record.configuration.get(name) for name in gpus)].append(math.log(power))
        means = {key: sum(found) / len(found) for key, found in seen.items()}
        keys = (tuple(one.get(name) for name in gpus) for one in self.pool.configurations)
        return np.array([means.get(key, math.nan) for key in keys])

    def _reference_ms(self, records: Sequence[TrialRecord]) -> float | None:
        """The p99's limit; where there is no SLO, as in a table, what is usual there stands for it."""
        if self.limit_ms is not None:
            return self.limit_ms
        ordered = sorted(records, key=lambda record: record.number)
        return next((record.latency.p99_ms.value for record in ordered if record.latency.p99_ms), None)
