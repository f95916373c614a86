"""Queues in simulated time, and what theory says about them.

All serve first come, first served, `1 / service_s` requests a second at most: M/D/1 and M/M/1 with one server, M/D/4
with four (each taking four times as long), and `batch`, which takes up to eight waiting requests at once when it is
idle, in half the time it would take to serve eight plus a sixteenth of it for each. `lognormal` is M/G/1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BATCH = 8
_DROPPED = 5_000
_LONG = 4_000_000
QUICK = 400_000  # shows a capacity to within half a percent, in a tenth of the time


def batch_service_s(service_s: float, size: int) -> float:
    """A full batch takes `BATCH * service_s`, half of that is fixed."""
    return service_s * (BATCH / 2 + size / 2)


def _md1(arrivals: Floats, service_s: float, _: np.random.Generator) -> Floats:
    return one_server_s(arrivals, np.full(len(arrivals), service_s))


def _mm1(arrivals: Floats, service_s: float, generator: np.random.Generator) -> Floats:
    return one_server_s(arrivals, generator.exponential(service_s, len(arrivals)))


def _lognormal(arrivals: Floats, service_s: float, generator: np.random.Generator) -> Floats:
    sigma = 0.8
    return one_server_s(arrivals, generator.lognormal(-0.5 * sigma**2, sigma, len(arrivals)) * service_s)


def _md4(arrivals: Floats, service_s: float, _: np.random.Generator) -> Floats:
    """With equal service times each server takes every fourth request."""
    found = np.empty(len(arrivals))
    for server in range(4):
        mine = arrivals[server::4]
        found[server::4] = one_server_s(mine, np.full(len(mine), 4 * service_s))
    return found


def _batch(arrivals: Floats, service_s: float, _: np.random.Generator) -> Floats:
    # Millions of requests, one batch after the other: what is done for each batch is kept to a few operations.
    times, count = arrivals.tolist(), len(arrivals)
    took_s = [batch_service_s(service_s, size) for size in range(BATCH + 1)]
    ends_s: list[float] = []
    begins = [0]
    first, free_s = 0, 0.0
    while first < count:
        begin_s = max(free_s, times[first])
        last = bisect_right(times, begin_s, first + 1, min(first + BATCH, count))
        free_s = begin_s + took_s[last - first]
        ends_s.append(free_s)
        begins.append(last)
        first = last
    return np.repeat(ends_s, np.diff(begins)) - arrivals


_KINDS: dict[str, Callable[[Floats, float, np.random.Generator], Floats]] = {
    "M/D/1": _md1, "M/D/4": _md4, "M/M/1": _mm1, "batch": _batch, "lognormal": _lognormal,
}  # fmt: skip
KINDS = tuple(_KINDS)


def one_server_s(arrivals_s: Floats, services_s: Floats) -> Floats:
    """Sojourn times at one server by Lindley's recursion, starting empty."""
    steps = np.cumsum(np.concatenate([[0.0], services_s[:-1] - np.diff(arrivals_s)]))
    return np.asarray(steps - np.minimum(np.minimum.accumulate(steps), 0.0) + services_s)


def sojourn_s(kind: str, arrivals_s: Floats, service_s: float, seed: int) -> Floats:
    """Waiting plus service of each arrival, starting empty."""
    return _KINDS[kind](arrivals_s, service_s, np.random.default_rng(seed))


def poisson(rate_qps: float, count: int, seed: int) -> Floats:
    """Arrival times in seconds."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_qps, count))


def quantile_s(kind: str, rate_qps: float, service_s: float, share: float = 0.99) -> float:
    """The sojourn time that a share of requests does not exceed: exact for M/M/1 and M/D/1, else `long_run`'s."""
    if kind == "M/M/1":
        return -math.log(1 - share) / (1 / service_s - rate_qps)
    if kind == "M/D/1":
        low, high = service_s, 120 * service_s
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if md1_beyond(middle, rate_qps, service_s) > 1 - share else (low, middle)
        return low
    return float(np.quantile(long_run(kind, rate_qps * service_s), share)) * service_s


def md1_beyond(sojourn: float, rate_qps: float, service_s: float) -> float:
    """P(sojourn > t) of M/D/1, by Erlang's formula (1909) for the wait, in rational arithmetic: its terms alternate."""
    from mpmath import exp, factorial, mp, mpf

    wait = sojourn - service_s
    if wait < 0:
        return 1.0
    with mp.workdps(250):
        load, time = mpf(rate_qps) * mpf(service_s), mpf(wait) / mpf(service_s)
        terms = ((-load * (time - k)) ** k / factorial(k) * exp(load * (time - k)) for k in range(math.floor(time) + 1))
        return float(1 - (1 - load) * sum(terms))


@lru_cache(maxsize=64)
def long_run(kind: str, utilisation: float, count: int = _LONG) -> Floats:
    """Sojourn times in service times, of so many requests after the first are dropped."""
    arrivals = poisson(utilisation, count + _DROPPED, seed=1)
    return sojourn_s(kind, arrivals, 1.0, seed=2)[_DROPPED:]


@lru_cache(maxsize=64)
def capacity_qps(kind: str, service_s: float, limit_s: float, allowed: float = 0.01, count: int = _LONG) -> float:
    """The arrival rate at which that share of requests takes longer than the limit: exact for M/M/1 and M/D/1, else by
    runs of so many requests.
    """
    if kind == "M/M/1":
        return 1 / service_s + math.log(allowed) / limit_s
    low, high = 0.05 / service_s, 0.995 / service_s
    for _ in range(16):
        middle = (low + high) / 2
        if kind == "M/D/1":
            beyond = md1_beyond(limit_s, middle, service_s)
        else:
            beyond = float((long_run(kind, middle * service_s, count) > limit_s / service_s).mean())
        low, high = (middle, high) if beyond <= allowed else (low, middle)
    return (low + high) / 2
