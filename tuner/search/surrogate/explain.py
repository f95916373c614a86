"""What the surrogate has learned, in numbers for a report: which parameters matter, and how the two that matter most
act together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.search.surrogate.features import Floats, Ints

_SERVES = 0.5


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
        shared = size[group] > 1
        found.append(float(((loss - mean[group]) ** 2)[shared].mean()) / variance if shared.any() else 0.0)
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
