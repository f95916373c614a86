"""Made-up services to learn from: what a network may expect before it has seen any trial of a new one.

A service is a batching server on CPU cores or on a share of a GPU: requests are prepared on cores, wait for a batch,
and are computed by one of several workers. Its constants are drawn widely, and so is the space that it is tuned in:
which parameters there are, which of them say what they do, and what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.search.surrogate.features import GPUS, MEASURED, Candidates, Column, Floats, Ints, Trials

_WAVES = 24
_SATURATED = 0.7  # how often the throughput at full load is known
_SLICED = 0.6  # how often the GPU comes in slices
# MIG's profiles are sevenths of the compute and eighths of memory and bandwidth (NVIDIA's MIG user guide: 1g.10gb to
# 7g.80gb). Other ways to share a GPU (MPS, HAMi, a framework's fraction) share all of it alike.
_MIG = 0
_SLICES = (
    np.array([1, 2, 3, 4, 7]) / 7,
    np.array([0.25, 0.5, 1.0]),
    np.arange(1, 11) / 10,
    np.array([0.1, 0.2, 0.5, 1.0]),
    np.arange(1, 9) / 8,
)
_SLICES_DRAWN = (0.35, 0.25, 0.15, 0.1, 0.15)
MIG_MEMORY = np.array([1, 2, 4, 4, 8]) / 8
Generator = Any  # numpy's, or one that imitates it


@dataclass(frozen=True)
class Task:
    """One service in one space: configurations with their truth. `outcome` is an index into OUTCOMES.

    `log_capacity` is nan where nothing is served; `log_saturated` is the log throughput at full load, whatever the
    latency; `measured` has what trials would see of MEASURED.
    """

    candidates: Candidates
    log_capacity: Floats
    log_saturated: Floats
    outcome: Ints
    measured: Floats


def draw_tasks(generator: Generator, most: int = 224) -> tuple[Task, Task]:
    """A service with up to `most` configurations of its space, and one that resembles it, as other hardware would."""
    while True:
        seed = int(generator.integers(2**62))
        task = _draw(np.random.default_rng(seed), most)
        if (task.outcome == 0).mean() > 0.03:
            unlike = float(np.exp(generator.uniform(np.log(0.02), np.log(0.5))))
            return task, _draw(_Jittered(np.random.default_rng(seed), generator, unlike), most)


def draw_trials(generator: Generator, task: Task, most: int, *, earlier: bool = False) -> Trials:
    """Trials of the service so far: spread out, or near the best that was measured; the worse ones pruned.

    What is tried depends on nothing that was not measured before it. Else the network would learn that whatever was
    not tried is worse.
    """
    size = len(task.candidates)
    count = int(np.clip(np.floor(generator.uniform(0, 1) ** 1.5 * most), 1, size // 2))
    noise = float(np.exp(generator.uniform(np.log(0.003), np.log(0.08))))
    error = generator.normal(0, noise, size)
    seen, log_saturated = task.log_capacity + error, np.full(count, np.nan)
    price = np.nan_to_num(task.candidates.log_price)
    index = _tried(generator, task, price - seen, count)
    log_capacity, state = seen[index], np.array([0, 2, 3, 4])[task.outcome[index]]
    if generator.random() < 0.7:
        log_capacity, state = _prune(log_capacity, state, price[index], generator)
    if generator.random() < _SATURATED:
        own = np.exp(generator.uniform(np.log(0.003), np.log(0.1))) * generator.normal(0, 1, size)
        log_saturated = (task.log_saturated + (error if generator.random() < 0.5 else own))[index]
        log_saturated[(state == 2) | (state == 4)] = np.nan
        if generator.random() < 0.5:
            log_saturated[state == 3] = np.nan
    measured = task.measured[index] + np.where(
        np.arange(len(MEASURED)) < 6, generator.normal(0, noise, (count, len(MEASURED))), 0
    )
    measured[:, generator.random(len(MEASURED)) < 0.5] = np.nan
    unserved = np.nan if generator.random() < 0.5 else measured[:, 0]
    measured[:, 0] = np.where(state == 3, unserved, measured[:, 0])
    measured[state >= 2, 1:] = np.nan
    measured[(state == 2) | (state == 4), 0] = np.nan
    log_capacity = np.where(state <= 1, log_capacity, 0.0)
    return Trials(index, state, log_capacity, log_saturated, measured, np.full(count, earlier))


def _tried(g: Generator, task: Task, cost: Floats, count: int) -> Ints:
    order = g.permutation(len(cost))
    if g.random() < 0.4:
        return np.asarray(order[:count])
    places = np.hstack(
        [
            column.positions[:, None]
            if column.categories is None
            else np.eye(int(column.categories.max()) + 1)[column.categories]
            for column in task.candidates.columns
        ]
    )
    local, chosen, best = g.uniform(0.3, 1.0), [int(order[0])], int(order[0])
    free = list(order[1:])
    while len(chosen) < count:
        pick = 0
        if g.random() < local:
            few = g.integers(0, len(free), 24)
            pick = int(few[np.abs(places[[free[one] for one in few]] - places[best]).sum(axis=1).argmin()])
        chosen.append(int(free.pop(pick)))
        if np.isnan(cost[best]) or cost[chosen[-1]] < cost[best]:
            best = chosen[-1]
    return np.array(chosen)


def _prune(log_capacity: Floats, state: Ints, price: Floats, generator: Generator) -> tuple[Floats, Ints]:
    """What cannot hold the rate at which it would equal the best is known by that bound alone."""
    log_capacity, state, best = log_capacity.copy(), state.copy(), np.inf
    margin = generator.choice([0.0, -0.05])
    for number in range(len(state)):
        if state[number]:
            continue
        cost = price[number] - log_capacity[number]
        bound = price[number] - best + margin
        if cost > best and log_capacity[number] < bound:
            log_capacity[number], state[number] = bound, 1
        else:
            best = min(best, cost)
    return log_capacity, state


class _Jittered:
    """A generator that repeats another's draws, but moves those of continuous constants by a share of their range."""

    def __init__(self, repeated: Generator, own: Generator, share: float) -> None:
        self._repeated, self._own, self._share = repeated, own, share

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        moved = self._repeated.uniform(low, high) + (high - low) * self._share * self._own.normal()
        return float(np.clip(moved, low, high))

    def normal(self, mean: float = 0.0, spread: float = 1.0, size: Any = None) -> Any:
        known, other = self._repeated.normal(mean, spread, size), self._own.normal(mean, spread, size)
        return mean + math.sqrt(1 - self._share**2) * (known - mean) + self._share * (other - mean)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repeated, name)


@dataclass
class _Space:
    """Values by role as the server feels them, and the columns that the search sees."""

    count: int
    columns: list[Column]

    def add(self, generator: Generator, role: str, choices: Floats, hidden: float = 0.25) -> Floats:
        """Draw a choice per configuration; with some probability the search is not told the role."""
        picked = generator.integers(0, len(choices), self.count)
        shown = None if generator.random() < hidden else role
        positions = picked / max(1, len(choices) - 1)
        self.columns.append(Column(shown, choices[picked], positions))
        return np.asarray(choices[picked])


def _doubling(generator: Generator, low: float, high: float, most: int = 9) -> Floats:
    """Some powers of two, or some evenly spaced numbers."""
    count = int(generator.integers(2, most))
    if generator.random() < 0.7:
        first = low * 2.0 ** generator.integers(0, 2)
        values = first * 2.0 ** np.arange(count)
    else:
        values = low * np.arange(1, count + 1) * generator.choice([1.0, 1.0, 2.0])
    values = values[values <= high]
    return values if len(values) > 1 else np.array([low, 2 * low])


def _draw(g: Generator, most: int) -> Task:
    count = int(g.integers(40, most + 1))
    space = _Space(count, [])
    ones = np.ones(count)
    on_gpu = g.random() < 0.65
    cores = space.add(g, "cpu_cores", _doubling(g, 1, 64, 7)) if g.random() < (0.55 if on_gpu else 0.9) else ones * 4
    batch = space.add(g, "batch_size", _doubling(g, 1, 256, 10)) if g.random() < 0.85 else ones
    delay = np.zeros(count)
    if g.random() < 0.4:
        delay = space.add(g, "batch_delay", np.array([0, 1, 2, 5, 10, 20, 50.0])[: g.integers(2, 8)])
    workers = space.add(g, "workers", _doubling(g, 1, 16, 7)) if g.random() < 0.6 else ones
    threads = space.add(g, "threads", _doubling(g, 1, 32, 6)) if g.random() < (0.15 if on_gpu else 0.7) else ones
    replicas = space.add(g, "replicas", np.arange(1.0, g.integers(3, 6)), 0.0) if g.random() < 0.1 else ones
    memory = space.add(g, "memory", _doubling(g, 1, 64, 5)) if g.random() < 0.25 else np.full(count, np.inf)
    unknown = np.full((count, 3), np.nan)
    physics, gpu_price, shown_physics = _draw_gpu(g, space, count) if on_gpu else (unknown, 0 * ones, unknown)
    bits = ones * 16
    if g.random() < 0.2:
        bits = space.add(g, "precision", np.array([8, 16, 32.0])[: g.integers(2, 4)], 0.1)
    effect = _unknown_parameters(g, space, count)
    if not space.columns:
        batch = space.add(g, "batch_size", _doubling(g, 1, 128))

    found = Configurations(cores, memory, batch, delay, workers, threads, replicas, physics if on_gpu else None, bits)
    unlike = g.random() < 0.1  # no server that anybody has thought of
    effect = effect + _smooth(g, space.columns, count, g.uniform(0.3, 1.5) if unlike else 0.0)
    log_capacity, log_saturated, outcome, measured = serve(g, found, effect)
    if unlike:
        log_capacity, log_saturated = np.where(outcome == 0, effect, np.nan), effect + g.uniform(0, 0.5)
    cost = _price(g, cores, memory, gpu_price, replicas)
    log_price = np.full(count, np.nan) if g.random() < 0.05 else np.log(cost)
    order = g.permutation(len(space.columns))
    columns = tuple(space.columns[number] for number in order)
    return Task(Candidates(columns, log_price, shown_physics), log_capacity, log_saturated, outcome, measured)


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


def _draw_gpu(g: Generator, space: _Space, count: int) -> tuple[Floats, Floats, Floats]:
    """The slice's physics, its price per hour, and as much of the physics as the search is told."""
    names = sorted(GPUS)
    several = g.random() < 0.45
    chosen = [names[number] for number in g.choice(len(names), int(g.integers(2, 6)) if several else 1, replace=False)]
    kind = g.integers(0, len(chosen), count)
    specs = np.array([GPUS[name] for name in chosen])
    prices = np.exp(g.normal(0, 0.35, len(chosen))) * (specs[:, 0] ** g.uniform(0.4, 1.0)) * 0.02
    shown = g.random() < 0.8
    if several:
        space.columns.append(Column("gpu_type" if shown else None, kind.astype(float), kind * 0.0, kind))
    share = memory = np.ones(count)
    if g.random() < _SLICED:
        form = int(g.choice(len(_SLICES), p=_SLICES_DRAWN))
        slices = _SLICES[form]
        picked = g.integers(0, len(slices), count)
        share = slices[picked]
        memory = MIG_MEMORY[picked] if form == _MIG else share
        role = "gpu_memory" if g.random() < 0.65 else None
        values = share if role or g.random() < 0.5 else np.rint(share / slices[0])
        space.columns.append(Column(role, values, picked / (len(slices) - 1)))
    logs = np.log(specs[kind] * np.stack([share, memory, memory], axis=1))
    told = shown and several and g.random() < 0.85
    return logs, prices[kind] * share + 1e-3, logs if told else np.full((count, 3), np.nan)


def _unknown_parameters(g: Generator, space: _Space, count: int) -> Floats:
    """Knobs whose meaning nobody told: most do little, some have a best value, some are better the more."""
    effect = np.zeros(count)
    for _ in range(int(g.choice([0, 0, 0, 1, 1, 2, 3]))):
        size = np.exp(g.uniform(np.log(0.02), np.log(0.8))) * (g.random() < 0.7)
        if g.random() < 0.5:
            choices = int(g.integers(2, 9))
            picked = g.integers(0, choices, count)
            at = picked / (choices - 1)
            best, slope = g.uniform(0, 1), g.normal()
            effect += size * (slope * at if g.random() < 0.5 else -4 * (at - best) ** 2)
            space.columns.append(Column(None, picked + 1.0, at))
        else:
            choices = int(g.integers(2, 6))
            picked = g.integers(0, choices, count)
            effect += size * g.normal(0, 1, choices)[picked]
            space.columns.append(Column(None, picked * 1.0, picked * 0.0, picked))
    return effect


def _smooth(g: Generator, columns: Sequence[Column], count: int, spread: float) -> Floats:
    """What no formula says: a smooth random function of all ordered parameters, and quirks of single values.

    Random Fourier features (Rahimi and Recht, 2007) of a Gaussian process.
    """
    effect = np.zeros(count)
    ordered = [column for column in columns if column.categories is None]
    if spread == 0.0 and g.random() < 0.5:
        spread = float(np.exp(g.uniform(np.log(0.02), np.log(0.4))))
    if ordered and spread:
        places = np.stack([column.positions for column in ordered], axis=1)
        waves = g.normal(0, 1, (_WAVES, len(ordered))) / np.exp(g.uniform(np.log(0.25), np.log(3)))
        phases = g.uniform(0, 2 * np.pi) + np.arange(_WAVES)
        effect = effect + spread * np.cos(places @ waves.T + phases) @ g.normal(0, 1, _WAVES) * math.sqrt(2 / _WAVES)
    for column in ordered:
        if g.random() < 0.3:
            size = np.exp(g.uniform(np.log(0.01), np.log(0.15)))
            values, which = np.unique(column.values, return_inverse=True)
            effect = effect + size * g.normal(0, 1, len(values))[which]
    return np.asarray(effect)


_Served = tuple[Floats, Floats, Floats, Floats, Floats, NDArray[np.bool_]]


def _gpu_server(g: Generator, limit_s: float, given: Configurations, *, full: bool) -> _Served:
    """Requests/s, latency of a full batch alone or at `full` throughput, that of a lone request, memory over what there
    is, use of the GPU; whether cores hold it back.
    """
    assert given.physics is not None  # noqa: S101 (asked by the caller)
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
    together = g.uniform(0.85, 1.0) if g.random() < 0.5 else g.uniform(0.3, 1.0)  # how well processes overlap
    rate = _least(workers**together * batch / alone_s, batch / busy_s, g) / interference
    # At full load each worker has a batch under way (Little's law); at the rate that the limit allows, fewer do.
    queued_s = workers * batch / rate if full else busy_s * workers * g.uniform(0.3, 1.0) * interference
    latency_s = np.maximum(alone_s * interference, queued_s)
    # What cores prepare, against what the GPU does in the middle of the space: often too little, often far too much.
    prepared = given.cores * float(np.median(rate)) * np.exp(g.uniform(np.log(0.03), np.log(10)))
    by_cores = prepared < rate
    rate = _least(rate, prepared, g)
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
    rate = _least(rate, cores / (item_s * np.exp(g.uniform(np.log(0.05), np.log(2)))), g)
    rate = rate / (1 + g.uniform(0, 0.05) * (workers - 1))
    latency_s = alone_s * np.maximum(1.0, workers * running / cores) * fight
    if full:
        latency_s = np.maximum(alone_s, workers * batch / rate)
    model = np.exp(g.uniform(np.log(0.1), np.log(8)))
    need = (model * workers + np.exp(g.uniform(np.log(0.001), np.log(0.1))) * batch * workers) / given.memory_gib
    lone_s = overhead_s + item_s / faster
    return rate, latency_s, lone_s, need, np.clip(rate * busy_s / batch / cores, 0, 1), running * workers >= cores


def _least(one: Floats, other: Floats, g: Generator) -> Floats:
    """The slower of two stages, with a corner that is more or less round."""
    sharp = np.exp(g.uniform(np.log(1.5), np.log(12)))
    return np.asarray((one**-sharp + other**-sharp) ** (-1 / sharp))


def _price(g: Generator, cores: Floats, memory: Floats, gpu_price: Floats, replicas: Floats) -> Floats:
    core = 0.04 if g.random() < 0.8 else 0.0
    gib = 0.005 * np.where(np.isfinite(memory), memory, 0.0)
    fixed = np.exp(g.uniform(np.log(0.001), np.log(0.3))) if g.random() < 0.3 else 1e-3
    return np.asarray((core * cores + gib + gpu_price + fixed) * replicas)
