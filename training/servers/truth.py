"""The true capacity of a simulated server under a limit: the rate at which so many requests miss it, in long runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.servers.arrivals import Pattern
from training.servers.server import Metric, Server, answers, closed_loop

Floats = NDArray[np.float64]
Random = np.random.Generator

_COARSE, _COARSE_REQUESTS, _DROPPED = 14, 3_500, 500
_FINE, _NARROW = 6, 0.06
_MIN_REQUESTS, _MAX_REQUESTS = 12_000, 150_000
_GIVEN_UP = 1.03  # the last rate of the coarse grid, of the saturated throughput


@dataclass(frozen=True)
class Curve:
    """Latencies of a server at ascending rates, one array per rate, ascending."""

    server: Server
    pattern: Pattern
    metric: Metric
    rates: Floats
    values: tuple[Floats, ...]
    saturated_qps: float
    lone_s: Floats

    def quantile(self, rate: int, share: float) -> float:
        """Of one of the rates."""
        found = self.values[rate]
        return float(found[min(len(found) - 1, math.ceil(share * len(found)) - 1)])

    def beyond(self, limit_s: float) -> Floats:
        """The share of requests over a limit, per rate."""
        return np.array([1 - np.searchsorted(found, limit_s, side="right") / len(found) for found in self.values])


def _seed(random: Random) -> int:
    return int(random.integers(1 << 62))


def latencies(server: Server, pattern: Pattern, metric: Metric, rate: float, count: int, random: Random) -> Floats:
    """What a limit bounds, of so many requests in the long run, in the order of their arrival."""
    found = answers(server, pattern.times(random, rate, count + _DROPPED), _seed(random))
    return found.values(metric)[_DROPPED:]


def curve(server: Server, pattern: Pattern, metric: Metric, random: Random) -> Curve | None:
    """From a few lone requests' speed to saturation; None for a server that answers nothing."""
    saturated = saturation_qps(server, random)
    if not saturated or not math.isfinite(saturated):
        return None
    rates = saturated * np.concatenate([np.geomspace(0.1, 0.6, 5)[:-1], np.linspace(0.6, _GIVEN_UP, _COARSE - 4)])
    values = tuple(np.sort(latencies(server, pattern, metric, rate, _COARSE_REQUESTS, random)) for rate in rates)
    return Curve(server, pattern, metric, rates, values, saturated, lone(server, 8, random))


def saturation_qps(server: Server, random: Random) -> float:
    """Answers a second when there are always many waiting, by users in a closed loop."""
    best = 0.0
    for users in (server.admit,) if server.admit else (64, 256):
        sent, found = closed_loop(server, users, 1e9, _seed(random), max_requests=4000)
        good = np.isfinite(found.latency) & ~found.failed
        ended = np.sort((sent + found.latency)[good])
        if len(ended) > 1000:
            best = max(best, (len(ended) - 500) / (ended[-1] - ended[500 - 1]) if ended[-1] > ended[499] else 0.0)
    return best


def lone(server: Server, count: int, random: Random) -> Floats:
    """Latencies of requests sent one after the other."""
    _, found = closed_loop(server, 1, 1e9, _seed(random), max_requests=count)
    return found.latency[np.isfinite(found.latency) & ~found.failed]


def capacity_qps(found: Curve, limit_s: float, allowed: float, random: Random) -> float | None:
    """The highest rate up to which the limit holds; None where no rate does, or every one that can be served."""
    shares = np.where(found.rates > found.saturated_qps, 1.0, found.beyond(limit_s))  # in the end the queue is long
    at = _split(shares > allowed)
    if at in (0, len(shares)):
        return None
    logs = np.log(found.rates)
    near = slice(max(0, at - 3), at + 3)
    guess = _crossing(logs[near], shares[near], allowed)
    middle = min(max(guess or -math.inf, float(logs[at - 1])), float(logs[at]))
    width = max(_NARROW, 0.6 * float(logs[at] - logs[at - 1]))
    count = int(min(_MAX_REQUESTS, max(_MIN_REQUESTS, 400 / allowed, 40 * found.saturated_qps * limit_s)))
    for _ in range(2):
        rates = np.exp(middle + width * np.linspace(-1, 1, _FINE))
        counts = [
            (latencies(found.server, found.pattern, found.metric, rate, count, random) > limit_s).mean()
            for rate in rates
        ]
        guess = _crossing(np.log(rates), np.array(counts), allowed)
        if guess is None:
            return None
        if abs(guess - middle) < 1.2 * width:
            return math.exp(guess)
        middle = min(middle + 2 * width, max(middle - 2 * width, guess))
    return None


def _split(missed: NDArray[np.bool_]) -> int:
    """How many of the rates hold, so that as few as can be below it missed, or above it held."""
    wrong = [int(missed[:at].sum() + (~missed[at:]).sum()) for at in range(len(missed) + 1)]
    return int(np.argmin(wrong))


def _log_odds(shares: Floats) -> Floats:
    kept = np.clip(shares, 1e-5, 1 - 1e-3)
    return np.asarray(np.log(kept / (1 - kept)))


def _crossing(logs: Floats, shares: Floats, allowed: float) -> float | None:
    """Where a line through the log odds crosses what is allowed, the rates near it counting most."""
    odds, edge = _log_odds(shares), math.log(allowed / (1 - allowed))
    weights = shares / (shares + allowed) / (0.3 + np.abs(odds - edge)) + 1e-9  # rare misses say little
    centre = float(np.average(logs, weights=weights))
    level = float(np.average(odds, weights=weights))
    slope = float((weights * (logs - centre) * (odds - level)).sum() / (weights * (logs - centre) ** 2).sum())
    if slope <= 0.2:
        return None
    return centre + (edge - level) / slope
