"""A fleet of several kinds of replica, simulated as one: each kind gets its part of the requests by its capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.planning.fleet import Floats, Ints, Replica, Scaling, looks_per_step, missed_share, scaled
from results.planning.traffic import Traffic


@dataclass(frozen=True)
class Following:
    """An autoscaler adds replicas of the kind `part` for what comes above `above_qps`."""

    part: int
    scaling: Scaling
    above_qps: float


def simulate_parts(
    traffic: Traffic, replicas: Sequence[Replica], counts: Sequence[Floats] | Ints, following: Following | None = None
) -> tuple[list[Floats], list[Floats], float]:
    """Per kind the replicas that exist and those that serve, per step of the traffic, and the share of all requests
    that is late. `counts` are those that are there anyway: a number, or one per step.
    """
    scaling = following.scaling if following else Scaling(None)
    repeat = looks_per_step(traffic, scaling)
    step = traffic.step_s / repeat
    rates = np.repeat(traffic.rates, repeat)
    cold_s = max(one.cold_start_s for one in replicas)
    lead = min(len(rates), math.ceil((scaling.stabilisation_s + cold_s) / step) + 1)
    rounds = np.concatenate([np.full(lead, rates[0]), rates])  # as `simulate` does
    existing: list[Floats] = []
    ready: list[Floats] = []
    for at, replica in enumerate(replicas):
        steady = np.repeat(np.broadcast_to(np.asarray(counts[at], dtype=float), traffic.rates.shape), repeat)
        there = serving = np.concatenate([np.full(lead, steady[0]), steady])
        if following is not None and at == following.part:
            above = Traffic(step, np.maximum(0.0, rounds - following.above_qps), traffic.name)
            more, more_ready = scaled(above, replica, scaling)
            there, serving = there + more, serving + more_ready
        existing.append(there)
        ready.append(serving)
    late = _late(rounds, replicas, ready, step)[lead:]
    total = float(rates.sum())

    def by_step(values: Floats) -> Floats:
        return np.asarray(values[lead:].reshape(-1, repeat).mean(axis=1), dtype=float)

    return (
        [by_step(one) for one in existing],
        [by_step(one) for one in ready],
        float(late.sum()) / total if total else 0.0,
    )


def _late(rates: Floats, replicas: Sequence[Replica], ready: Sequence[Floats], step_s: float) -> Floats:
    """Late requests per second, per step."""
    weights = [serving * replica.capacity_qps for serving, replica in zip(ready, replicas, strict=True)]
    whole = np.sum(weights, axis=0)
    late = np.where(whole > 0, 0.0, rates)  # where nothing serves all are late
    for weight, serving, replica in zip(weights, ready, replicas, strict=True):
        if weight.any():
            own = rates * weight / np.where(whole > 0, whole, 1.0)
            late = late + own * missed_share(own, serving, replica, step_s)
    return np.asarray(late, dtype=float)
