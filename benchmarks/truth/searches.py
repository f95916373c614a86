"""Whole searches on simulated servers of families that the network was not trained on, beside the method of counts."""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.judge import network
from loadtest.judge.burst import BurstResult, crowd_after, longest_s, next_users, telling
from loadtest.judge.capacity import CapacityResult, CapacitySearch
from loadtest.judge.features import Query
from loadtest.judge.inference import ServerPosterior
from loadtest.judge.search import ServerSearch
from loadtest.plan import Verdict
from training.servers import families
from training.servers.arrivals import Pattern
from training.servers.prober import ServerProber
from training.servers.server import Server, closed_loop
from training.servers.trials import Simulated
from training.servers.truth import capacity_qps, curve

Floats = NDArray[np.float64]

SPEEDS = ((8.0, 60.0), (70.0, 20.0), (200.0, 10.0))  # capacities, about, and the seconds that a search may take
_PRECISION, _COUNTS_PRECISION = 0.05, 0.03
_TIGHTEST, _WIDEST = 1.5, 15.0  # limits over a lone request's latency
_LONGEST_LIMIT = 1 / 25  # of the search
_NEAR = 0.03  # of the capacity: no verdict is wrong there
_TRUTHS = 3


@dataclass(frozen=True)
class Case:
    """A server under a limit, and its capacity."""

    family: str
    server: Server
    query: Query
    capacity_qps: float


@dataclass(frozen=True)
class Result:
    """One search. `error` is relative to the truth; None where it found no capacity. `wrong` verdicts were sure."""

    family: str
    error: float | None
    ratio: float
    covered: bool
    probes: int
    undecided: int
    wrong: int
    seconds: float
    unlike: bool


def case(family: str, about_qps: float, seconds: float, seed: int) -> Case:
    """The seed decides everything but the speed. The truth is a mean over long runs, good to about half a percent."""
    random = np.random.default_rng((seed, sum(family.encode()), round(about_qps)))
    kinds = {family: (families.UNSEEN | families.VALIDATION | families.TRAINED)[family]}
    while True:
        _, server = families.draw(random, kinds, 1.25 * about_qps)
        found = curve(server, Pattern(), "latency", random)
        if found is None or not len(found.lone_s):
            continue
        limit_s = float(np.median(found.lone_s)) * math.exp(random.uniform(math.log(_TIGHTEST), math.log(_WIDEST)))
        truths = [capacity_qps(found, limit_s, 0.01, random) for _ in range(_TRUTHS)]
        known = [truth for truth in truths if truth is not None]
        if len(known) < _TRUTHS or limit_s > _LONGEST_LIMIT * seconds:
            continue
        truth = statistics.fmean(known)
        if 0.5 * about_qps < truth < 1.5 * about_qps:
            return Case(family, server, Query(limit_s, 0.01), truth)


def search(one: Case, seconds: float, seed: int) -> tuple[CapacityResult, float]:
    """As the load test does it, bursts included, and how long it took."""
    simulated = Simulated(one.server, Pattern(), one.query, np.random.default_rng((seed, 1)))
    lone_s = simulated.lone(8)
    base_s = float(np.median(lone_s))
    bursts: list[BurstResult] = []
    while (users := next_users(bursts, one.query.limit_s) or crowd_after(bursts, seconds)) is not None:
        bursts.append(simulated.burst(users, longest_s(seconds, base_s)))
    prober = ServerProber(simulated, seconds - sum(burst.duration_s for burst in bursts))
    found = ServerSearch(
        prober, ServerPosterior(network.load(), [one.query], lone_s, telling(bursts)), _PRECISION
    ).run()
    return found, seconds - prober.remaining_s()


def search_by_counts(one: Case, seconds: float, seed: int) -> tuple[CapacityResult, float]:
    """As it was before there was a network: bursts count what ended in them, and only late requests are counted."""
    simulated = Simulated(one.server, Pattern(), one.query, np.random.default_rng((seed, 1)))
    base_s = float(np.median(simulated.lone(8)))
    burst_s = min(1.0, 0.06 * seconds)

    def throughput(users: int) -> float:
        sent, found = closed_loop(one.server, users, burst_s, int(simulated.random.integers(1 << 62)))
        return float((~found.failed & (sent + found.latency <= burst_s)).sum()) / burst_s

    first = throughput(8)
    saturated_qps = max(first, throughput(min(512, max(12, round(2 * first * one.query.limit_s)))), 0.5 / base_s)
    prober = ServerProber(simulated, seconds - 2 * burst_s)
    return CapacitySearch(prober, saturated_qps, _COUNTS_PRECISION).run(), seconds - prober.remaining_s()


def result(one: Case, found: CapacityResult, seconds: float) -> Result:
    """How it compares to the truth."""
    truth, capacity = one.capacity_qps, found.capacity
    verdicts: list[Verdict] = [probe.verdict for probe in found.probes]
    wrong = sum(
        (probe.verdict == "met" and probe.rate_qps > (1 + _NEAR) * truth)
        or (probe.verdict == "missed" and probe.rate_qps < (1 - _NEAR) * truth)
        for probe in found.probes
    )
    counts = (len(verdicts), verdicts.count("undecided"), wrong, seconds, found.unlike_known)
    if capacity is None:
        return Result(one.family, None, math.inf, False, *counts)
    covered = capacity.low <= truth <= capacity.high
    return Result(one.family, capacity.value / truth - 1, capacity.high / max(1e-9, capacity.low), covered, *counts)


def summary(results: Sequence[Result]) -> list[str]:
    """How many found a capacity, bias, spread, width, coverage, and what became of the probes."""
    known = [one for one in results if one.error is not None]
    errors = [one.error for one in known if one.error is not None]
    probes = sum(one.probes for one in results)
    ratios = np.quantile([one.ratio for one in known], (0.5, 0.9)) if known else (math.nan, math.nan)
    return [
        f"{len(known)} of {len(results)}", f"{statistics.fmean(errors):+.1%}", f"{statistics.pstdev(errors):.1%}",
        f"{statistics.median(abs(error) for error in errors):.1%}", f"{ratios[0]:.2f}", f"{ratios[1]:.2f}",
        f"{sum(one.covered for one in known) / len(known):.0%}",
        f"{sum(one.undecided for one in results) / probes:.0%}", f"{sum(one.wrong for one in results) / probes:.1%}",
        f"{statistics.median(one.seconds for one in results):.0f}",
    ]  # fmt: skip


def _searches(job: tuple[str, float, float, int]) -> tuple[list[Result], list[Result]]:
    family, about_qps, seconds, runs = job
    ours, counts = [], []
    for seed in range(runs):
        one = case(family, about_qps, seconds, seed)
        ours.append(result(one, *search(one, seconds, seed)))
        counts.append(result(one, *search_by_counts(one, seconds, seed)))
    return ours, counts


def unseen(runs: int) -> list[list[str]]:
    """Whole searches on simulated servers, each one different, of families that the network was not trained on; p99
    limits of 1.5 to 15 times the latency of a lone request, at most a 25th of the search. "counts" is the method of
    before, on the same servers.
    """
    head = ["capacity", "seconds", "servers", "method", "found", "bias", "sd", "median error", "high/low, median",
            "at the 90th percentile", "covered", "undecided probes", "wrong verdicts", "seconds used"]  # fmt: skip
    names = list(families.UNSEEN)
    jobs = [(name, qps, seconds, runs) for qps, seconds in SPEEDS for name in names]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        found = dict(zip([(job[1], job[0]) for job in jobs], pool.map(_searches, jobs, chunksize=1), strict=True))
    table = [head]
    for qps, seconds in SPEEDS:
        for number, method in enumerate(("network", "counts")):
            every = [result for name in names for result in found[qps, name][number]]
            table.append([f"{qps:g}/s", f"{seconds:g}", "all", method, *summary(every)])
    for name in names:
        for qps, seconds in SPEEDS:
            row = summary(found[qps, name][0])
            table.append([f"{qps:g}/s", f"{seconds:g}", name.replace("_", " "), "network", *row])
    return table
