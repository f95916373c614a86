"""A fleet of equal replicas under traffic: what is late when there are few, and how many an autoscaler keeps.

A replica is what a trial measured. At its capacity a share `allowed` of requests miss the limit; at other rates that
share is taken to fall as in an M/M/1 queue, where P(late) is exp(-theta (1 - utilisation)): queues with steadier
service are late less often, so it errs on the safe side for most servers (`python -m benchmarks.plan_truth`). Above its
throughput a backlog grows, and who waits longer than the limit leaves room for is late. The backlog is per replica,
since a queue stays where it formed: a fluid, with the spread that chance gives it while it grows. Both laws are of one
diffusion, Brownian motion reflected at zero (Harrison, Brownian Motion and Stochastic Flow Systems, 1985, section 1.8),
whose variance follows from the share at the capacity.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.planning.traffic import Traffic

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MAX_STEPS = 20_000
_MAX_LOAD = 2.0**53  # whole numbers of replicas end there
_MAX_REPLICAS = 2**31 - 1  # what Kubernetes' HPA counts to
_MAX_QUEUES = 48  # backlogs that are told apart
_HALF_SATURATED = 0.7  # capacity over throughput, where no throughput was measured
_TARGETS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.4, 0.3)
_FOR_SURE = 0.95  # the share of the allowed misses that a plan may use up


@dataclass(frozen=True)
class Replica:
    """One container. `slack_s` is how long a request may wait before it is late; `cold_start_s` until it serves."""

    capacity_qps: float
    throughput_qps: float
    slack_s: float
    cold_start_s: float
    allowed: float = 0.01

    @classmethod
    def measured(
        cls, capacity_qps: float, saturated_qps: float | None, limit_ms: float | None, base_ms: float | None,
        cold_start_s: float | None, allowed: float = 0.01,
    ) -> Replica:  # fmt: skip
        """A replica made from a trial's figures, with cautious values for those that it lacks."""
        throughput = max(saturated_qps or 0.0, capacity_qps * 1.02) if saturated_qps else capacity_qps / _HALF_SATURATED
        slack = 0.0 if limit_ms is None else max(0.0, limit_ms - (base_ms or 0.0)) / 1e3
        return cls(capacity_qps, throughput, slack, cold_start_s or 0.0, allowed)

    def miss_share(self, rate_qps: Floats) -> Floats:
        """The share of requests that are late, if they arrive at a steady rate."""
        busy = np.minimum(rate_qps / self.throughput_qps, 1.0)
        late = self.allowed ** ((1 - busy) / (1 - self._at_capacity))
        return np.asarray(np.where(rate_qps > 0, late, 0.0), dtype=float)

    @property
    def _at_capacity(self) -> float:
        return min(self.capacity_qps / self.throughput_qps, 0.99)

    @property
    def variance_s(self) -> float:
        """Of a replica's work, in seconds squared per second: that with which the share `allowed` waits longer than
        `slack_s` at the capacity, exp(-2 (1 - utilisation) slack / variance).
        """
        return 2 * (1 - self._at_capacity) * self.slack_s / math.log(1 / self.allowed)


@dataclass(frozen=True)
class Scaling:
    """How many replicas there are. An autoscaler looks every `interval_s` and wants the load of each to be `target` of
    its capacity (Kubernetes' HPA: 15 s; it removes none that it wanted within the last `stabilisation_s`).

    `spare` are kept besides (N+1); over `zones` the rest must suffice when one zone is lost. `target` None:
    `min_replicas` all the time.
    """

    target: float | None
    min_replicas: int = 1
    max_replicas: int = _MAX_REPLICAS
    spare: int = 0
    zones: int = 1
    interval_s: float = 15.0
    stabilisation_s: float = 300.0


@dataclass(frozen=True)
class FleetSimulation:
    """Per step of the traffic: replicas that exist (and are paid for), those that serve, and the share that is late."""

    step_s: float
    replicas: Floats
    ready: Floats
    missed: Floats
    miss_share: float


def replicas_for(load: float, spare: int, zones: int) -> int:
    """Replicas for a load in units of one replica's capacity, with spares, and with one zone of several lost."""
    needed = max(0, math.ceil(min(load, _MAX_LOAD) - 1e-9))
    if needed == 0:
        return 0
    if zones > 1:
        needed = max(needed, zones * math.ceil(needed / (zones - 1)))
    return needed + spare


def schedule(traffic: Traffic, replica: Replica, scaling: Scaling) -> Ints:
    """The least replicas per step that hold the SLO, started early enough to serve when they are needed."""
    levels, place = np.unique(windowed_peak(traffic, replica.cold_start_s), return_inverse=True)
    need = [replicas_for(rate / replica.capacity_qps, scaling.spare, scaling.zones) for rate in levels]
    return np.maximum(np.array(need, dtype=np.int64)[place], scaling.min_replicas)


def max_scheduled(traffic: Traffic, replica: Replica, scaling: Scaling) -> int:
    """The highest that `schedule` has: that of the highest rate, since more load never needs fewer replicas."""
    return max(
        replicas_for(traffic.peak_qps / replica.capacity_qps, scaling.spare, scaling.zones), scaling.min_replicas
    )  # fmt: skip


def windowed_peak(traffic: Traffic, cold_start_s: float) -> Floats:
    """The highest rate from each step on for as long as a replica takes to start, the traffic coming round again."""
    rates = traffic.rates
    ahead = min(math.ceil(cold_start_s / traffic.step_s), len(rates) - 1)  # further than all of it is all of it
    if not ahead:
        return rates
    wrapped = np.concatenate([rates, rates[:ahead]])
    return np.asarray(np.lib.stride_tricks.sliding_window_view(wrapped, ahead + 1).max(axis=1), dtype=float)


def simulate(traffic: Traffic, replica: Replica, scaling: Scaling) -> FleetSimulation:
    """The autoscaler and the queues over the whole traffic. Before it the first rate is taken to have been there for a
    while: nobody knows what came before, and the last rate of a trace that does not repeat would be a jump that never
    was.
    """
    repeat = looks_per_step(traffic, scaling)
    step = traffic.step_s / repeat
    rates = np.repeat(traffic.rates, repeat)
    lead = min(len(rates), math.ceil((scaling.stabilisation_s + replica.cold_start_s) / step) + 1)
    rounds = np.concatenate([np.full(lead, rates[0]), rates])
    existing, ready = scaled(Traffic(step, rounds, traffic.name), replica, scaling)
    missed = missed_share(rounds, ready, replica, step)
    existing, ready, missed = existing[lead:], ready[lead:], missed[lead:]
    total = float(rates.sum())
    late = float((missed * rates).sum()) / total if total else 0.0

    def by_step(values: Floats) -> Floats:
        return np.asarray(values.reshape(-1, repeat).mean(axis=1), dtype=float)

    weights = np.where(rates > 0, rates, 1.0)
    shares = (missed * weights).reshape(-1, repeat).sum(axis=1) / weights.reshape(-1, repeat).sum(axis=1)
    return FleetSimulation(traffic.step_s, by_step(existing), by_step(ready), shares, late)


def looks_per_step(traffic: Traffic, scaling: Scaling) -> int:
    """How often an autoscaler looks in a step of the traffic. Of traffic over years it is simulated to look less often,
    or the simulation would take as long.
    """
    step = min(traffic.step_s, scaling.interval_s)
    return max(1, min(round(traffic.step_s / step), _MAX_STEPS // len(traffic.rates)))


def highest_target(misses_at: Callable[[float], float], misses: float) -> float:
    """The highest share of a replica's capacity that an autoscaler may aim at (its `target`).

    `misses_at` simulates a target and returns the share of requests that are late; `misses` is the share allowed. The
    share falls with the target, since replicas that have less to do are late less often. If even the lowest target
    that is tried has too many, that one is returned.
    """
    place = bisect.bisect_left(
        _TARGETS, True, hi=len(_TARGETS) - 1, key=lambda target: misses_at(target) <= _FOR_SURE * misses
    )
    return _TARGETS[place]


def scaled(traffic: Traffic, replica: Replica, scaling: Scaling) -> tuple[Floats, Floats]:
    """Replicas that exist, and those that serve, per step."""
    count = len(traffic.rates)
    if scaling.target is None:
        constant = np.full(count, float(scaling.min_replicas))
        return constant, constant
    every = max(1, round(scaling.interval_s / traffic.step_s))
    remembered = max(1, round(scaling.stabilisation_s / scaling.interval_s))
    starting = math.ceil(replica.cold_start_s / traffic.step_s)
    wanted: deque[int] = deque(maxlen=remembered)
    existing, ready = np.zeros(count), np.zeros(count)
    begin = _wanted(float(traffic.rates[0]), replica, scaling)
    looks = traffic.rates[: count // every * every].reshape(-1, every).mean(axis=1).tolist()  # per interval, what came
    pending: list[tuple[int, int]] = []  # (the step from which they serve, how many)
    serving = begin
    for at in range(count):
        if at and at % every == 0:
            wanted.append(_wanted(looks[at // every - 1], replica, scaling))
            total = serving + sum(number for _, number in pending)
            aim = max(wanted)
            if aim > total:
                pending.append((at + starting, aim - total))
            elif aim < total:
                serving, pending = _fewer(aim, serving, pending)
        while pending and pending[0][0] <= at:
            serving += pending.pop(0)[1]
        ready[at], existing[at] = serving, serving + sum(number for _, number in pending)
    return existing, ready


def _fewer(aim: int, serving: int, pending: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """Those that start last go first."""
    kept, left = [], max(0, aim - serving)
    for at, number in pending:
        taken = min(number, left)
        left -= taken
        kept += [(at, taken)] if taken else []
    return min(serving, aim), kept


def _wanted(rate_qps: float, replica: Replica, scaling: Scaling) -> int:
    assert scaling.target is not None  # noqa: S101 (a fixed fleet never asks)
    wanted = replicas_for(rate_qps / (scaling.target * replica.capacity_qps), scaling.spare, scaling.zones)
    return min(scaling.max_replicas, max(scaling.min_replicas, wanted))


def missed_share(rates: Floats, ready: Floats, replica: Replica, step_s: float) -> Floats:
    """The share of requests that are late, per step. A backlog is in seconds of a replica's work; replicas that have
    been there equally long have the same one.
    """
    per_replica = rates / np.maximum(ready, 1.0)
    missed = np.where(ready > 0, replica.miss_share(per_replica), (rates > 0).astype(float))
    growths = per_replica / replica.throughput_qps - 1
    done = 0
    for begin in np.flatnonzero((growths > 0) & (ready > 0)).tolist():
        if begin < done:
            continue
        done = begin  # from an overload on, until its backlog is gone
        queues: list[_Queue] = []
        while done < len(rates) and (growths[done] > 0 or any(one.wait_s for one in queues)):
            queues = _of(queues, int(ready[done]))
            growth_s = float(growths[done]) * step_s
            after = [one.after(growth_s, step_s) for one in queues]
            if after:
                steady = float(missed[done]) if growth_s <= 0 else 0.0  # a queue that grows has none
                late = sum(
                    old.replicas * max(_share_above(old.wait_s, new.wait_s, replica.slack_s), steady)
                    if growth_s <= 0
                    else old.replicas * _share_late(old, new, replica)
                    for old, new in zip(queues, after, strict=True)
                )
                missed[done] = late / sum(one.replicas for one in queues)
            queues, done = _fewest(after), done + 1
    return np.asarray(missed, dtype=float)


class _Queue(NamedTuple):
    """A backlog in seconds, how many replicas have it, and for how long it has grown; lists of them begin with the
    oldest replicas.
    """

    wait_s: float
    replicas: float
    grew_s: float = 0.0

    def after(self, growth_s: float, step_s: float) -> _Queue:
        """The backlog a step of `step_s` seconds later, in which it grew by `growth_s` (below 0: shrank)."""
        grew_s = self.grew_s + step_s if growth_s > 0 else 0.0
        return _Queue(max(0.0, self.wait_s + growth_s), self.replicas, grew_s)


def _of(queues: list[_Queue], number: int) -> list[_Queue]:
    """As many replicas: new ones have no backlog; those that go take theirs along, the newest first."""
    kept, left = [], float(number)
    for one in queues:
        taken = min(one.replicas, left)
        left -= taken
        kept += [one._replace(replicas=taken)] if taken else []
    return [*kept, _Queue(0.0, left)] if left else kept


def _fewest(queues: list[_Queue]) -> list[_Queue]:
    """Neighbours with one backlog are one; of many those that differ least are, too."""
    merged: list[_Queue] = []
    for one in queues:
        if merged and (merged[-1].wait_s, merged[-1].grew_s) == (one.wait_s, one.grew_s):
            merged[-1] = one._replace(replicas=merged[-1].replicas + one.replicas)
        else:
            merged.append(one)
    while len(merged) > 3 * _MAX_QUEUES // 4 and len(queues) > _MAX_QUEUES:
        at = min(range(len(merged) - 1), key=lambda at: abs(merged[at + 1].wait_s - merged[at].wait_s))
        first, second = merged[at : at + 2]
        both = first.replicas + second.replicas
        mean_s = (first.wait_s * first.replicas + second.wait_s * second.replicas) / both
        merged[at : at + 2] = [_Queue(mean_s, both, max(first.grew_s, second.grew_s))]
    return merged


def _share_late(old: _Queue, new: _Queue, replica: Replica) -> float:
    """The share of requests that are late in a step in which a backlog grows: at its begin, middle and end, by
    Simpson's rule.
    """
    middle = _Queue((old.wait_s + new.wait_s) / 2, 1.0, (old.grew_s + new.grew_s) / 2)
    begin, half, end = (_late_at(one, replica) for one in (old, middle, new))
    return (begin + 4 * half + end) / 6


def _late_at(queue: _Queue, replica: Replica) -> float:
    """How probable it is that a backlog which has grown to `wait_s` on average, from nothing, is beyond the slack."""
    slack_s, spread_s = replica.slack_s, math.sqrt(replica.variance_s * queue.grew_s)
    if not spread_s:
        return float(queue.wait_s > slack_s)
    mirrored = 2 * queue.wait_s * slack_s / spread_s**2
    above = _below((queue.wait_s - slack_s) / spread_s)
    back = _below((-slack_s - queue.wait_s) / spread_s)
    return min(1.0, above + (math.exp(mirrored + math.log(back)) if back > 0 else 0.0))


def _below(deviations: float) -> float:
    """The normal distribution's share below so many standard deviations."""
    return 0.5 * math.erfc(-deviations / math.sqrt(2))


def _share_above(before_s: float, after_s: float, slack_s: float) -> float:
    """For how much of a step a wait that changes evenly is longer than the slack."""
    low, high = min(before_s, after_s), max(before_s, after_s)
    if high == low:
        return float(high > slack_s)
    return min(1.0, max(0.0, (high - slack_s) / (high - low)))
