"""Searches to compare, all by the same two words: `ask` for a configuration's number, `tell` what came of it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import optuna

from benchmarks.search.families import Floats, Surface
from results import Estimate, TrialRecord
from tuner.search.objective import Objective, capacity_at_cost, cost_per_million_requests
from tuner.search.surrogate.mixture import inside, mixed
from tuner.study.optuna_sampler import SpaceSampler
from tuner.study.storage.distributions import distributions
from tuner.trial.setup import BREAK_EVEN_MARGIN

optuna.logging.set_verbosity(optuna.logging.ERROR)
_WORST = 3.0  # log cost above the worst that was seen, for what cannot serve
_REPEATS = 30


class Searcher(Protocol):
    """One search of one surface."""

    def ask(self) -> int:
        """The number of a configuration that was not asked before."""

    def tell(self, record: TrialRecord, number: int) -> None:
        """What its trial showed."""


class RandomSearch:
    """Without replacement."""

    def __init__(self, surface: Surface, seed: int) -> None:
        self._order = iter(np.random.default_rng(seed).permutation(len(surface.configurations)).tolist())

    def ask(self) -> int:
        return int(next(self._order))

    def tell(self, record: TrialRecord, number: int) -> None:
        """Random search learns nothing."""


class OptunaSearch:
    """An Optuna sampler as it comes. What it asks again is answered from memory and costs nothing; what breaks a
    constraint costs nothing either, and is told to be as bad as what cannot serve.
    """

    def __init__(self, surface: Surface, sampler: optuna.samplers.BaseSampler) -> None:
        self._surface, self._distributions = surface, distributions(surface.space)
        self._study = optuna.create_study(sampler=sampler)
        self._numbers = {surface.space.ranks(one): number for number, one in enumerate(surface.configurations)}
        self._values: dict[int, float] = {}
        self._trial: Any = None

    def ask(self) -> int:
        for _ in range(_REPEATS):
            self._trial = self._study.ask(self._distributions)
            number = self._numbers.get(self._surface.space.ranks(self._trial.params))
            if number is not None and number not in self._values:
                return number
            self._study.tell(self._trial, self._unserved if number is None else self._values[number])
        number = next(one for one in range(len(self._surface.configurations)) if one not in self._values)
        self._study.enqueue_trial(self._surface.configurations[number])
        self._trial = self._study.ask(self._distributions)
        return number

    def tell(self, record: TrialRecord, number: int) -> None:
        cost = record.cost_per_million_requests
        self._values[number] = self._unserved if cost is None else float(np.log(cost))
        self._study.tell(self._trial, self._values[number])

    @property
    def _unserved(self) -> float:
        return max(self._values.values(), default=0.0) + (0.5 if self._values else _WORST)


class HillClimb:
    """As Triton Model Analyzer describes its quick search: from the smallest to neighbours of the best."""

    def __init__(self, surface: Surface, seed: int) -> None:
        self._codes = np.array([surface.space.ranks(one) for one in surface.configurations])
        self._costs: dict[int, float] = {}
        self._random = np.random.default_rng(seed)

    def ask(self) -> int:
        if not self._costs:
            return int(self._codes.sum(axis=1).argmin())
        for radius in itertools.count(1):
            centre = min(self._costs, key=self._costs.__getitem__)
            steps = np.abs(self._codes - self._codes[centre]).sum(axis=1)
            near = [int(one) for one in np.flatnonzero(steps <= radius) if int(one) not in self._costs]
            if near:
                return near[int(self._random.integers(len(near)))]
        raise AssertionError

    def tell(self, record: TrialRecord, number: int) -> None:
        self._costs[number] = record.cost_per_million_requests or np.inf


class Serving(NamedTuple):
    """Of configurations that were not tried, by tenths of the probability to serve: how many there are, and how many
    do; and the probability said of the optimum.
    """

    likely: tuple[int, ...]
    served: tuple[int, ...]
    optimum: float


class OurSearch:
    """The product's sampler, fed with records as the product feeds it."""

    def __init__(
        self, surface: Surface, seed: int, weights: Path | None = None, warm_start: Sequence[TrialRecord] = ()
    ) -> None:
        self._space = surface.space
        self._numbers = {self._space.ranks(one): number for number, one in enumerate(surface.configurations)}
        self.proposer = _our_sampler(surface, seed, weights, warm_start).proposer
        self._surface = surface
        self._records: list[TrialRecord] = []
        self._pending: list[dict[str, Any]] = []

    def ask(self) -> int:
        """What is asked before it is told of is pending."""
        proposal = self.proposer.propose(self._records, self._pending, len(self._records) + len(self._pending))
        self._pending.append(proposal.configuration)
        return self._numbers[self._space.ranks(proposal.configuration)]

    def pend(self, number: int) -> None:
        """A configuration that is tried without having been asked for, as today's is."""
        self._pending.append(dict(self._surface.configurations[number]))

    def tell(self, record: TrialRecord, number: int) -> None:
        """In any order."""
        self._pending.pop(0)
        self._records.append(record)

    def coverage(self, capacity_qps: Floats) -> float:
        """The share of the capacities of all configurations that serve in the 90% interval predicted for them now."""
        numbers = np.array([self._numbers[self._space.ranks(one)] for one in self.proposer.pool.configurations])
        which = np.flatnonzero(capacity_qps[numbers] > 0)
        found = inside(self.proposer.predict(self._records), which, np.log(capacity_qps[numbers][which]))
        return float(found.mean())

    def serving(self, capacity_qps: Floats, optimum: int) -> Serving:
        """How likely those that were not tried are said to serve now, and how many do."""
        proposer = self.proposer
        numbers = np.array([self._numbers[self._space.ranks(one)] for one in proposer.pool.configurations])
        predictions = proposer.predict(self._records)
        likely = mixed(predictions, [one.outcome[:, 0] for _, one in predictions])
        tried = {self._numbers[self._space.ranks(one.configuration)] for one in self._records}
        left = np.array([number not in tried for number in numbers])
        tenth = np.minimum((likely * 10).astype(int), 9)
        serves = capacity_qps[numbers] > 0
        best = likely[numbers == optimum]
        return Serving(
            tuple(np.bincount(tenth[left], minlength=10).tolist()),
            tuple(np.bincount(tenth[left & serves], minlength=10).tolist()),
            float("nan") if optimum in tried else float(best[0]),
        )

    def calibration(self) -> tuple[float, float]:
        """The share of capacities in the 90% interval predicted for them, and the trust in the network at the end."""
        judged = self.proposer.calibration(self._records)
        inside = [one.inside for one in judged[1:] if one.inside is not None]
        return (float(np.mean(inside)) if inside else float("nan")), judged[-1].trust


class OurSamplerAlone:
    """The same sampler in a plain Optuna study, which is told costs and failures and nothing else."""

    def __init__(self, surface: Surface, seed: int, weights: Path | None = None) -> None:
        self._surface, self._distributions = surface, distributions(surface.space)
        self._numbers = {surface.space.ranks(one): number for number, one in enumerate(surface.configurations)}
        self._study = optuna.create_study(sampler=_our_sampler(surface, seed, weights))
        self._asked: list[optuna.Trial] = []

    def ask(self) -> int:
        """What is asked before it is told of is running."""
        self._asked.append(self._study.ask(self._distributions))
        return self._numbers[self._surface.space.ranks(self._asked[-1].params)]

    def tell(self, record: TrialRecord, number: int) -> None:
        cost = record.cost_per_million_requests
        state = optuna.trial.TrialState.FAIL if cost is None else optuna.trial.TrialState.COMPLETE
        self._study.tell(self._asked.pop(0), cost, state=state)


def _our_sampler(
    surface: Surface, seed: int, weights: Path | None, warm_start: Sequence[TrialRecord] = ()
) -> SpaceSampler:
    ranks = surface.space.ranks
    prices = {
        ranks(one): None if np.isnan(price) else float(price)
        for one, price in zip(surface.configurations, surface.price, strict=True)
    }
    objective = Objective(("cost_per_million_requests",))
    return SpaceSampler(
        surface.space, objective, seed=seed, limit_ms=surface.limit_ms, price=lambda one: prices[ranks(one)],
        weights=weights, warm_start=warm_start,
    )  # fmt: skip


def _quietly(make: Callable[[int], optuna.samplers.BaseSampler]) -> Callable[[Surface, int], Searcher]:
    def made(surface: Surface, seed: int) -> Searcher:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return OptunaSearch(surface, make(seed))

    return made


SEARCHERS: dict[str, Callable[[Surface, int], Searcher]] = {
    "random": RandomSearch,
    "hill climb": HillClimb,
    "Optuna TPE": _quietly(lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True)),
    "Optuna GP": _quietly(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "Optuna NSGA-II": _quietly(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=10)),
    "ours (costs alone)": OurSamplerAlone,
    "ours": OurSearch,
}
OURS: dict[str, Callable[[Surface, int, Path | None], Searcher]] = {
    "ours": OurSearch, "ours (costs alone)": OurSamplerAlone,
}  # fmt: skip
LEARNS_BOUNDS = ("ours",)  # the others would take a pruned trial for a measured one: for them none is pruned


def trial(
    surface: Surface, number: int, count: int, best: float | None, g: np.random.Generator, *, prune: bool
) -> TrialRecord:
    """What a trial of a configuration shows, with noise; pruned by the product's own rule."""
    price, capacity = float(surface.price[number]), float(surface.capacity_qps[number])
    p99_ms = _at(surface.p99_ms, number)
    shared: dict[str, Any] = {
        "number": count, "configuration": surface.configurations[number],
        "cost_per_hour": None if np.isnan(price) else price,
        "p99_ms": None if p99_ms is None else Estimate.exactly(p99_ms),
    }  # fmt: skip
    if not capacity:
        oom = surface.status[number] == "oom"
        return TrialRecord(state="infeasible", reason="out of memory" if oom else "too slow", **shared)
    capacity_error, latency_error, burst_error = (float(np.exp(g.normal(0, surface.noise))) for _ in range(3))
    seen = capacity * capacity_error
    p50_ms, lone_ms, saturated_qps = (
        _at(figures, number) for figures in (surface.p50_ms, surface.lone_ms, surface.saturated_qps)
    )
    shared |= {
        "p50_ms": None if p50_ms is None else p50_ms * latency_error,
        "base_latency_ms": None if lone_ms is None else lone_ms * latency_error,
        "saturated_qps": seen if saturated_qps is None else saturated_qps * burst_error,
        "gpu_utilization": _at(surface.gpu_use, number),
        "bottleneck": None if surface.bottleneck is None else str(surface.bottleneck[number]),
    }
    cost = cost_per_million_requests(price, seen)
    bound = None if best is None or not prune else capacity_at_cost(price, best) * BREAK_EVEN_MARGIN
    if bound is not None and seen < bound:
        shared["p99_ms"] = None  # as a replayed trial that was pruned
        return TrialRecord(state="pruned", reason="dearer", capacity_bound_qps=bound, **shared)
    return TrialRecord(state="complete", capacity_qps=Estimate.exactly(seen), cost_per_million_requests=cost, **shared)


def _at(figures: Floats | None, number: int) -> float | None:
    return None if figures is None or np.isnan(figures[number]) else float(figures[number])
