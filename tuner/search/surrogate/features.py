"""What the network sees: configurations by what their parameters physically do, and trials with all they measured.

A configuration is a row of numbers of fixed length, whatever the space: a slot per role, a few for ordered parameters
without one, a few for categories. What a space does not have, or a trial did not measure, is zero with its mask zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROLE_SLOTS = (
    "cpu_cores", "memory", "gpu_memory", "batch_size", "batch_delay", "threads", "workers", "replicas", "precision",
)  # fmt: skip
ORDERED_SLOTS, CATEGORY_SLOTS, MOST_CATEGORIES = 6, 4, 6
STATES = ("complete", "pruned", "oom", "slow", "failed")
OUTCOMES = ("ok", "oom", "slow", "failed")
# Logs of p99, of the median and of a lone request's latency over the limit; shares of what was granted; 1 or 0 for
# what held it back.
MEASURED = ("p99", "p50", "lone", "cpu", "gpu", "memory", "bound_by_cpu", "bound_by_gpu")

CONFIGURATION_WIDTH = len(ROLE_SLOTS) * 3 + 4 + ORDERED_SLOTS * 3 + CATEGORY_SLOTS * (1 + MOST_CATEGORIES) + 2
TRIAL_WIDTH = len(STATES) + 6 + 2 * len(MEASURED)


@dataclass(frozen=True)
class Column:
    """One parameter over all configurations.

    `values` are the numbers that choices stand for (cores, GiB, items, milliseconds, bits; of a GPU slice only its size
    relative to the others matters), `positions` their ranks from 0 to 1; nan where a configuration does not have the
    parameter. `categories` are set instead where choices have no order; -1 for one that is not known.
    """

    role: str | None
    values: Floats
    positions: Floats
    categories: Ints | None = None


@dataclass(frozen=True)
class Candidates:
    """All configurations of a space: its columns, log prices (nan: unknown) and the GPU's physics per configuration.

    `gpu` has a row of log TFLOP/s, log GB/s and log GiB of the slice; nan where there is no GPU, or an unknown one.
    """

    columns: tuple[Column, ...]
    log_price: Floats
    gpu: Floats

    def __len__(self) -> int:
        return len(self.log_price)


@dataclass(frozen=True)
class Trials:
    """What was measured, as parallel arrays; `index` is the configuration's. Log capacities are in requests/s.

    `log_capacity` is that of a complete trial, or the bound that a pruned one proved. `log_saturated` is the throughput
    at full load, whatever the latency: what most trials show, however they end. `measured` has a column for each of
    MEASURED. Both are nan where not known. `earlier` marks trials of another study.
    """

    index: Ints
    state: Ints
    log_capacity: Floats
    log_saturated: Floats
    measured: Floats
    earlier: NDArray[np.bool_]

    @classmethod
    def none(cls) -> Trials:
        """Before the first."""
        whole = np.zeros(0, dtype=np.int64)
        return cls(whole, whole, np.zeros(0), np.zeros(0), np.zeros((0, len(MEASURED))), np.zeros(0, dtype=bool))

    def __len__(self) -> int:
        return len(self.index)

    def plus(self, other: Trials) -> Trials:
        """Both, these first."""
        return Trials(*(np.concatenate(pair) for pair in zip(self._arrays(), other._arrays(), strict=True)))

    def only(self, which: NDArray[Any]) -> Trials:
        """Some of them, by number or by mask."""
        return Trials(*(array[which] for array in self._arrays()))

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return (self.index, self.state, self.log_capacity, self.log_saturated, self.measured, self.earlier)

    @property
    def throughputs(self) -> Floats:
        """What tells how fast this service is: log capacities and bounds, and before any the throughputs at full load;
        those of this study, and before any those of earlier ones.
        """
        capacities = np.where(self.state <= 1, self.log_capacity, np.nan)  # complete or pruned
        for which in (~self.earlier, self.earlier):
            for known in (capacities, self.log_saturated):
                found = known[which & ~np.isnan(known)]
                if len(found):
                    return np.asarray(found)
        return np.zeros(0)


def encode_configurations(candidates: Candidates, usual_price: float | None = None) -> NDArray[np.float32]:
    """A row of CONFIGURATION_WIDTH per configuration. `usual_price` is the log price that is 0 in it, by default their
    mean.
    """
    count = len(candidates)
    parts: list[Floats] = []
    by_role: dict[str, Column] = {}
    for column in candidates.columns:
        if column.role in ROLE_SLOTS and column.categories is None:
            by_role.setdefault(column.role, column)
    slotted = [id(column) for column in by_role.values()]
    parts += [_numeric(by_role[role], role) if role in by_role else np.zeros((count, 3)) for role in ROLE_SLOTS]
    known = ~np.isnan(candidates.gpu).any(axis=1, keepdims=True)
    parts.append(np.hstack([known.astype(float), np.nan_to_num(candidates.gpu - [[4.5, 6.5, 3.0]]) / 2]))
    ordered = [one for one in candidates.columns if one.categories is None and id(one) not in slotted]
    parts += [_numeric(one, None) for one in ordered[:ORDERED_SLOTS]]
    parts += [np.zeros((count, 3))] * (ORDERED_SLOTS - len(ordered))
    unordered = [one for one in candidates.columns if one.categories is not None]
    parts += [_one_hot(one) for one in unordered[:CATEGORY_SLOTS]]
    parts += [np.zeros((count, 1 + MOST_CATEGORIES))] * (CATEGORY_SLOTS - len(unordered))
    priced = ~np.isnan(candidates.log_price)
    middle = mean_price(candidates) if usual_price is None else usual_price
    parts.append(np.stack([priced.astype(float), np.nan_to_num(candidates.log_price - middle)], axis=1))
    return np.hstack(parts).astype(np.float32)


def mean_price(candidates: Candidates) -> float:
    """The mean of the log prices that are known; 0 where none is."""
    priced = ~np.isnan(candidates.log_price)
    return float(np.mean(candidates.log_price[priced])) if priced.any() else 0.0


def encode_trials(trials: Trials) -> tuple[NDArray[np.float32], float]:
    """A row of TRIAL_WIDTH per trial, and the log capacity that is 0 in it: the mean of the throughputs known."""
    throughputs = trials.throughputs
    middle = float(throughputs.mean()) if len(throughputs) else 0.0
    rows = np.zeros((len(trials), TRIAL_WIDTH))
    rows[np.arange(len(rows)), trials.state] = 1.0
    complete, pruned = trials.state == 0, trials.state == 1
    at = len(STATES)
    rows[complete, at] = trials.log_capacity[complete] - middle
    rows[pruned, at + 1] = trials.log_capacity[pruned] - middle
    rows[:, at + 2] = float(len(throughputs) > 0)
    rows[:, at + 3] = trials.earlier
    rows[:, at + 4] = ~np.isnan(trials.log_saturated)
    rows[:, at + 5] = np.nan_to_num(trials.log_saturated - middle)
    at += 6
    rows[:, at : at + len(MEASURED)] = np.clip(np.nan_to_num(trials.measured), -4, 4)
    rows[:, at + len(MEASURED) :] = ~np.isnan(trials.measured)
    return rows.astype(np.float32), middle


def _numeric(column: Column, role: str | None) -> Floats:
    """Present, the logarithm of the value, its rank. Where units mean nothing the logarithm spans the values' range."""
    present = ~np.isnan(column.values)
    if not present.any():
        return np.zeros((len(column.values), 3))
    values = np.where(present, column.values, np.nanmin(column.values)) + (1.0 if role == "batch_delay" else 0.0)
    logs = np.log2(np.maximum(values, 1e-6)) if (values > 0).all() else values
    if role == "gpu_memory":
        logs = logs - logs.max()
    elif role is None:
        spread = float(logs.max() - logs.min())
        logs = (logs - logs.min()) / spread * 3 if spread > 0 else np.zeros_like(logs)
    return np.stack([present, present * logs / 3, present * (np.nan_to_num(column.positions) * 2 - 1)], axis=1)


def _one_hot(column: Column) -> Floats:
    assert column.categories is not None  # noqa: S101 (asked by the caller)
    rows = np.zeros((len(column.categories), 1 + MOST_CATEGORIES))
    rows[:, 0] = 1.0
    known = np.flatnonzero(column.categories >= 0)
    rows[known, 1 + column.categories[known] % MOST_CATEGORIES] = 1.0
    return rows


# Dense 16-bit tensor TFLOP/s, GB/s and GiB, from the makers' data sheets.
GPUS: dict[str, tuple[float, float, float]] = {
    "k80": (8.7, 480, 24), "p4": (11, 192, 8), "p100": (19, 732, 16), "v100": (125, 900, 16), "t4": (65, 320, 16),
    "l4": (121, 300, 24), "a2": (18, 200, 16), "a10": (125, 600, 24), "a10g": (70, 600, 24), "a16": (18, 200, 16),
    "a30": (165, 933, 24), "a40": (150, 696, 48), "a100": (312, 1935, 80), "l40": (181, 864, 48),
    "l40s": (362, 864, 48), "h100": (989, 3350, 80), "h200": (989, 4800, 141), "b200": (2250, 8000, 180),
    "rtx3090": (71, 936, 24), "rtx4090": (165, 1008, 24), "mi300x": (1307, 5300, 192),
}  # fmt: skip


def gpu_physics(name: str) -> tuple[float, float, float] | None:
    """Of a GPU by whatever it is called: `NVIDIA-A100-SXM4-80GB` is an A100 of 80 GiB."""
    words = name.lower().replace("geforce", "").replace(" ", "-").replace("_", "-").split("-")
    found = next((GPUS[word] for word in words if word in GPUS), None)
    if found is None:
        joined = "".join(words)
        found = next((GPUS[key] for key in sorted(GPUS, key=len, reverse=True) if key in joined), None)
    size = next((float(word.removesuffix("gb")) for word in words if word.endswith("gb") and word[:-2].isdigit()), None)
    return found if found is None or size is None else (found[0], found[1], size)


def log_physics(name: str, compute: float, memory: float) -> Sequence[float]:
    """Logs of what shares of a GPU's compute, and of its memory and bandwidth, have; nan where it is unknown."""
    found = gpu_physics(name)
    shares = (compute, memory, memory)
    return (
        [math.nan] * 3 if found is None else [math.log(one * share) for one, share in zip(found, shares, strict=True)]
    )
