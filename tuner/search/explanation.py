"""What a search has learned of the parameters: how much each matters, and the surface over the two that matter most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from results import Explanation, Surface
from tuner.search.candidates import CandidatePool
from tuner.search.objective import Objective

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tuner.search.surrogate.acquisition import Losses
    from tuner.search.surrogate.features import Floats
    from tuner.search.surrogate.predict import Prediction

_MAX_CELLS = 10_000  # of the surface


def explained(
    pool: CandidatePool, objective: Objective, predictions: list[tuple[float, Prediction]], losses: Losses, trust: float
) -> Explanation:
    """What was learned of the objective's first metric, from the predictions for all candidates. Where that is one of
    tokens, what is predicted is that of requests, and is called so.
    """
    from tuner.search.surrogate.explain import total_effects
    from tuner.search.surrogate.mixture import mixed

    def figure(which: Callable[[Prediction], tuple[Floats, Floats]]) -> Floats:
        at = [which(one) for _, one in predictions]
        return mixed(predictions, [losses(cap[:, None, None], p99[:, None, None])[0][:, 0, 0] for cap, p99 in at])

    loss = figure(lambda one: (one.middle(), one.p99_mean))
    serves = mixed(predictions, [one.outcome[:, 0] for _, one in predictions])
    expected = serves > 0.5
    effects = total_effects(pool.ranks[expected], loss[expected]) if expected.any() else [0.0] * pool.ranks.shape[1]
    order = [int(one) for one in np.argsort(effects)[::-1]]
    where = _cells(pool, order, loss, serves)
    shown = np.zeros(0, dtype=np.int64) if where is None else np.unique(where[where >= 0])

    def quantiles(one: Prediction, probability: float) -> Floats:
        """Of what is shown alone: of all configurations they take as long as several trials' search."""
        found = np.full(len(pool), np.nan)
        found[shown] = one.quantiles(shown, probability)
        return found

    low = figure(lambda one: (quantiles(one, 0.95), one.p99_mean - 1.645 * one.p99_spread))
    high = figure(lambda one: (quantiles(one, 0.05), one.p99_mean + 1.645 * one.p99_spread))
    return Explanation(
        metric=objective.predicted,
        surface=_surface(pool, order, (loss, low, high), where, upward=objective.maximised[0]),
        trust=trust,
        # An effect is a share; where much of the space cannot serve, its estimate can come out above 1.
        importance={pool.space.names[one]: min(1.0, effects[one]) for one in order},
    )


def _cells(pool: CandidatePool, order: list[int], loss: Floats, serves: Floats) -> NDArray[np.int64] | None:
    """The configuration of each cell of a surface over the first two of `order`; None where there are no two, or the
    surface would be too large to show.
    """
    from tuner.search.surrogate.explain import best_over

    if len(order) < 2:
        return None
    x, y = (len(pool.space.parameters[one].choices) for one in order[:2])
    return None if x * y > _MAX_CELLS else best_over(pool.ranks, (order[0], order[1]), (x, y), loss, serves)


def _surface(
    pool: CandidatePool, order: list[int], figures: tuple[Floats, Floats, Floats], where: NDArray[np.int64] | None, *,
    upward: bool,
) -> Surface | None:  # fmt: skip
    """Over the first two of `order`."""
    from tuner.search.surrogate.explain import as_rows

    if where is None:
        return None
    x, y = (pool.space.parameters[one] for one in order[:2])
    (loss, low, high), sign = figures, -1.0 if upward else 1.0
    return Surface(
        x=x.name, y=y.name, x_values=tuple(x.choices), y_values=tuple(y.choices),
        value=as_rows(np.exp(sign * loss), where),
        low=as_rows(np.exp(sign * (high if sign < 0 else low)), where),
        high=as_rows(np.exp(sign * (low if sign < 0 else high)), where),
    )  # fmt: skip
