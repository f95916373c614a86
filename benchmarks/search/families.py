"""Made-up services for comparing searches. Only `roofline` shares assumptions with what the network was trained on.

- `roofline`: batches on a GPU's compute and bandwidth, preparation on cores, memory against the slice: the formulas of
  `training/search/prior.py`, other constants.
- `usl`: on CPUs only; cores and workers by the universal scalability law (Gunther, Guerrilla Capacity Planning, 2007),
  batches with a fixed and a linear part, and the limit by M/M/1: capacity = rate - ln(100) / (limit - latency).
- `plateau`: batches are padded to powers of two, workers beyond the cores do nothing, and much of the space is flat.
- `interference`: GPU slices whose neighbours take bandwidth, a cliff where a batch no longer fits the cache, noise.
- `llm`: a language model's decoding: bound by memory bandwidth, the batch by the memory that is left for its cache.
- `adversarial`: what no server does: a smooth random function of the ranks, unlike any physics.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.roofline import Configurations, serve
from search_spaces import Parameter, ParameterValue, SearchSpace
from tuner.search.surrogate.gpus import gpu_physics

Floats = NDArray[np.float64]
Generator = np.random.Generator
Row = dict[str, ParameterValue]


@dataclass(frozen=True)
class Surface:
    """A space with the truth about each configuration: capacity in requests/s (0: cannot serve), status, price, and
    what else a trial shows of it: the throughput at full load; p99, the median and a lone request's latency in ms; the
    share of the GPU in use; what holds it back. What is nan, or None, is not known.
    """

    name: str
    space: SearchSpace
    configurations: list[Row]
    capacity_qps: Floats
    status: list[str]
    price: Floats
    noise: float = 0.0
    limit_ms: float | None = None
    saturated_qps: Floats | None = None
    p99_ms: Floats | None = None
    p50_ms: Floats | None = None
    lone_ms: Floats | None = None
    gpu_use: Floats | None = None
    bottleneck: NDArray[np.str_] | None = None


def _doubling(count: int, first: int = 1) -> tuple[int, ...]:
    return tuple(first * 2**power for power in range(count))


def _grid(*parameters: Parameter) -> tuple[SearchSpace, list[Row], dict[str, Floats]]:
    names = [parameter.name for parameter in parameters]
    rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*(one.choices for one in parameters))]
    numbers = {
        one.name: np.array([float(row[one.name]) for row in rows])
        for one in parameters
        if all(isinstance(choice, int | float) for choice in one.choices)
    }
    return SearchSpace(parameters), rows, numbers


def _surface(
    name: str,
    space: SearchSpace,
    rows: list[Row],
    capacity: Floats,
    oom: NDArray[np.bool_],
    price: Floats,
    noise: float,
    saturated: Floats,
    latency_s: Floats | None = None,
    limit_s: float = 1.0,
    gpu_use: Floats | None = None,
    bottleneck: NDArray[np.str_] | None = None,
) -> Surface:
    """At its capacity a service's p99 is the limit; where it cannot serve, the latency says by how much."""
    capacity = np.where(oom | ~(capacity > 0), 0.0, capacity)
    status = ["oom" if one else "ok" for one in oom]
    found = Surface(name, space, rows, capacity, status, price, noise, saturated_qps=saturated)
    if latency_s is None:
        return found
    p99_s = np.where(capacity > 0, limit_s, np.maximum(latency_s, 1.05 * limit_s))
    return replace(
        found, limit_ms=limit_s * 1e3, p99_ms=p99_s * 1e3, p50_ms=np.minimum(latency_s, 0.9 * p99_s) * 1e3,
        gpu_use=gpu_use, bottleneck=bottleneck,
    )  # fmt: skip


_TYPES = {
    "T4": (65, 320, 16, 0.35),
    "L4": (121, 300, 24, 0.7),
    "A10G": (70, 600, 24, 1.0),
    "A100": (312, 1935, 80, 3.7),
    "V100": (125, 900, 16, 2.5),
    "H100": (989, 3350, 80, 6.5),
}


def _gpus(rows: list[Row]) -> Floats:
    return np.array([_TYPES[str(row["gpu_type"])] for row in rows])


def roofline(g: Generator, *, large: bool) -> Surface:
    """720: GPU type, slice, batch, instances. 5,040: and cores."""
    cores = (1, 2, 4, 8, 16, 32, 64) if large else (1, 4, 16)
    space, rows, at = _grid(
        Parameter("gpu_type", tuple(_TYPES)[: 6 if large else 4], "gpu_type"),
        Parameter("gpu_memory", (0.25, 0.5, 1.0), "gpu_memory"),
        Parameter("batch_size", _doubling(8 if large else 5), "batch_size"),
        Parameter("instances", (1, 2, 3, 4, 6) if large else (1, 2, 3, 4), "workers"),
        Parameter("cpu_cores", cores, "cpu_cores"),
    )
    ones = np.ones(len(rows))
    physics = np.log(np.array([gpu_physics(str(row["gpu_type"])) for row in rows]) * at["gpu_memory"][:, None])
    given = Configurations(
        at["cpu_cores"], np.full(len(rows), np.inf), at["batch_size"], 0 * ones, at["instances"], ones, ones,
        physics, 16 * ones,
    )  # fmt: skip
    log_capacity, log_saturated, outcome, measured = serve(g, given, 0 * ones)
    price = _gpus(rows)[:, 3] * at["gpu_memory"] + 0.04 * at["cpu_cores"]
    capacity = np.exp(np.nan_to_num(log_capacity, nan=-99)) * (outcome == 0)
    p99, p50, lone, _, gpu_use, _, by_cores, _ = measured.T
    limit_ms = 100.0  # the formulas are relative to it
    return replace(
        _surface("roofline", space, rows, capacity, outcome == 1, price, 0.03, np.exp(log_saturated)),
        limit_ms=limit_ms, p99_ms=limit_ms * np.exp(p99), p50_ms=limit_ms * np.exp(p50),
        lone_ms=limit_ms * np.exp(lone), gpu_use=gpu_use, bottleneck=np.where(by_cores > 0, "cpu", "gpu"),
    )  # fmt: skip


def usl(g: Generator, *, large: bool) -> Surface:
    """720, or 5,120 configurations."""
    space, rows, at = _grid(
        Parameter("cpu_cores", _doubling(4) if not large else (1, 2, 3, 4, 6, 8, 12, 16), "cpu_cores"),
        Parameter("workers", (1, 2, 3, 4, 6, 8) if not large else (1, 2, 3, 4, 5, 6, 8, 10, 12, 16), "workers"),
        Parameter("batch_size", _doubling(8 if large else 6), "batch_size"),
        Parameter("batch_delay_ms", (0, 2, 5, 10, 20) if not large else (0, 1, 2, 3, 5, 10, 15, 20), "batch_delay"),
    )
    limit = np.exp(g.uniform(np.log(0.03), np.log(0.5)))
    fixed, each = limit * np.exp(g.uniform(-6, -2)), limit * np.exp(g.uniform(-6, -2.5))
    sigma, kappa = g.uniform(0, 0.3), np.exp(g.uniform(-8, -3))
    n = np.minimum(at["workers"], at["cpu_cores"] * g.uniform(1, 2))
    scale = n / (1 + sigma * (n - 1) + kappa * n * (n - 1))
    batch_s = fixed + each * at["batch_size"]
    filled = 1 - np.exp(-(1 + at["batch_delay_ms"]) / 3)
    rate = scale * at["batch_size"] ** filled / (fixed + each * at["batch_size"] ** filled)
    latency = batch_s * (1 + 0.3 * at["workers"] / at["cpu_cores"]) + at["batch_delay_ms"] / 1e3
    capacity = rate - np.log(100) / np.maximum(1e-9, limit - latency) * g.uniform(0.1, 0.5)
    capacity = np.where(latency < limit, capacity, 0)
    price = 0.04 * at["cpu_cores"] + 0.01
    return _surface("usl", space, rows, capacity, np.zeros(len(rows), bool), price, 0.02, rate, latency, limit)


def plateau(g: Generator, *, large: bool) -> Surface:
    """720, or 4,928 configurations."""
    space, rows, at = _grid(
        Parameter("cpu_cores", _doubling(5) if not large else (1, 2, 3, 4, 6, 8, 12, 16), "cpu_cores"),
        Parameter(
            "max_batch",
            (1, 3, 4, 6, 8, 12, 16, 24, 32) if not large else (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48),
            "batch_size",
        ),
        Parameter("workers", _doubling(4) if not large else (1, 2, 3, 4, 6, 8, 12, 16), "workers"),
        Parameter("buckets", (1, 2, 3, 4) if not large else (1, 2, 3, 4, 5, 6, 7)),
    )
    limit = np.exp(g.uniform(np.log(0.02), np.log(0.4)))
    each, fixed = limit * np.exp(g.uniform(-5.5, -2)), limit * np.exp(g.uniform(-6, -3))
    padded = 2 ** np.ceil(np.log2(at["max_batch"]))
    waste = 1 + (padded / at["max_batch"] - 1) / at["buckets"]
    busy = np.minimum(at["workers"], at["cpu_cores"])
    batch_s = fixed + each * at["max_batch"] * waste
    rate = busy * at["max_batch"] / batch_s
    latency = batch_s * 1.6
    capacity = np.where(latency < limit, rate * np.where(latency < 0.5 * limit, 1, 0.6), 0)
    need = at["workers"] * g.uniform(0.2, 2)
    price = 0.05 * at["cpu_cores"] + 0.002 * need
    return _surface("plateau", space, rows, capacity, need > 2.2 * at["cpu_cores"], price, 0.01, rate, latency, limit)


def interference(g: Generator, *, large: bool) -> Surface:
    """720, or 5,040 configurations."""
    space, rows, at = _grid(
        Parameter("gpu_type", tuple(_TYPES)[: 6 if large else 4], "gpu_type"),
        Parameter("gpu_memory", (0.25, 0.5, 1.0) if not large else (0.125, 0.25, 0.375, 0.5, 0.75, 1.0), "gpu_memory"),
        Parameter("batch_size", _doubling(10) if not large else (*_doubling(10), 3, 6, 12, 24), "batch_size"),
        Parameter("cpu_cores", _doubling(6) if not large else (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), "cpu_cores"),
    )  # fmt: skip
    specs, share = _gpus(rows), at["gpu_memory"]
    gflop, mb, pre = np.exp(g.uniform(0, 5)), np.exp(g.uniform(1, 6)), np.exp(g.uniform(-8, -4.5))
    efficiency = 1 - np.exp(-at["batch_size"] / np.exp(g.uniform(0.5, 3.5)) / (specs[:, 0] * share / 65) ** 0.7)
    neighbours = 1 - (1 - share) * g.uniform(0, 0.35)
    compute = gflop * at["batch_size"] / (specs[:, 0] * 1e3 * share * 0.5 * efficiency)
    cliff = np.where(at["batch_size"] * mb > 1e3 * share * g.uniform(2, 20), g.uniform(1.2, 2.5), 1.0)
    moved = (mb * at["batch_size"] + 200) / (specs[:, 1] * 1e3 * share * neighbours) * cliff
    batch_s = np.maximum(compute, moved) + 0.002
    limit = max(0.02, float(np.quantile(batch_s, g.uniform(0.2, 0.7))) * 3)
    rate = np.minimum(at["batch_size"] / batch_s, at["cpu_cores"] / pre)
    latency = 2 * batch_s + pre
    capacity = np.where(latency < limit, rate * np.maximum(0, 1 - latency / limit) ** 0.3, 0)
    need = g.uniform(0.5, 6) + at["batch_size"] * mb / 1e3 * g.uniform(0.2, 2)
    price = specs[:, 3] * share + 0.04 * at["cpu_cores"]
    return _surface(
        "interference", space, rows, capacity, need > specs[:, 2] * share, price, 0.03, rate, latency, limit,
        rate * batch_s / at["batch_size"], np.where(rate * pre >= at["cpu_cores"], "cpu", "gpu"),
    )  # fmt: skip


def llm(g: Generator, *, large: bool) -> Surface:
    """756, or 5,040 configurations."""
    types = tuple(_TYPES) if large else ("L4", "A10G", "A100", "H100")
    space, rows, at = _grid(
        Parameter("gpu_type", types, "gpu_type"),
        Parameter("tensor_parallel", (1, 2, 4) if not large else (1, 2, 4, 8)),
        Parameter("max_num_seqs", (4, 8, 16, 24, 32, 48, 64, 96, 128, 256) if large else _doubling(7, 4), "batch_size"),
        Parameter("dtype", ("fp16", "fp8", "int4"), "precision"),
        Parameter("chunk", (256, 512, 1024) if not large else (128, 256, 384, 512, 768, 1024, 2048)),
    )  # fmt: skip
    specs = _gpus(rows)
    bits = np.array([{"fp16": 16, "fp8": 8, "int4": 4}[str(row["dtype"])] for row in rows])
    tp, seqs = at["tensor_parallel"], at["max_num_seqs"]
    billions, context, tokens = np.exp(g.uniform(0.5, 4)), np.exp(g.uniform(5.5, 8.5)), np.exp(g.uniform(3.5, 6.5))
    weights = billions * bits / 8
    cache = context * billions * 2.5e-5 * g.uniform(0.3, 2)  # GB a sequence
    room = 0.9 * specs[:, 2] * tp - weights
    running = np.minimum(seqs, np.maximum(0, room / cache))
    step = (weights + cache * running) / (specs[:, 1] * tp ** g.uniform(0.7, 1.0)) + 2e-3 * (tp > 1) * np.log2(2 * tp)
    step = step * np.where(bits == 4, g.uniform(0.9, 1.4), 1) + 2 * billions * running / (specs[:, 0] * 1e3 * tp * 0.4)
    prefill = 2 * billions * context / (specs[:, 0] * 1e3 * tp * 0.5) * (1 + 0.1 * np.abs(np.log2(at["chunk"] / 700)))
    limit = max(0.01, float(np.quantile(step[running >= 1], g.uniform(0.3, 0.8)))) if (running >= 1).any() else 0.05
    capacity = running / (step * tokens + prefill * running * 0.5)
    gap = step + prefill * running / tokens / 4  # between tokens
    served = np.where((gap < 1.5 * limit) & (running >= 1), capacity, 0)
    return _surface("llm", space, rows, served, room < cache, specs[:, 3] * tp, 0.03, capacity, gap, 1.5 * limit)


def adversarial(g: Generator, *, large: bool) -> Surface:
    """720, or 5,120 configurations."""
    space, rows, at = _grid(
        Parameter("cpu_cores", (1, 2, 3, 4, 6) if not large else (1, 2, 3, 4, 6, 8, 12, 16), "cpu_cores"),
        Parameter("batch_size", _doubling(8 if large else 6), "batch_size"),
        Parameter("threads", _doubling(4) if not large else (1, 2, 3, 4, 6, 8, 12, 16), "threads"),
        Parameter("workers", (1, 2, 3, 4, 5, 6) if not large else tuple(range(1, 11)), "workers"),
    )
    ranks = [np.unique(at[name], return_inverse=True)[1] for name in at]
    points = np.stack([rank / rank.max() for rank in ranks], axis=1)
    waves = sum(g.normal() * np.sin(points @ g.normal(0, 3, 4) + g.uniform(0, 6)) for _ in range(12))
    capacity = 100 * np.exp(0.35 * np.asarray(waves))
    return _surface(
        "adversarial", space, rows, capacity, np.zeros(len(rows), bool), 0.04 * at["cpu_cores"], 0.02, capacity
    )


FAMILIES: dict[str, Callable[..., Surface]] = {
    "roofline": roofline, "usl": usl, "plateau": plateau, "interference": interference, "llm": llm,
    "adversarial": adversarial,
}  # fmt: skip
_SERVES = 0.05  # the least share of a space that serves, so that there is something to find


def draw(family: str, seed: int, *, large: bool = False) -> Surface:
    """A service of that family of which at least a twentieth of the configurations serve."""
    for attempt in itertools.count():
        found = FAMILIES[family](np.random.default_rng([seed, attempt]), large=large)
        if (found.capacity_qps > 0).mean() >= _SERVES:
            return found
    raise AssertionError
