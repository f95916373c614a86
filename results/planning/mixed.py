"""Mixed fleets: several measured configurations together for one traffic, beside the best single one.

Candidates come from integer programs (`mixture`); each is simulated as a fleet of one kind is, and only one that keeps
the objective for less money than the best single kind is ever shown.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from results.planning.fleet import Floats, Ints, Replica, Scaling, highest_target, windowed_peak
from results.planning.mixture import (
    UNHURRIED,
    Kind,
    Need,
    OutOfTimeError,
    SolverTime,
    base_below,
    fixed_mixture,
    undominated,
)
from results.planning.money import MONTH_H, Offer, Terms, offers
from results.planning.parts import Following, simulate_parts
from results.planning.traffic import Traffic
from results.text import assigned, figure

_MAX_KINDS = 10
_MAX_LEVELS = 24
_FOLLOWERS = 3  # kinds that are tried as the one that an autoscaler adds
_BASE_KINDS = 2
_PLANNED_TARGET = 0.8  # of its capacity, for the rough choice of a base; the simulation then finds the target


@dataclass(frozen=True)
class ReplicaKind:
    """A measured configuration that a fleet may have replicas of."""

    trial: int
    configuration: Mapping[str, Any]
    replica: Replica
    price_per_hour: float


@dataclass(frozen=True)
class FleetPart:
    """The replicas of one configuration in a mixed fleet. `scaled`: an autoscaler adds and removes them, but for `base`
    that run all the time. `ready` are those that serve, per step of the traffic.
    """

    choice: ReplicaKind
    min_replicas: int
    mean: float
    max_replicas: int
    base: int
    scaled: bool
    ready: Floats

    @property
    def words(self) -> str:
        """How many replicas of which configuration: `2 to 4 x cpu_cores=2 threads=1`."""
        count = (
            str(self.max_replicas)
            if self.min_replicas == self.max_replicas
            else f"{self.min_replicas} to {self.max_replicas}"
        )
        return f"{count} x {assigned(self.choice.configuration)}"


@dataclass(frozen=True)
class Mixed:
    """A fleet of several kinds that keeps the objective. `monthly` is on demand, `saved` the share of the best single
    kind's money that it saves. `following` says how the part that is scaled follows the load.
    """

    name: str
    words: str
    parts: tuple[FleetPart, ...]
    monthly: float
    saved: float
    miss_share: float
    offers: tuple[Offer, ...]
    following: Following | None


@dataclass(frozen=True)
class Demand:
    """What a fleet is for, what it must keep to, and how long the search for it may take."""

    traffic: Traffic
    misses: float
    need: Need
    terms: Terms
    solver_time: SolverTime = UNHURRIED


@dataclass(frozen=True)
class _Design:
    """A way to run several kinds together. `counts` are replicas of each kind, one number or one per step of the
    traffic; those of `following` come on top.
    """

    name: str
    words: str
    counts: Any
    following: Following | None = None


def best_mixture(choices: Sequence[ReplicaKind], demand: Demand, single_monthly: float) -> Mixed | None:
    """The cheapest mixed fleet that keeps the objective, where it costs less than the best single kind does, of those
    that were looked at while there was time.
    """
    kinds = [Kind(one.replica.capacity_qps, one.price_per_hour) for one in choices]
    chosen = [choices[at] for at in undominated(kinds, _MAX_KINDS)]
    found = [
        one for one in _candidates(chosen, demand, single_monthly)
        if len(one.parts) > 1 and one.miss_share <= demand.misses and one.monthly < single_monthly * (1 - 1e-9)
    ]  # fmt: skip
    return min(found, key=lambda one: one.monthly, default=None)


def _candidates(choices: Sequence[ReplicaKind], demand: Demand, single: float) -> Iterator[Mixed]:
    with contextlib.suppress(OutOfTimeError):
        yield from _every_candidate(choices, demand, single)


def _every_candidate(choices: Sequence[ReplicaKind], demand: Demand, single: float) -> Iterator[Mixed]:
    traffic = demand.traffic
    kinds = [Kind(one.replica.capacity_qps, one.price_per_hour) for one in choices]
    if (counts := fixed_mixture(kinds, traffic.peak_qps, demand.need, demand.solver_time)) is not None:
        always = [np.full(len(traffic.rates), float(count)) for count in counts]
        yield _simulated(_Design("fixed", "all the time", always), choices, demand, single)
    if traffic.known and (over_time := _by_the_clock(choices, kinds, demand)) is not None:
        by_the_clock = _Design("scheduled", "by the clock, as this traffic is known to come", over_time)
        yield _simulated(by_the_clock, choices, demand, single)
    yield from _autoscaled(choices, kinds, demand, single)


def _by_the_clock(choices: Sequence[ReplicaKind], kinds: Sequence[Kind], demand: Demand) -> list[Floats] | None:
    """The cheapest mixture at each level of the load, started early enough to serve when it is needed."""
    slowest_s = max(one.replica.cold_start_s for one in choices)
    edges = _levels(ahead := windowed_peak(demand.traffic, slowest_s))
    level = np.searchsorted(edges, ahead * (1 - 1e-9))
    table = _solved(kinds, edges, np.unique(level), demand)
    if table is not None and np.count_nonzero(table.any(axis=0)) > demand.need.max_kinds:
        spent = table[level].sum(axis=0) * [one.price_per_hour for one in kinds]
        few = np.sort(np.argsort(-spent)[: demand.need.max_kinds])
        fewer = _solved([kinds[at] for at in few], edges, np.unique(level), demand)
        table = np.zeros_like(table)
        if fewer is None:
            return None
        table[:, few] = fewer
    if table is None:
        return None
    return [np.asarray(table[level, at], dtype=float) for at in range(len(kinds))]


def _solved(kinds: Sequence[Kind], edges: Floats, levels: Ints, demand: Demand) -> Floats | None:
    """How many replicas of each kind carry each of these levels of load."""
    table = np.zeros((len(edges), len(kinds)))
    for at in levels:
        counts = fixed_mixture(kinds, float(edges[at]), demand.need, demand.solver_time)
        if counts is None:
            return None
        table[at] = counts
    return table


def _levels(rates: Floats) -> Floats:
    """A few rates, each of which stands for all rates between the next lower one and itself."""
    known = np.unique(rates)
    return known if len(known) <= _MAX_LEVELS else np.linspace(known[0], known[-1], _MAX_LEVELS + 1)[1:]


def _autoscaled(
    choices: Sequence[ReplicaKind], kinds: Sequence[Kind], demand: Demand, single: float
) -> Iterator[Mixed]:
    """A base that runs all the time, and one kind that an autoscaler adds above it."""
    edges = _levels(demand.traffic.rates)
    weights = np.bincount(np.searchsorted(edges, demand.traffic.rates * (1 - 1e-9)), minlength=len(edges)).astype(float)
    rough: list[tuple[float, int, Any]] = []
    for scaled, kind in enumerate(kinds):
        base = base_below(kinds, scaled, edges / _PLANNED_TARGET, weights, _BASE_KINDS, demand.solver_time)
        if base is None or not base.any():
            continue
        below = sum(count * one.capacity_qps for count, one in zip(base, kinds, strict=True))
        above = np.ceil(np.maximum(0, edges / _PLANNED_TARGET - below) / kind.capacity_qps - 1e-9)
        money = sum(count * one.price_per_hour for count, one in zip(base, kinds, strict=True))
        rough.append((float(money + kind.price_per_hour * (above * weights).sum() / weights.sum()), scaled, base))
    for _, scaled, base in sorted(rough, key=lambda one: one[:2])[:_FOLLOWERS]:
        yield _followed(choices, scaled, base, demand, single)


def _followed(choices: Sequence[ReplicaKind], scaled: int, base: Any, demand: Demand, single: float) -> Mixed:
    """The fleet whose autoscaler has the highest target at which few enough requests are late."""
    follower, need = choices[scaled].replica, demand.need
    biggest = max(one.replica.capacity_qps for at, one in enumerate(choices) if base[at] or at == scaled)
    spare = math.ceil(need.spare * biggest / follower.capacity_qps - 1e-9)
    # With a zone that is lost goes the base's part in it.
    left = [int(count) - (math.ceil(count / need.zones) if need.zones > 1 else 0) for count in base]
    below = sum(count * one.replica.capacity_qps for count, one in zip(left, choices, strict=True))
    min_replicas = max(spare, need.min_replicas - int(base.sum()))

    def run(target: float) -> Mixed:
        scaling = Scaling(target, min_replicas, spare=spare, zones=need.zones)
        words = (
            f"an autoscaler adds trial {choices[scaled].trial}'s for what is above {figure(target * below)} "
            f"requests/s, each kept at {target:.0%} of its capacity"
        )
        design = _Design("autoscaled", words, base, Following(scaled, scaling, target * below))
        return _simulated(design, choices, demand, single)

    return run(highest_target(lambda target: run(target).miss_share, demand.misses))


def _simulated(design: _Design, choices: Sequence[ReplicaKind], demand: Demand, single: float) -> Mixed:
    """What becomes of the traffic in a fleet of these choices. `single` is what the best single kind costs a month.
    Raises OutOfTimeError where no simulation may begin.
    """
    demand.solver_time.left_s()
    replicas, following = [one.replica for one in choices], design.following
    existing, ready, miss_share = simulate_parts(demand.traffic, replicas, design.counts, following)
    parts: list[FleetPart] = []
    followed: Following | None = None
    ways: list[dict[str, Offer]] = []
    for at, (choice, there) in enumerate(zip(choices, existing, strict=True)):
        if not there.any():
            continue
        scaled = following is not None and at == following.part
        if scaled and following is not None:
            followed = replace(following, part=len(parts))
        base = round(float(np.min(design.counts[at])))
        few, max_replicas = round(float(there.min())), round(float(there.max()))
        parts.append(FleetPart(choice, few, float(there.mean()), max_replicas, base, scaled, ready[at]))
        ways.append({way.name: way for way in offers(there, choice.price_per_hour, demand.terms)})
    monthly = sum(part.mean * part.choice.price_per_hour for part in parts) * MONTH_H
    summed = tuple(_together(label, [way[label] for way in ways]) for label in (ways[0] if ways else ()))
    saved = 1 - monthly / single
    return Mixed(design.name, design.words, tuple(parts), monthly, saved, miss_share, summed, followed)


def _together(name: str, parts: Sequence[Offer]) -> Offer:
    return Offer(
        name, sum(one.monthly for one in parts), sum(one.upfront for one in parts),
        "; ".join(one.words for one in parts if one.words) if name != "spot" else parts[0].words,
    )  # fmt: skip
