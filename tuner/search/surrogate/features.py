"""A space's configurations and what was measured of them, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.search.surrogate.encoder import MEASURED, OUTCOMES, PHYSICS, ROLES, STATES, Space

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ParameterColumn:
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
    """All configurations of a space: its columns, log prices (nan: unknown) and what hardware each of them has.

    `physics` has a column for each of `encoder.PHYSICS`; nan where there is no such hardware, or it is not known.
    """

    columns: tuple[ParameterColumn, ...]
    log_price: Floats
    physics: Floats

    def __len__(self) -> int:
        return len(self.log_price)


@dataclass(frozen=True)
class Trials:
    """What was measured, as parallel arrays; `index` is the configuration's. Log capacities are in requests/s.

    `log_capacity` is that of a complete trial, or the bound that a pruned one proved. `log_saturated` is the throughput
    at full load, whatever the latency: what most trials show, however they end. `measured` has a column for each of
    MEASURED. Both are nan where not known. `error` is the standard deviation of a log capacity, nan where nobody knows
    it.
    """

    index: Ints
    state: Ints
    log_capacity: Floats
    log_saturated: Floats
    measured: Floats
    error: Floats

    @classmethod
    def none(cls) -> Trials:
        """Before the first."""
        whole, empty = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(whole, whole, empty, empty, np.zeros((0, len(MEASURED))), empty)

    def __len__(self) -> int:
        return len(self.index)

    def plus(self, other: Trials) -> Trials:
        """Both, these first."""
        return Trials(*(np.concatenate(pair) for pair in zip(self._arrays(), other._arrays(), strict=True)))

    def only(self, which: NDArray[Any]) -> Trials:
        """Some of them, by number or by mask."""
        return Trials(*(array[which] for array in self._arrays()))

    def content(self) -> bytes:
        """All that they hold: the same for the same trials."""
        return b"".join(array.tobytes() for array in self._arrays())

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return (self.index, self.state, self.log_capacity, self.log_saturated, self.measured, self.error)

    @property
    def throughputs(self) -> Floats:
        """What tells how fast this service is: log capacities and bounds, else throughputs at full load."""
        capacities = np.where(self.state <= 1, self.log_capacity, np.nan)  # complete or pruned
        for known in (capacities, self.log_saturated):
            found = known[~np.isnan(known)]
            if len(found):
                return np.asarray(found)
        return np.zeros(0)


def space_of(candidates: Candidates, before: Candidates | None = None, *, roles: bool = True) -> Space:
    """The configurations, followed by those of another study of the same parameters. Without `roles` no
    parameter has any.
    """
    parts = [candidates] if before is None else [candidates, before]
    columns = list(zip(*(part.columns for part in parts), strict=True))
    role = [_role_number(each[0].role) if roles else 0 for each in columns]
    categorical = [each[0].categories is not None for each in columns]
    values, ranks = [], []
    for each in columns:
        value, rank = _value_and_rank(each)
        values.append(value)
        ranks.append(rank)
    log_price = np.concatenate([part.log_price for part in parts])
    physics = np.concatenate([part.physics for part in parts])
    return Space(
        np.array(role, dtype=np.int64), np.array(categorical), np.arange(len(columns)) * 13,
        np.stack(values, axis=1).astype(np.float32), np.stack(ranks, axis=1), log_price.astype(np.float32),
        physics.astype(np.float32),
    )  # fmt: skip


def _value_and_rank(each: tuple[ParameterColumn, ...]) -> tuple[Floats, Ints]:
    """Of one parameter in all studies: values (nan for categories), and their places among all there are, from 0."""
    if any(column.categories is not None for column in each):
        rank = np.concatenate([column.categories for column in each if column.categories is not None])
        return np.full(len(rank), np.nan), rank.astype(np.int64)
    value = np.concatenate([column.values for column in each])
    choices = np.unique(value[~np.isnan(value)])
    return value, np.where(np.isnan(value), -1, np.searchsorted(choices, value)).astype(np.int64)


def _role_number(role: str | None) -> int:
    return ROLES.index(role) if role in ROLES else 0


__all__ = [
    "MEASURED",
    "OUTCOMES",
    "PHYSICS",
    "STATES",
    "Candidates",
    "Floats",
    "Ints",
    "ParameterColumn",
    "Trials",
    "space_of",
]  # fmt: skip
