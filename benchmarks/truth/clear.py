"""Cases whose verdict is clear: how soon it is said, on simulated servers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np

from benchmarks.truth.queues import capacity_qps
from loadtest.judge import network
from loadtest.judge.burst import BurstResult, longest_s, next_users
from loadtest.judge.features import Query
from loadtest.judge.inference import ServerPosterior
from training.servers.arrivals import Pattern
from training.servers.prober import ServerProber
from training.servers.server import ENGINES, SERVICES, Server
from training.servers.trials import Simulated

_SERVICE_S = 0.012
_SERVERS = {
    "M/D/1": (Server(mean=_SERVICE_S), 0.15),
    "M/D/4": (Server(mean=4 * _SERVICE_S, workers=4), 0.15),
    "M/M/1": (Server(mean=_SERVICE_S, service=SERVICES["exponential"]), 0.3),
    "batch": (Server(ENGINES["batches"], batch=8, fixed=4 * _SERVICE_S, item=_SERVICE_S / 2), 0.3),
}
_BATCHES = ((8, 0.09, 0.16), (8, 0.02, 0.1), (16, 0.2, 0.5), (4, 0.3, 0.5), (32, 0.1, 0.5), (16, 0.05, 0.06))
_SECONDS = 20.0
_LATE = {"M/M/1": 0.002}  # of the limit: some exponential services are very short


def _begun(server: Server, limit_s: float, seed: int) -> tuple[ServerProber, ServerPosterior, list[BurstResult]]:
    query = Query(limit_s, 0.01)
    simulated = Simulated(server, Pattern(), query, np.random.default_rng((seed, 7)))
    lone_s = simulated.lone(8)
    bursts: list[BurstResult] = []
    while (users := next_users(bursts, limit_s)) is not None:
        bursts.append(simulated.burst(users, longest_s(_SECONDS, float(np.median(lone_s)))))
    prober = ServerProber(simulated, _SECONDS)
    return prober, ServerPosterior(network.load(), [query], lone_s, bursts), bursts


def _verdicts(kind: str, share: float, runs: int, limit: float = 1.0) -> Iterator[tuple[str, float]]:
    """Of the first probe of a trial, at a share of the capacity."""
    server, limit_s = _SERVERS[kind]
    rate = share * capacity_qps(kind, _SERVICE_S, limit_s)
    for seed in range(runs):
        prober, posterior, _ = _begun(server, limit * limit_s, seed)
        probe = prober.probe(rate, _SECONDS / 2, 0.85, opinion=posterior.verdict).probe
        yield probe.verdict, probe.duration_s


def _row(name: str, wanted: str, within_s: float, found: list[tuple[str, float]]) -> list[str]:
    right = [seconds for verdict, seconds in found if verdict == wanted]
    soon = sum(seconds <= within_s for seconds in right) / len(found)
    wrong = sum(verdict not in (wanted, "undecided") for verdict, _ in found) / len(found)
    middle = f"{statistics.median(right):.1f}" if right else ""
    return [name, wanted, f"{len(right) / len(found):.0%}", f"{soon:.0%} in {within_s:g} s", middle, f"{wrong:.0%}"]


def clear(runs: int) -> list[list[str]]:
    """The first probe of a trial at about 70/s, on simulated servers; the last rows are bursts against batches."""
    table = [["case", "verdict", "said", "soon", "seconds, median", "the opposite"]]
    for kind in _SERVERS:
        late = list(_verdicts(kind, 0.6, runs, limit=_LATE.get(kind, 0.05)))
        table.append(_row(f"{kind}, 60% of capacity, every request is late", "missed", 2.0, late))
        if kind in _LATE:
            most = list(_verdicts(kind, 0.6, runs, limit=0.05))
            table.append(_row(f"{kind}, 60% of capacity, three requests of five are late", "missed", 2.0, most))
        table.append(_row(f"{kind}, 130% of capacity", "missed", 3.0, list(_verdicts(kind, 1.3, runs))))
        table.append(_row(f"{kind}, 70% of capacity", "met", 5.0, list(_verdicts(kind, 0.7, runs))))
        third = list(_verdicts(kind, 0.6, runs, limit=4.0))
        table.append(_row(f"{kind}, 60% of capacity and four times the limit", "met", 5.0, third))
    for size, shortest_s, longest in _BATCHES:
        item = (longest - shortest_s) / max(1, size - 1)
        server = Server(ENGINES["batches"], batch=size, fixed=shortest_s - item, item=item)
        truth = size / longest
        found = [_begun(server, 2.5 * longest, seed)[2] for seed in range(runs)]
        errors = [max(burst.throughput_qps or 0.0 for burst in bursts) / truth - 1 for bursts in found]
        name = f"burst, batches of up to {size} in {longest * 1e3:.0f} ms"
        within = sum(abs(error) <= 0.05 for error in errors) / len(errors)
        table.append([name, f"{statistics.fmean(errors):+.1%} of {truth:.0f}/s", f"{within:.0%} within 5%", "", "", ""])
    return table
