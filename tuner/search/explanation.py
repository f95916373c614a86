"""What a search has learned of the parameters: how much each matters, and the surface over the two that matter most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from results import Explanation, Surface
from tuner.search.candidates import CandidatePool
from tuner.search.objective import Objective

if TYPE_CHECKING:
    from tuner.search.surrogate.acquisition import Losses
    from tuner.search.surrogate.features import Floats
    from tuner.search.surrogate.predict import Prediction

_MAX_CELLS = 10_000  # of the surface


def explained(
    pool: CandidatePool, objective: Objective, predictions: list[tuple[float, Prediction]], losses: Losses, trust: float
) -> Explanation:
    """What was learned of the objective's first metric, from the predictions for all candidates."""
    from tuner.search.surrogate.explain import total_effects
    from tuner.search.surrogate.mixture import mixed

    every = np.arange(len(pool))

    def figure(which: Callable[[Prediction], tuple[Floats, Floats]]) -> Floats:
        at = [which(one) for _, one in predictions]
        return mixed(predictions, [losses(cap[:, None, None], p99[:, None, None])[0][:, 0, 0] for cap, p99 in at])

    loss = figure(lambda one: (one.middle(), one.p99_mean))
    low = figure(lambda one: (one.quantiles(every, 0.95), one.p99_mean - 1.645 * one.p99_spread))
    high = figure(lambda one: (one.quantiles(every, 0.05), one.p99_mean + 1.645 * one.p99_spread))
    serves = mixed(predictions, [one.outcome[:, 0] for _, one in predictions])
    expected = serves > 0.5
    effects = total_effects(pool.ranks[expected], loss[expected]) if expected.any() else [0.0] * pool.ranks.shape[1]
    order = [int(one) for one in np.argsort(effects)[::-1]]
    return Explanation(
        metric=objective.metrics[0],
        surface=_surface(pool, order, (loss, low, high), serves, upward=objective.maximised[0]),
        trust=trust,
        # An effect is a share; where much of the space cannot serve, its estimate can come out above 1.
        importance={pool.space.names[one]: min(1.0, effects[one]) for one in order},
    )


def _surface(
    pool: CandidatePool, order: list[int], figures: tuple[Floats, Floats, Floats], serves: Floats, *, upward: bool
) -> Surface | None:
    """Over the first two of `order`; None where there are no two, or the surface would be too large to show."""
    from tuner.search.surrogate.explain import as_rows, best_over

    if len(order) < 2:
        return None
    x, y = (pool.space.parameters[one] for one in order[:2])
    if len(x.choices) * len(y.choices) > _MAX_CELLS:
        return None
    (loss, low, high), sign = figures, -1.0 if upward else 1.0
    where = best_over(pool.ranks, (order[0], order[1]), (len(x.choices), len(y.choices)), loss, serves)
    return Surface(
        x=x.name, y=y.name, x_values=tuple(x.choices), y_values=tuple(y.choices),
        value=as_rows(np.exp(sign * loss), where),
        low=as_rows(np.exp(sign * (high if sign < 0 else low)), where),
        high=as_rows(np.exp(sign * (low if sign < 0 else high)), where),
    )  # fmt: skip
