"""Mixed fleets against the best single kind and against brute force: 20 made-up demands over measured tables.

    python -m benchmarks.fleets [--tables FILE...] [--seed 0]

Tables are those of the replay runner; without any, one of an H100 that comes with the project. Each demand is half an
hour of traffic of a made-up shape and height. The planner plans with the measured capacities as they are; then every
request arrives (a Poisson process at the demand's rate), goes to a replica with the probability of its weight, waits
for its turn, and is late or not. A replica is a queue of the table's throughput whose service times are fixed,
exponential or lognormal, with a limit at which 1% are late at the table's capacity.

Goals: money at or below that of the best single kind in all demands; the share of late requests within 0.2 points.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from results import (
    Estimate,
    Latencies,
    Recommendation,
    StudyQuestion,
    StudySlo,
    StudySummary,
    Timing,
    TrialCounts,
    TrialRecord,
)
from results.planning import Plan, Replica, Traffic, Wishes, make_plan

Floats = NDArray[np.float64]
ROOT = Path(__file__).parent.parent
SHIPPED = (ROOT / "docs/gpu-h100/gpu-vision.csv",)
FIGURES = ("capacity_qps", "saturated_qps", "p99_ms", "status", "price_per_hour", "trial_s")
GOAL_POINTS = 0.2
DEMANDS = 20
SECONDS, STEP_S, LOOK_S = 1800.0, 60.0, 15.0
COLD_S = 30.0
SPREADS = ("fixed", "exponential", "lognormal")
SLO_MS = 1e6  # the unloaded latency takes up what a queue's own limit leaves of it


def study(path: Path, spread: str) -> StudySummary:
    """Every row that serves, as a trial; its service times are of that kind."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row.get("status") or "ok") == "ok"]
    records = tuple(
        record(number, row, spread) for number, row in enumerate(rows) if float(row["capacity_qps"] or 0) > 0
    )
    best = max(records, key=lambda one: (one.capacity_qps.value if one.capacity_qps else 0) / (one.cost_per_hour or 1))
    chosen = Recommendation(
        service=path.stem, configuration=best.configuration, capacity_qps=best.capacity_qps, p99_ms=best.latency.p99_ms,
        error_rate=0.0, cost_per_hour=best.cost_per_hour, cost_per_million_requests=1.0, meets_slo=True, confirmed=True,
        trial=best.number, trials=TrialCounts(complete=len(records)),
    )  # fmt: skip
    return StudySummary(
        service=path.stem, recommendation=chosen, records=records,
        question=StudyQuestion((), StudySlo(tail_ms=SLO_MS), "", space_size=str(len(records))),
    )  # fmt: skip


def record(number: int, row: dict[str, str], spread: str) -> TrialRecord:
    capacity = float(row["capacity_qps"])
    saturated = float(row["saturated_qps"]) if row.get("saturated_qps") else None
    replica = Replica.measured(capacity, saturated, None, None, None)
    queue = queue_of(replica, spread)
    return TrialRecord(
        number=number, state="complete", timing=Timing(cold_start_s=COLD_S), cost_per_hour=float(row["price_per_hour"]),
        configuration={name: value for name, value in row.items() if name not in FIGURES},
        capacity_qps=Estimate.exactly(capacity), saturated_qps=saturated,
        latency=Latencies(
            p99_ms=Estimate.exactly(SLO_MS), base_latency_ms=SLO_MS - 1e3 * (queue.limit_s - queue.mean_s)
        ),
    )  # fmt: skip


def demand(generator: np.random.Generator, number: int, biggest_qps: float) -> Traffic:
    """A shape, and a peak between half of the biggest replica's capacity and six times it."""
    minutes = np.arange(0, SECONDS, STEP_S)
    noise = np.cumsum(generator.normal(0, 0.15, len(minutes)))
    shapes: dict[str, Floats] = {
        "steady": np.ones(len(minutes)),
        "wave": 0.6 + 0.4 * np.sin(2 * np.pi * minutes / SECONDS),
        "noise": np.exp(noise - noise.max()),
        "steps": np.repeat(generator.uniform(0.2, 1, 6), len(minutes) // 6),
        "spikes": np.where(generator.random(len(minutes)) < 0.12, 1.0, 0.35),
    }
    name = list(shapes)[number % len(shapes)]
    rates = shapes[name] / shapes[name].max() * biggest_qps * math.exp(generator.uniform(math.log(0.5), math.log(6)))
    return Traffic(STEP_S, rates, name, known=number % 2 == 0)


@dataclass(frozen=True)
class Queue:
    """One replica: service times in seconds, and the latency beyond which a request is late."""

    mean_s: float
    spread: str
    limit_s: float

    def draw(self, generator: np.random.Generator, size: int) -> Floats:
        return drawn(self.spread, generator, size) * self.mean_s


def queue_of(replica: Replica, spread: str) -> Queue:
    busy = round(replica.capacity_qps / replica.throughput_qps, 3)
    return Queue(1 / replica.throughput_qps, spread, limit(spread, busy) / replica.throughput_qps)


def drawn(spread: str, generator: np.random.Generator, size: int) -> Floats:
    """Service times of mean 1."""
    if spread == "fixed":
        return np.ones(size)
    if spread == "exponential":
        return generator.exponential(1.0, size)
    return generator.lognormal(-0.125, 0.5, size)


def departures(arrivals: Floats, services: Floats, free_at: float) -> Floats:
    """Of a queue of one server, first come first served: Lindley's recursion, as a running maximum."""
    work = np.cumsum(services)
    return np.asarray(work + np.maximum(free_at, np.maximum.accumulate(arrivals - (work - services))))


@cache
def limit(spread: str, busy: float) -> float:
    """The latency, in mean service times, that 1% exceed at such a utilisation."""
    generator = np.random.default_rng(7)
    arrivals = np.cumsum(generator.exponential(1 / busy, 400_000))
    latencies = departures(arrivals, drawn(spread, generator, len(arrivals)), 0.0) - arrivals
    return float(np.quantile(latencies[20_000:], 0.99))


@dataclass
class Fleet:
    """What the plan has decided, as queues: per part the queue, its weight, and replicas by step (None: followed)."""

    queues: list[Queue]
    weights: list[float]
    counts: list[Floats | None]
    base: list[int]
    target: float = 1.0
    min_replicas: int = 0
    spare: int = 0
    above_qps: float = 0.0


def fleet_of(plan: Plan, spread: str) -> Fleet:
    if plan.mixed is None:
        option, strategy = plan.option, plan.option.strategy
        parts = [(option.replica, strategy.simulated.ready, 0, strategy.name == "autoscaled")]
        follow = (strategy.target or 1.0, plan.wishes.min_replicas, plan.wishes.spare, 0.0)
    else:
        parts = [(one.choice.replica, one.ready, one.base, one.scaled) for one in plan.mixed.parts]
        following = plan.mixed.following
        scaling = None if following is None else following.scaling
        follow = (1.0, 0, 0, 0.0) if following is None or scaling is None else (
            scaling.target or 1.0, scaling.min_replicas, scaling.spare, following.above_qps
        )  # fmt: skip
    queues = [queue_of(one, spread) for one, *_ in parts]
    return Fleet(
        queues, [one.capacity_qps for one, *_ in parts], [None if scaled else ready for _, ready, _, scaled in parts],
        [base for _, _, base, _ in parts], *follow,
    )  # fmt: skip


def brute_force(fleet: Fleet, traffic: Traffic, seed: int) -> float:
    """The share of requests that are late, each simulated."""
    generator = np.random.default_rng(seed)
    free = [np.zeros(0) for _ in fleet.queues]
    scaler = Scaler(fleet, float(traffic.rates[0]))
    late = total = 0
    for begin in np.arange(0.0, traffic.seconds, LOOK_S).tolist():
        step = min(int(begin / traffic.step_s), len(traffic.rates) - 1)
        followed = scaler.serving(begin)
        for at, counts in enumerate(fleet.counts):
            wanted = fleet.base[at] + followed if counts is None else round(float(counts[step]))
            free[at] = np.concatenate([free[at][:wanted], np.full(max(0, wanted - len(free[at])), begin)])
        arrivals = np.sort(begin + LOOK_S * generator.random(generator.poisson(traffic.rates[step] * LOOK_S)))
        owners = [(part, one) for part, queues in enumerate(free) for one in range(len(queues))]
        weights = np.array([fleet.weights[part] for part, _ in owners])
        where = generator.choice(len(owners), len(arrivals), p=weights / weights.sum())
        for number, (part, one) in enumerate(owners):
            own = arrivals[where == number]
            if len(own):
                done = departures(own, fleet.queues[part].draw(generator, len(own)), float(free[part][one]))
                free[part][one] = done[-1]
                late += int((done - own > fleet.queues[part].limit_s).sum())
        total += len(arrivals)
        scaler.look(begin + LOOK_S, len(arrivals) / LOOK_S)
    return late / max(1, total)


class Scaler:
    """The autoscaler of the part that follows, by the requests that it has counted."""

    def __init__(self, fleet: Fleet, first_qps: float) -> None:
        self.fleet = fleet
        at = next((place for place, counts in enumerate(fleet.counts) if counts is None), None)
        self.capacity = fleet.weights[at] if at is not None else None
        self.ready = self.wanted_at(first_qps)
        self.starting: list[tuple[float, int]] = []
        self.wanted: list[int] = []

    def wanted_at(self, qps: float) -> int:
        if self.capacity is None:
            return 0
        load = max(0.0, qps - self.fleet.above_qps) / (self.fleet.target * self.capacity)
        need = math.ceil(load - 1e-9)
        return max(self.fleet.min_replicas, need + self.fleet.spare if need else 0)

    def serving(self, now: float) -> int:
        while self.starting and self.starting[0][0] <= now:
            self.ready += self.starting.pop(0)[1]
        return self.ready

    def look(self, now: float, seen_qps: float) -> None:
        self.wanted = [*self.wanted[-19:], self.wanted_at(seen_qps)]
        have, aim = self.ready + sum(number for _, number in self.starting), max(self.wanted)
        if aim > have:
            self.starting.append((now + COLD_S, aim - have))
        elif aim < have and len(self.wanted) == 20:
            self.starting, self.ready = [], min(self.ready, aim)


def rows(tables: list[Path], seed: int) -> Iterator[tuple[bool, float, float]]:
    """Per demand whether the money is at most the single kind's, the saving, and the difference in points."""
    generator = np.random.default_rng(seed)
    spreads = [SPREADS[number % 3] for number in range(len(tables))]
    studies = [study(path, spread) for path, spread in zip(tables, spreads, strict=True)]
    print("table                     demand   single   mixed    saved  predicted  simulated  parts")
    for number in range(DEMANDS):
        chosen = studies[number % len(studies)]
        biggest = max(one.capacity_qps.value for one in chosen.records if one.capacity_qps)
        traffic = demand(generator, number, biggest)
        plan = make_plan(chosen, traffic, Wishes())
        single = plan.option.strategy.monthly
        assert single is not None
        money = single.value if plan.mixed is None else plan.mixed.monthly
        predicted = plan.option.strategy.miss_share if plan.mixed is None else plan.mixed.miss_share
        simulated = brute_force(fleet_of(plan, spreads[number % len(studies)]), traffic, seed + number)
        saved = 1 - money / single.value
        parts = "one kind" if plan.mixed is None else "; ".join(
            f"{one.min_replicas}-{one.max_replicas} of trial {one.choice.trial}" for one in plan.mixed.parts
        )  # fmt: skip
        print(
            f"{chosen.service:<26}{traffic.name:<7}{single.value:>7.0f} {money:>7.0f} {saved:>8.1%} "
            f"{predicted:>9.3%} {simulated:>9.3%}   {parts}", flush=True,
        )  # fmt: skip
        yield money <= single.value * (1 + 1e-9), saved, 100 * abs(predicted - simulated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", type=Path, default=list(SHIPPED))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.monotonic()
    found = list(rows(options.tables, options.seed))
    cheap, near = sum(one for one, _, _ in found), sum(points <= GOAL_POINTS for _, _, points in found)
    mixed = [saved for _, saved, _ in found if saved > 0]
    print(
        f"{len(found)} demands in {time.monotonic() - begun:.0f} s: {cheap} at or below the best single kind, "
        f"{len(mixed)} of them mixed and cheaper by {np.median(mixed) if mixed else 0:.1%} (median); {near} within "
        f"{GOAL_POINTS} points, worst {max(points for _, _, points in found):.3f}"
    )
    sys.exit(cheap < len(found) or near < len(found))


if __name__ == "__main__":
    main()
