"""What trials of other studies make one expect of this one.

The network is shown them as if they were this study's own, brought to its level and as uncertain as they have proved to
be: how far the other study's services are from this one's shows as soon as a few of its own trials have ended.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tuner.search.surrogate.features import Candidates, Floats, Ints, Trials
from tuner.search.surrogate.inference import SurrogateNetwork
from tuner.search.surrogate.predict import Prediction, Predictor

_MAX = 32  # of them: the network was trained with some 50 trials at most
_UNLIKE, _TRIALS = (
    0.3,
    2.0,
)  # how far in logs they are expected to be from this study, and for how many trials it counts


class CarriedOver:
    """Predictions by the trials of this study and of earlier ones, which are of the configurations `before`."""

    def __init__(self, candidates: Candidates, before: Candidates, earlier: Trials, network: SurrogateNetwork) -> None:
        self._predictor = Predictor(candidates, before, network=network)
        kept = earlier.only(_chosen(earlier, before.log_price[earlier.index]))
        self._earlier = replace(kept, index=kept.index + len(candidates))

    def predict(self, trials: Trials, which: Ints | None = None) -> Prediction:
        """For some configurations, or all."""
        level, unlike = self._apart(trials)
        shifted = np.where(self._earlier.state <= 1, self._earlier.log_capacity + level, self._earlier.log_capacity)
        error = np.hypot(np.nan_to_num(self._earlier.error), unlike)
        saturated = self._earlier.log_saturated + level
        told = replace(self._earlier, log_capacity=shifted, log_saturated=saturated, error=error)
        return self._predictor.predict(trials.plus(told), which)

    def _apart(self, trials: Trials) -> tuple[float, float]:
        """By how much this study's capacities are above the earlier ones', in logs, and the spread around that."""
        own = trials.only(trials.state == 0)
        if not len(own):
            return 0.0, _UNLIKE
        above = own.log_capacity - self._predictor.predict(self._earlier, own.index).middle()
        level = float(above.mean())
        squares = _TRIALS * _UNLIKE**2 + float(((above - level) ** 2).sum())
        return level, float(np.sqrt(squares / (_TRIALS + len(own) - 1)))


def _chosen(earlier: Trials, log_price: Floats) -> Ints:
    """Half of them the cheapest, the others evenly from the rest."""
    if len(earlier) <= _MAX:
        return np.arange(len(earlier))
    cost = np.where(earlier.state == 0, np.nan_to_num(log_price) - earlier.log_capacity, np.inf)
    order = np.argsort(cost, kind="stable")
    rest = np.sort(order[_MAX // 2 :])
    return np.sort(np.concatenate([order[: _MAX // 2], rest[:: max(1, len(rest) // (_MAX // 2))][: _MAX // 2]]))
