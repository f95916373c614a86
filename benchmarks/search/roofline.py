"""A batching server by rooflines: what a configuration's capacity, latency and memory are, constants drawn widely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Generator = Any  # numpy's, or one that imitates it


@dataclass(frozen=True)
class Configurations:
    """What a server feels of them: a number each. `physics` has rows of log TFLOP/s, GB/s and GiB of the slice, None on
    a CPU.
    """

    cores: Floats
    memory_gib: Floats
    batch: Floats
    delay_ms: Floats
    workers: Floats
    threads: Floats
    replicas: Floats
    physics: Floats | None
    bits: Floats


def serve(g: Generator, given: Configurations, effect: Floats) -> tuple[Floats, Floats, Ints, Floats]:
    """Log capacities, log throughputs at full load, outcomes and what is measured, on a server whose constants are
    drawn. `effect` is that of knobs whose meaning nobody told, in logs.
    """
    count = len(given.batch)
    on_gpu = given.physics is not None
    limit_s = np.exp(g.uniform(np.log(0.01), np.log(3.0)))
    # Profiles tell the latency at full throughput; a search under a limit finds the rate that the limit allows.
    profiled = g.random() < 0.3
    server = _gpu_server if on_gpu else _cpu_server
    rate, latency_s, lone_s, need, use, by_cores = server(g, limit_s, given, full=profiled or g.random() < 0.4)
    rate = rate * given.replicas * np.exp(effect)
    delay_s = np.where(given.batch > 1, given.delay_ms / 1e3, 0.0)
    latency_s = latency_s * np.exp(-0.5 * effect) + delay_s * g.uniform(0.5, 1.0)
    lone_s = lone_s * np.exp(-0.5 * effect) + delay_s
    rate = rate * (1 + g.uniform(0, 0.4) * np.where(given.batch > 1, np.minimum(1, given.delay_ms / 10), 0))
    # Near saturation requests wait; the tighter the limit is for a lone request, the less of the rate can be used.
    slack = np.clip(latency_s * g.uniform(0.3, 3.0) / limit_s, 0, 1)
    usable = 1 - slack ** g.uniform(0.5, 2.0) * (0.0 if profiled else g.uniform(0.3, 1.0))
    capacity = rate * usable
    log_p99 = np.log(np.maximum(latency_s, 1e-6) * g.uniform(1, 2.2) / limit_s)
    outcome = np.zeros(count, dtype=np.int64)
    outcome[(log_p99 > 0) | (usable <= 0.02)] = 2
    outcome[need > 1] = 1
    if g.random() < 0.1:
        outcome[g.random(count) < g.uniform(0, 0.05)] = 3
    if not profiled and g.random() < 0.7:  # the p99 at the capacity, which is near the limit
        log_p99 = np.where(outcome == 0, -g.uniform(0.0, 0.1) * g.random(count), np.maximum(log_p99, 0.01))
    log_capacity = np.where(outcome == 0, np.log(np.maximum(capacity, 1e-9)), np.nan)
    # Real surfaces have texture that no smooth model has.
    texture = g.normal(0, np.exp(g.uniform(np.log(0.003), np.log(0.06))), count)
    log_saturated = np.log(np.maximum(rate, 1e-9)) + texture
    measured = np.stack([
        log_p99, np.log(np.maximum(latency_s, 1e-6) * g.uniform(0.6, 1.2) / limit_s),
        np.log(np.maximum(lone_s, 1e-6) * g.uniform(0.8, 1.2) / limit_s),
        np.clip(use * (1 if not on_gpu else 0.5), 0, 1), np.clip(use, 0, 1) if on_gpu else np.full(count, np.nan),
        np.clip(need, 0, 1), by_cores * 1.0, ~by_cores * (1.0 if on_gpu else 0.0),
    ], axis=1)  # fmt: skip
    return log_capacity + texture, log_saturated, outcome, measured


_Served = tuple[Floats, Floats, Floats, Floats, Floats, NDArray[np.bool_]]


def _gpu_server(g: Generator, limit_s: float, given: Configurations, *, full: bool) -> _Served:
    """Requests/s, latency of a full batch alone or at `full` throughput, that of a lone request, memory over what there
    is, use of the GPU; whether cores hold it back.
    """
    assert given.physics is not None
    batch, workers, bits = given.batch, given.workers, given.bits
    strength, bandwidth, held = np.exp(given.physics).T / np.array([[100], [1000], [1]])
    # The time of one request on 100 TFLOP/s, relative to the limit: most services can serve, some barely.
    item_s = limit_s * np.exp(g.uniform(np.log(0.0005), np.log(0.3)))
    overhead_s = item_s * np.exp(g.uniform(np.log(0.1), np.log(20)))
    half = np.exp(g.uniform(np.log(0.5), np.log(64)))  # the batch at which half of 100 TFLOP/s is in use
    speed = (bits / 16) ** g.uniform(0.2, 1.0)
    scaling = g.uniform(0.9, 1.05) if g.random() < 0.5 else g.uniform(0.5, 1.0)
    full_s = item_s * batch / strength**scaling * speed
    moved_s = item_s * g.uniform(0, 3) / bandwidth * speed * (0.3 + 0.7 * batch ** g.uniform(0.2, 1.0))
    floor_s = item_s * half * speed * batch ** g.uniform(0.0, 0.4)  # one process cannot fill a large GPU
    floored = g.random() < 0.8
    alone_s = overhead_s + np.maximum(np.maximum(full_s, moved_s), np.where(floored, floor_s, 0.0))
    busy_s = np.maximum(full_s, moved_s) + overhead_s * g.uniform(0, 0.4)
    interference = 1 + g.uniform(0, 0.08) * (workers - 1)
    overlap = g.uniform(0.85, 1.0) if g.random() < 0.5 else g.uniform(0.3, 1.0)  # how well processes overlap
    rate = _smooth_min(workers**overlap * batch / alone_s, batch / busy_s, g) / interference
    # At full load each worker has a batch under way (Little's law); at the rate that the limit allows, fewer do.
    queued_s = workers * batch / rate if full else busy_s * workers * g.uniform(0.3, 1.0) * interference
    latency_s = np.maximum(alone_s * interference, queued_s)
    # What cores prepare, against what the GPU does in the middle of the space: often too little, often far too much.
    prepared = given.cores * float(np.median(rate)) * np.exp(g.uniform(np.log(0.03), np.log(10)))
    by_cores = prepared < rate
    rate = _smooth_min(rate, prepared, g)
    model, per_item = np.exp(g.uniform(np.log(0.2), np.log(20))), np.exp(g.uniform(np.log(0.002), np.log(0.5)))
    need = (model * workers ** g.choice([0.0, 1.0, 1.0]) + per_item * batch * workers) * (bits / 16) / held
    lone_s = overhead_s + np.maximum(item_s / strength**scaling * speed, np.where(floored, item_s * half * speed, 0.0))
    return rate, latency_s, lone_s, need, np.clip(rate * busy_s / batch, 0, 1), by_cores


def _cpu_server(g: Generator, limit_s: float, given: Configurations, *, full: bool) -> _Served:
    """The same on cores: threads share one batch's work, workers take a batch each, too many of both fight."""
    cores, batch, workers = given.cores, given.batch, given.workers
    item_s = limit_s * np.exp(g.uniform(np.log(0.001), np.log(0.5)))
    overhead_s = item_s * np.exp(g.uniform(np.log(0.02), np.log(10)))
    serial, growth = g.uniform(0.01, 0.5), g.uniform(0.75, 1.1)
    running = np.minimum(given.threads, cores)
    faster = 1 / (serial + (1 - serial) / running)
    fight = np.maximum(1.0, workers * given.threads / cores) ** g.uniform(0.0, 0.5)
    alone_s = overhead_s + item_s * batch**growth / faster
    busy_s = overhead_s * g.uniform(0.2, 1) + item_s * batch**growth * (serial + (1 - serial)) * (
        1 + 0.1 * serial * running
    )
    rate = np.minimum(workers * batch / alone_s, cores * batch / busy_s) / fight
    rate = _smooth_min(rate, cores / (item_s * np.exp(g.uniform(np.log(0.05), np.log(2)))), g)
    rate = rate / (1 + g.uniform(0, 0.05) * (workers - 1))
    latency_s = alone_s * np.maximum(1.0, workers * running / cores) * fight
    if full:
        latency_s = np.maximum(alone_s, workers * batch / rate)
    model = np.exp(g.uniform(np.log(0.1), np.log(8)))
    need = (model * workers + np.exp(g.uniform(np.log(0.001), np.log(0.1))) * batch * workers) / given.memory_gib
    lone_s = overhead_s + item_s / faster
    return rate, latency_s, lone_s, need, np.clip(rate * busy_s / batch / cores, 0, 1), running * workers >= cores


def _smooth_min(one: Floats, other: Floats, g: Generator) -> Floats:
    """The slower of two stages, with a corner that is more or less round."""
    sharp = np.exp(g.uniform(np.log(1.5), np.log(12)))
    return np.asarray((one**-sharp + other**-sharp) ** (-1 / sharp))
