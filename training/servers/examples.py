"""Examples to learn from, in arrays: tokens of a trial, the capacity, and some points of the latency curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.judge.burst import MAX_BURSTS, BurstResult
from loadtest.judge.features import BURST_WIDTH, METRICS, PROBE_WIDTH, NetworkInput, Query, Requests, tokens
from loadtest.judge.network import ServerNetwork
from training.servers import families
from training.servers.arrivals import Pattern
from training.servers.searched import search
from training.servers.server import ENGINES, Metric
from training.servers.trials import MAX_PROBES, Floats, Simulated
from training.servers.truth import Curve, capacity_qps, curve

Random = np.random.Generator
F32 = NDArray[np.float32]
Arrays = dict[str, Any]  # by name, of any type

CURVE_POINTS = 6
_PERCENTILES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_WEIGHTS = (0.07, 0.05, 0.15, 0.17, 0.05, 0.37, 0.05, 0.09)
_TRIES, _QUERIES, _TRIALS = 4, 2, 3
_TIGHTEST, _WIDEST = 1.15, 30.0  # limits over the latency of a lone request
_DROPPED_SHARE = 0.15  # of examples that lose some of their probes


@dataclass(frozen=True)
class Batch:
    """Examples: masks say which bursts and probes there are. `target` is the log of the capacity over the scale.

    `asked` are points of the curve, (log rate over the scale, log odds of the share beyond), `curve` the log latency
    there over the limit. `requests` is how many were judged in all, `family` the number of the family.
    """

    query: F32
    bursts: F32
    burst_mask: NDArray[np.bool_]
    probes: F32
    probe_mask: NDArray[np.bool_]
    anchors: F32
    target: F32
    asked: F32
    curve: F32
    requests: F32
    family: NDArray[np.int16]

    def arrays(self) -> Arrays:
        """By name."""
        return dict(self.__dict__)


NAMES = (*families.TRAINED, *families.UNSEEN, *families.VALIDATION)


def examples(
    random: Random, kinds: dict[str, tuple[families.Draw, float]], count: int, network: ServerNetwork | None = None
) -> Batch:
    """So many examples, a few of each server that is drawn: of random policies, or of searches with that network."""
    rows: list[Arrays] = []
    while len(rows) < count:
        rows.extend(_of_a_server(random, kinds, network))
    return Batch(**{name: np.stack([row[name] for row in rows[:count]]) for name in rows[0]})


def draw_query(random: Random, found: Curve, pattern: Pattern) -> tuple[Query, float] | None:
    """A limit that bites, with the capacity under it."""
    share = float(random.choice(_PERCENTILES, p=_WEIGHTS))
    base = float(np.median(found.values[0])) if found.metric != "latency" else float(np.median(found.lone_s))
    limit = base * math.exp(random.uniform(math.log(_TIGHTEST), math.log(_WIDEST)))
    capacity = capacity_qps(found, limit, 1 - share, random)
    return None if capacity is None else (Query(limit, 1 - share, found.metric, pattern.kind), capacity)


def draw_curve(random: Random, kinds: dict[str, tuple[families.Draw, float]]) -> tuple[str, Curve] | None:
    """A server, and its latencies at all rates."""
    name, server = families.draw(random, kinds)
    metric: Metric = "latency"
    if server.engine == ENGINES["streams"]:
        metric = str(random.choice(METRICS, p=[0.4, 0.35, 0.25]))  # type: ignore[assignment]
    found = curve(server, Pattern.draw(random), metric, random)
    return None if found is None or not len(found.lone_s) else (name, found)


def _of_a_server(
    random: Random, kinds: dict[str, tuple[families.Draw, float]], network: ServerNetwork | None
) -> list[Arrays]:
    drawn = draw_curve(random, kinds)
    if drawn is None:
        return []
    name, found = drawn
    rows: list[Arrays] = []
    for _ in range(_TRIES):
        asked = draw_query(random, found, found.pattern)
        if asked is None:
            continue
        query, capacity = asked
        server = (random, found, query, capacity, NAMES.index(name))
        if network is not None:
            seen = search(network, found.server, found.pattern, query, random)
            return [_row(*server, seen.lone_s, seen.bursts, probes) for probes in seen.moments]
        for _ in range(_TRIALS):
            trial = Simulated(found.server, found.pattern, query, random).trial(int(random.integers(0, MAX_PROBES + 1)))
            probes = trial.probes
            if random.random() < _DROPPED_SHARE:
                probes = [probe for probe in probes if random.random() < 0.5]
            rows.append(_row(*server, trial.lone_s, trial.bursts, probes))
        if len(rows) >= _QUERIES * _TRIALS:
            break
    return rows


def _row(
    random: Random, found: Curve, query: Query, capacity: float, family: int, lone_s: Floats, bursts: list[BurstResult],
    probes: list[Requests],
) -> Arrays:  # fmt: skip
    probes = probes[-MAX_PROBES:]
    seen = tokens(query, lone_s, bursts, probes)
    requests = sum(int(probe.counted.sum()) for probe in probes)
    rates = random.choice(len(found.rates), CURVE_POINTS)
    shares = random.choice(_PERCENTILES, CURVE_POINTS)
    values = [found.quantile(int(rate), float(share)) for rate, share in zip(rates, shares, strict=True)]
    logs = np.log(np.clip(np.array(values) / query.limit_s, 1e-3, 20.0))
    asked = np.stack([np.log(found.rates[rates] / seen.scale_qps), np.log((1 - shares) / shares) / 3], axis=1)
    return padded(seen) | {
        "target": np.float32(math.log(capacity / seen.scale_qps)), "asked": asked.astype(np.float32),
        "curve": logs.astype(np.float32), "requests": np.float32(requests), "family": np.int16(family),
    }  # fmt: skip


def padded(seen: NetworkInput) -> Arrays:
    """Arrays of one size."""
    bursts, probes = len(seen.bursts), len(seen.probes)
    all_bursts = np.zeros((MAX_BURSTS, BURST_WIDTH), np.float32)
    all_probes = np.zeros((MAX_PROBES, PROBE_WIDTH), np.float32)
    all_bursts[:bursts], all_probes[:probes] = seen.bursts, seen.probes
    anchors = np.zeros(MAX_BURSTS + MAX_PROBES, np.float32)
    anchors[:bursts], anchors[MAX_BURSTS : MAX_BURSTS + probes] = seen.anchors[:bursts], seen.anchors[bursts:]
    return {
        "query": seen.query.astype(np.float32), "bursts": all_bursts, "burst_mask": np.arange(MAX_BURSTS) < bursts,
        "probes": all_probes, "probe_mask": np.arange(MAX_PROBES) < probes, "anchors": anchors,
    }  # fmt: skip
