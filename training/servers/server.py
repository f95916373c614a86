"""A simulated server: its numbers, and what becomes of requests that it is sent. The work is done by `simulate.c`."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_SOURCE = Path(__file__).parent / "simulate.c"
_LIBRARY = Path(__file__).parent / "simulate.so"
_REFUSED_PAUSE_S = 0.02  # as the load generator's users wait

ENGINES = {"queue": 0, "batches": 1, "sharing": 2, "streams": 3}
SERVICES = {"constant": 0, "exponential": 1, "lognormal": 2, "bimodal": 3, "erlang": 4, "shifted": 5, "uniform": 6}
DISPATCHES = {"shared": 0, "random": 1, "round_robin": 2, "least_connections": 3, "power_of_two": 4}
Metric = Literal["latency", "ttft", "itl"]


@dataclass(frozen=True)
class Server:
    """Times in seconds, rates a second, shares 0 to 1; zero means that there is no such thing.

    The order of the fields is that of `simulate.c`. `workers` are cores with sharing and instances with batches.
    `shape` is a lognormal service's sigma, the share of slow requests (bimodal, `ratio` times slower), the number of
    stages (erlang), or the share that varies (shifted, uniform).
    """

    engine: int = 0
    workers: int = 1
    service: int = 0
    mean: float = 0.01
    shape: float = 0.0
    ratio: float = 1.0
    dispatch: int = 0
    locked: float = 0.0
    pause_every: float = 0.0
    pause: float = 0.0
    pause_regular: float = 0.0
    drift: float = 0.0
    drift_time: float = 1.0
    limit_rate: float = 0.0
    limit_burst: float = 1.0
    admit: int = 0
    hits: float = 0.0
    hit_cost: float = 1.0
    hits_after: float = 1.0
    batch: int = 0
    delay: float = 0.0
    fixed: float = 0.0
    item: float = 0.0
    growth: float = 1.0
    padding: float = 0.0
    slots: int = 256
    contention: float = 0.0
    tokens: float = 0.0
    tokens_spread: float = 0.0
    step: float = 0.0
    step_item: float = 0.0
    prefill: float = 0.0
    prefill_spread: float = 0.0
    overhead: float = 0.0
    jitter: float = 0.0
    served_before: float = 1e9
    front: float = 0.0
    tick: float = 0.0
    strain: float = 0.0
    wake: float = 0.0
    wake_after: float = 0.0


_FIELDS = tuple(field.name for field in fields(Server))


@dataclass(frozen=True)
class Answers:
    """What became of requests, in the order of their arrival: times in seconds, infinite where no answer came in time.

    A refused request has its (short) latency, and `failed` is set.
    """

    latency: Floats
    ttft: Floats
    itl: Floats
    failed: Flags

    def values(self, metric: Metric) -> Floats:
        """What a limit on that metric bounds: infinite for a failed request."""
        found = {"latency": self.latency, "ttft": self.ttft, "itl": self.itl}[metric]
        return np.where(self.failed, np.inf, found)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """The compiled simulator; it is compiled where it is missing or older than its source."""
    stale = not _LIBRARY.exists() or _LIBRARY.stat().st_mtime < _SOURCE.stat().st_mtime
    if stale and (shutil.which("cc") or not _LIBRARY.exists()):
        new = _LIBRARY.with_suffix(f".{os.getpid()}")
        command = ["cc", "-O3", "-fPIC", "-shared", "-o", str(new), str(_SOURCE), "-lm"]
        subprocess.run(command, check=True)
        new.replace(_LIBRARY)
    library = ctypes.CDLL(str(_LIBRARY))
    if library.numbers() != len(_FIELDS):
        raise RuntimeError(f"{_LIBRARY} is not what {_SOURCE} says; remove it")
    return library


def _address(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def answers(server: Server, arrivals: Floats, seed: int) -> Answers:
    """Open loop, from an idle server: requests arrive at these ascending times."""
    count = len(arrivals)
    numbers, arrivals = (
        np.array([getattr(server, name) for name in _FIELDS], dtype=np.float64),
        np.ascontiguousarray(arrivals, dtype=np.float64),
    )
    latency, ttft, itl, failed = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
    _library().run_open(
        _address(numbers), ctypes.c_uint64(seed), _address(arrivals), ctypes.c_int(count),
        _address(latency), _address(ttft), _address(itl), _address(failed),
    )  # fmt: skip
    return Answers(latency, ttft, itl, failed)


def closed_loop(
    server: Server, users: int, duration_s: float, seed: int, max_requests: int = 20_000
) -> tuple[Floats, Answers]:
    """`users` send one request after the other for a while: when each was sent, and the answers."""
    numbers = np.array([getattr(server, name) for name in _FIELDS], dtype=np.float64)
    sent, latency, ttft, itl = (
        np.zeros(max_requests),
        np.zeros(max_requests),
        np.zeros(max_requests),
        np.zeros(max_requests),
    )
    failed = np.zeros(max_requests, dtype=bool)
    count = _library().run_closed(
        _address(numbers), ctypes.c_uint64(seed), ctypes.c_int(users), ctypes.c_double(duration_s),
        ctypes.c_double(_REFUSED_PAUSE_S), ctypes.c_int(max_requests), _address(sent), _address(latency),
        _address(ttft), _address(itl), _address(failed),
    )  # fmt: skip
    return sent[:count], Answers(latency[:count], ttft[:count], itl[:count], failed[:count])
