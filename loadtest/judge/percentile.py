"""A percentile of latencies, with an interval that knows how requests wait together.

Order statistics give the interval for independent latencies; of a busy queue's p99 it covers the truth in 2 to 30% of
runs (simulated as in `benchmarks.load_truth --only intervals`). So it is widened by the larger of two errors:

- what blocks of time show: the jackknife over blocks (Kuensch, Annals of Statistics 17, 1989);
- what queues are like: `rate * latency / idle` requests are late together (see `loadtest.judge.verdict`), and the error
  of a quantile is that of the share beyond it over the density there, for which the mean excess over the 90th
  percentile stands, as in an exponential tail.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from loadtest.figures import Interval

Floats = NDArray[np.float64]

_BLOCKS, _T, _Z = 12, 2.20, 1.96  # 97.5% quantiles: Student's t with 11 degrees of freedom, and normal
_BUSY = 0.88  # utilisation; it covers up to 90%, and is wide where there is less
_TAIL = 0.9
_WIDEST = 3.0  # of the logarithm


def percentile_ms(latencies_s: Floats, percentile: float, rate_qps: float) -> Interval | None:
    """In milliseconds, with the 95% interval, of finite latencies in the order of their schedule; None where none is.

    The interval is that of the server's percentile in the long run at that rate, not only of this stretch.
    """
    count, share = len(latencies_s), percentile / 100
    if not count:
        return None
    ordered = np.sort(latencies_s) * 1e3
    value = float(ordered[max(0, math.ceil(share * count) - 1)])
    low, high = (_binomial_quantile(one, count, share) for one in (0.025, 0.975))
    wide = math.exp(min(_WIDEST, max(_by_blocks(latencies_s, share), _by_queue(latencies_s, share, rate_qps, value))))
    return Interval(
        value=value,
        low=min(float(ordered[max(0, low - 1)]), value / wide),
        high=max(float(ordered[min(count - 1, high)]), value * wide),
    )


def _by_blocks(latencies_s: Floats, share: float) -> float:
    """Half the interval's width, in the logarithm."""
    if len(latencies_s) < 2 * _BLOCKS:
        return 0.0
    keep, without = np.ones(len(latencies_s), dtype=bool), []
    for block in np.array_split(np.arange(len(latencies_s)), _BLOCKS):
        keep[block] = False
        without.append(math.log(max(1e-9, float(np.quantile(latencies_s[keep], share)))))
        keep[block] = True
    return _T * math.sqrt((_BLOCKS - 1) * float(np.var(without)))


def _by_queue(latencies_s: Floats, share: float, rate_qps: float, value_ms: float) -> float:
    threshold = np.quantile(latencies_s, min(_TAIL, share))
    beyond = latencies_s[latencies_s > threshold]
    if not len(beyond) or value_ms <= 0:
        return 0.0
    in_flight = max(1.0, rate_qps * value_ms / 1e3 / (1 - _BUSY))
    excess_ms = float((beyond - threshold).mean()) * 1e3
    return _Z * excess_ms / value_ms * math.sqrt(in_flight / ((1 - share) * len(latencies_s)))


def _binomial_quantile(share: float, n: int, p: float) -> int:
    """The least k with P(Binomial(n, p) <= k) >= share: the rank that bounds a p-quantile (Conover, Practical
    Nonparametric Statistics, 3rd ed., section 3.2). `scipy.stats` has it, and takes a second to import.
    """
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if bdtr(middle, n, p) >= share else (middle + 1, high)
    return low
