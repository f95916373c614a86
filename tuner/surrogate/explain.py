"""What the surrogate has learned, in numbers for a report: which parameters matter, and how the two that matter most
act together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from search_spaces import ParameterValue
from tuner.surrogate.features import Floats, Ints

_SERVES = 0.5


class Surface(BaseModel):
    """The objective's first metric over two parameters, all others at their best; [rows of `y`][columns of `x`].

    `low` and `high` enclose 90% of what is predicted; None where nothing is expected to serve.
    """

    model_config = ConfigDict(frozen=True)

    x: str
    y: str
    x_values: tuple[ParameterValue, ...]
    y_values: tuple[ParameterValue, ...]
    value: tuple[tuple[float | None, ...], ...]
    low: tuple[tuple[float | None, ...], ...]
    high: tuple[tuple[float | None, ...], ...]


class Explanation(BaseModel):
    """`importance` is the share of the variance of the predicted (log) metric that a parameter is part of: its total
    effect (Homma and Saltelli, 1996). Shares of parameters that act together overlap. `trust` is that in the network.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    importance: dict[str, float]
    surface: Surface | None
    trust: float


def total_effects(ranks: Ints, loss: Floats) -> list[float]:
    """Per parameter, how much of the loss's variance is left among configurations that differ in it alone."""
    variance = float(loss.var())
    if variance <= 0:
        return [0.0] * ranks.shape[1]
    found = []
    for parameter in range(ranks.shape[1]):
        _, group = np.unique(np.delete(ranks, parameter, axis=1), axis=0, return_inverse=True)
        group = group.ravel()
        size = np.bincount(group)
        mean = np.bincount(group, weights=loss) / size
        several = size[group] > 1
        found.append(float(((loss - mean[group]) ** 2)[several].mean()) / variance if several.any() else 0.0)
    return found


def best_over(
    ranks: Ints, pair: tuple[int, int], sizes: tuple[int, int], loss: Floats, serves: Floats
) -> NDArray[np.int64]:
    """Per pair of choices the number of the configuration with the least loss among those that serve; -1 for none."""
    found = np.full((sizes[1], sizes[0]), -1, dtype=np.int64)
    order = np.argsort(-np.where(serves > _SERVES, loss, np.inf))
    chosen = order[serves[order] > _SERVES]
    found[ranks[chosen, pair[1]], ranks[chosen, pair[0]]] = chosen  # the best is written last
    return found


def as_rows(values: Floats, where: NDArray[np.int64]) -> tuple[tuple[float | None, ...], ...]:
    """Values by configuration, laid out as `where`."""
    return tuple(tuple(None if one < 0 else float(values[one]) for one in row) for row in where)
