"""Doubt about what is unlike all that was tried, which grows while nothing better is found.

The experts of the mixture earn their weights by how well they predict the trials, and a search tries what is near its
best: of what lies far from every trial the weights say little. Where two parameters help only together (a second core
without a second worker is money for nothing), a search that goes by the weights alone stays where it is. So where
little more is expected, and the longer nothing better was found, predictions of what differs in several parameters
from every trial are wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tuner.search.surrogate.features import Candidates, Floats, Ints, Trials
from tuner.search.surrogate.predict import Prediction

# Chosen on made-up services, measured tables and services with knobs that nothing is reported on.
_LASTING = 3  # trials without a better one, after which the doubt is whole
_EACH, _MAX = 0.5, 3.0  # times a spread: for each further parameter that differs, and at most
_MIN_GAIN = 0.02  # in logs: less is luck, not a better one


def stagnation(losses: Sequence[float | None]) -> int:
    """How many trials have ended since the last that was better than all before it. None: it has no loss, as where it
    was pruned or infeasible.
    """
    best, since = np.inf, 0
    for loss in losses:
        if loss is not None and loss < best - _MIN_GAIN:
            best, since = loss, 0
        else:
            since += 1
    return since if np.isfinite(best) else 0


def doubted(
    predictions: Sequence[tuple[float, Prediction]], candidates: Candidates, trials: Trials, stagnant: int
) -> list[tuple[float, Prediction]]:
    """The predictions with their weights, their spreads wider the less like a trial a candidate is."""
    each = _EACH * min(1.0, stagnant / _LASTING)
    if not each or not len(trials):
        return list(predictions)
    wider = np.clip(1 + each * (_differing(candidates, trials.index) - 1), 1.0, _MAX)[:, None]
    return [(weight, replace(one, spread=one.spread * wider)) for weight, one in predictions]


def _differing(candidates: Candidates, tried: Ints) -> Floats:
    """Per candidate: in how many parameters it differs from the trial that is most like it."""
    columns = [one.positions if one.categories is None else one.categories for one in candidates.columns]
    values = np.nan_to_num(np.stack(columns, axis=1).astype(np.float64), nan=-1.0)
    found = np.full(len(values), float(values.shape[1]))
    for row in values[np.unique(tried)]:
        found = np.minimum(found, (values != row).sum(axis=1))
    return found
