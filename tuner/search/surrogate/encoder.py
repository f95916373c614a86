"""What the network sees of one space and of the trials in it, as numpy arrays.

A space is described parameter by parameter, so that any number of parameters, in any order, with or without roles, is
understood: what a parameter is (`Space.role`), the number that each choice stands for, its rank, what choosing it does
to the price. Two configurations are compared parameter by parameter too (`relations`): whether they share the value,
and how far apart their values are. `training.search.model.encoding` is the same for batches of spaces in PyTorch, by
which the network was trained; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# The place of a role here is its number for the network: new ones go to the end. 0 is "no role".
ROLES = (
    "", "cpu_cores", "memory", "gpu_type", "gpu_memory", "batch_size", "batch_delay", "threads", "workers", "replicas",
    "precision", "instances", "concurrency", "gpu_memory_share", "engine", "compile", "gpus", "instance_type",
    "gpu_compute", "power_cap", "tensor_parallel", "pipeline_parallel", "sequence_parallel",
)  # fmt: skip
STATES = ("complete", "pruned", "oom", "slow", "failed")
OUTCOMES = ("ok", "oom", "slow", "failed")
# Logs of p99, of the median and of a lone request's latency over the limit; shares of what was granted; 1 or 0 for
# what held it back.
MEASURED = ("p99", "p50", "lone", "cpu", "gpu", "memory", "bound_by_cpu", "bound_by_gpu")
# Logs of dense 16-bit TFLOP/s, GB/s and GiB of the GPU's share, of cores, of GiB of memory, and of the number of GPUs.
PHYSICS = ("tflops", "bandwidth", "gpu_gib", "cores", "memory_gib", "gpus")
USUAL_PHYSICS = (4.5, 6.5, 3.0, 2.0, 3.0, 0.0)
MAX_PRICED_CHOICES = 64  # of one parameter that the price statistics tell apart; more share theirs
CODES, CODE_WIDTH = 97, 4
LARGE_SPACE = 256  # spaces with more configurations are alike
RELATIVE_ROLE = ROLES.index("gpu_memory")  # a slice's size may be in any unit: only its relation to the others is shown

PARAMETER_WIDTH = len(ROLES) + 5
VALUE_WIDTH = 8 + CODE_WIDTH
SPACE_WIDTH = 2 + 2 * len(PHYSICS) + 3
TRIAL_WIDTH = len(STATES) + 11 + 2 * len(MEASURED)
RELATIONS, WHOLE_RELATIONS = 4, 4


@dataclass(frozen=True)
class Space:
    """N configurations of P parameters.

    `role` (P) are numbers of ROLES; `categorical` (P) says that choices have no order; `value` (N, P) is the number
    that the choice stands for (nan: none), `rank` (N, P) its place among the choices from 0 on (-1: the configuration
    lacks the parameter); `salt` (P) varies the codes of choices. `log_price` (N) and `physics` (N, len(PHYSICS)) are
    nan where unknown.
    """

    role: Ints
    categorical: Bools
    salt: Ints
    value: F32
    rank: Ints
    log_price: F32
    physics: F32


@dataclass(frozen=True)
class Encoded:
    """A space as the network takes it: `parameter` (P, PARAMETER_WIDTH), `value` (N, P, VALUE_WIDTH), `space` (N,
    SPACE_WIDTH); for relations `rank`, `place` and `log` (N, P) and `whole` (N, 2).
    """

    parameter: F32
    value: F32
    space: F32
    rank: Ints
    place: F32
    log: F32
    whole: F32

    def only(self, index: Ints | slice) -> Encoded:
        """Some of its configurations."""
        return replace(
            self, value=self.value[index], space=self.space[index], rank=self.rank[index], place=self.place[index],
            log=self.log[index], whole=self.whole[index],
        )  # fmt: skip


def encode(space: Space) -> Encoded:
    """All configurations; what is relative, is relative to all of the space's configurations given here."""
    present = space.rank >= 0
    numeric = present & ~np.isnan(space.value) & ~space.categorical
    value = np.nan_to_num(space.value)
    logs = _logs(value, numeric)
    low, high = _extreme(logs, numeric, lowest=True), _extreme(logs, numeric, lowest=False)
    span = np.maximum(high - low, 1e-6)
    relative = np.where(numeric & (high > low), (logs - low) / span * 2 - 1, 0.0)
    choices = np.where(present, space.rank, 0).max(axis=0) + 1
    place = space.rank / np.maximum(choices - 1, 1) * 2 - 1
    place = np.where(present & (choices > 1), place, 0.0)
    dear, order, spread = _prices(space, present)
    hides_units = space.role == RELATIVE_ROLE
    absolute = np.where(numeric, np.where(hides_units, logs - high, logs) / 8, 0.0).clip(-3, 3)
    features = [present, numeric, numeric & (value == 0), absolute, relative, place, dear, order]
    per_value = np.concatenate([np.stack(features, axis=-1), _codes(space) * present[..., None]], axis=-1)
    whole, per_configuration = _whole(space)
    # Categories have no places; what they cost puts them in an order.
    place = np.where(space.categorical, order, place)
    more = [
        space.categorical, np.log(choices) / 3, spread, np.minimum(span / 8, 3),
        np.where(hides_units, 0.0, high / 8).clip(-3, 3),
    ]  # fmt: skip
    parameter = np.concatenate([np.eye(len(ROLES))[space.role], np.stack(more, axis=-1)], axis=-1)
    return Encoded(
        _f32(parameter), _f32(per_value), per_configuration, space.rank, _f32(place), _f32(relative * span / 8), whole
    )


def _f32(values: NDArray[Any]) -> F32:
    return values.astype(np.float32)


def _logs(value: F32, numeric: Bools) -> F32:
    """Base 2; 0 stands one below the least positive choice; numbers below 0 have no logarithm: their own scale."""
    positive = numeric & (value > 0)
    logs = np.log2(np.where(positive, value, 1.0))
    lowest = np.where(positive, logs, np.inf).min(axis=0)
    logs = np.where(positive, logs, np.where(np.isfinite(lowest), lowest, 1.0) - 1)
    negative = (numeric & (value < 0)).any(axis=0)
    size = np.maximum(np.where(numeric, np.abs(value), 0.0).max(axis=0), 1e-6)
    return _f32(np.where(negative, value / size * 4, logs))


def _extreme(logs: F32, numeric: Bools, *, lowest: bool) -> F32:
    """Per parameter; 0 where there is no number."""
    extreme = np.where(numeric, logs, np.inf).min(axis=0) if lowest else np.where(numeric, logs, -np.inf).max(axis=0)
    return _f32(np.where(np.isfinite(extreme), extreme, 0.0))


def _prices(space: Space, present: Bools) -> tuple[Floats, Floats, Floats]:
    """What a choice does to the price: the mean log price of the configurations that have it over that of all; its
    place among the choices by that, from -1 to 1; and how far choices are apart, per parameter.
    """
    priced = present & ~np.isnan(space.log_price)[:, None]
    price = np.nan_to_num(space.log_price - _mean(space.log_price)).astype(np.float64)
    slot = space.rank.clip(0, MAX_PRICED_CHOICES - 1)
    shape = (MAX_PRICED_CHOICES, slot.shape[1])
    count, total = np.zeros(shape), np.zeros(shape)
    for column in range(slot.shape[1]):
        weight = priced[:, column].astype(np.float64)
        count[:, column] = np.bincount(slot[:, column], weight, MAX_PRICED_CHOICES)
        total[:, column] = np.bincount(slot[:, column], price * weight, MAX_PRICED_CHOICES)
    mean = total / np.maximum(count, 1)
    some = count > 0
    order = (np.where(some, mean, np.inf)[:, None, :] < (mean - 1e-4)[None, :, :]).sum(axis=0)
    place = order / np.maximum(some.sum(axis=0) - 1, 1) * 2 - 1
    spread = (mean**2 * some).sum(axis=0) / np.maximum(some.sum(axis=0), 1)
    columns = np.arange(slot.shape[1])
    dear = np.where(priced, mean[slot, columns], 0.0).clip(-4, 4)
    return dear, np.where(priced & (spread >= 1e-8), place[slot, columns], 0.0), np.minimum(np.sqrt(spread), 4)


def _mean(values: F32) -> float:
    known = values[~np.isnan(values)]
    return float(known.sum() / max(1, len(known)))


def _codes(space: Space) -> F32:
    """Numbers without meaning by which choices are told apart."""
    return np.asarray(code_table()[(space.rank.clip(0) * 7 + space.salt) % CODES])


@cache
def code_table() -> F32:
    """Normal numbers, as PyTorch draws them on a CPU with the seed 1: from the Mersenne Twister's 24 lowest bits, by
    Box and Muller's transformation of eight pairs at a time. What is left over at the end replaces the last sixteen.
    """
    size, generator = CODES * CODE_WIDTH, np.random.RandomState(1)

    def draws(count: int) -> F32:
        bits = generator.randint(0, 2**32, count, dtype=np.uint64) & (2**24 - 1)
        return _f32(bits / 2**24)

    def transformed(uniform: F32) -> F32:
        radius, angle = np.sqrt(-2 * np.log1p(-uniform[:8])), 2 * np.pi * uniform[8:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])

    uniform = draws(size)
    numbers = uniform.copy()
    for begin in range(0, size - 15, 16):
        numbers[begin : begin + 16] = transformed(uniform[begin : begin + 16])
    if size % 16:
        numbers[-16:] = transformed(draws(16))
    return numbers.reshape(CODES, CODE_WIDTH)


def _whole(space: Space) -> tuple[F32, F32]:
    """Price and physics per configuration, and how large the space is."""
    priced = ~np.isnan(space.log_price)
    price = np.where(priced, space.log_price - _mean(space.log_price), 0.0)
    physics = np.nan_to_num((space.physics - np.array(USUAL_PHYSICS, dtype=np.float32)) / 2)
    count, parameters = space.rank.shape
    spread = np.sqrt((price**2).sum() / max(1, priced.sum()))
    sizes = np.array([np.log(min(count, LARGE_SPACE)) / 5 - 1, parameters / 4, spread])
    per_configuration = np.concatenate(
        [priced[:, None], price[:, None], ~np.isnan(space.physics), physics, np.tile(sizes, (count, 1))], axis=1
    )
    return _f32(np.stack([price, physics[:, 0]], axis=-1)), _f32(per_configuration.clip(-6, 6))


def relations(query: Encoded, trial: Encoded) -> F32:
    """(P * RELATIONS + WHOLE_RELATIONS, queries, trials): per parameter whether the value is the same, how far the
    places are apart (size, and with sign) and the logarithms; of the whole the difference in price (with sign, and
    size), the share of parameters that differ, and whether at most one does.
    """
    parameters = query.rank.shape[1]
    related = np.empty((parameters * RELATIONS + WHOLE_RELATIONS, len(query.rank), len(trial.rank)), dtype=np.float32)
    differ = np.zeros(related.shape[1:], dtype=np.float32)
    for column in range(parameters):
        alike = query.rank[:, column, None] == trial.rank[None, :, column]
        apart = (query.place[:, column, None] - trial.place[None, :, column]) / 2
        logs = np.abs(query.log[:, column, None] - trial.log[None, :, column])
        related[column * RELATIONS : (column + 1) * RELATIONS] = alike, np.abs(apart), apart, logs
        differ += ~alike
    dearer = query.whole[:, None, 0] - trial.whole[None, :, 0]
    related[parameters * RELATIONS :] = dearer, np.abs(dearer), differ / max(1, parameters), differ <= 1
    return related
