"""How often a latency limit is missed, from all latencies and not only from the few that missed it.

The excess over a high threshold is close to exponential in queues (and a single exponential is what the theory of
peaks over thresholds leaves when its shape is zero: Coles, An Introduction to Statistical Modeling of Extreme Values,
2001, chapter 4). So the share beyond the limit is the share beyond the threshold, times what the excesses say about
the rest of the way. With more evidence the threshold moves towards the limit, and the model matters less.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MIN_SHARE = 1e-7


def share_beyond(values_s: Floats, limit_s: float, threshold_s: float) -> float:
    """The share of values over the limit; infinite ones (failures) are counted as they are.

    Excesses are censored at the limit: how far beyond it a request came does not matter.
    """
    if not len(values_s):
        return 0.5
    failed = float(np.isinf(values_s).mean())
    finite = values_s[np.isfinite(values_s)]
    if threshold_s >= limit_s or not len(finite):
        return max(_MIN_SHARE, float((values_s > limit_s).mean()))
    excess = finite[finite > threshold_s] - threshold_s
    room = limit_s - threshold_s
    within = int((excess <= room).sum())
    if not len(excess):
        late = 0.0
    elif not within:
        late = len(excess) / len(finite)
    else:
        late = len(excess) / len(finite) * math.exp(-room * within / float(np.minimum(excess, room).sum()))
    return min(1.0, max(_MIN_SHARE, failed + (1 - failed) * late))
