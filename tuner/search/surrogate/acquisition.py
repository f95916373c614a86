"""Which configuration is worth a trial: the expected improvement, weighted by the probability that it serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tuner.search.surrogate.features import Floats
from tuner.search.surrogate.predict import Prediction

# Of log capacities and of logs of p99 over its limit, arrays whose rows are configurations, to losses: lower is better.
Losses = Callable[[Floats, Floats], Sequence[Floats]]
Scale = Callable[[Sequence[Floats]], Floats]  # of several losses to one


def expected_improvement(prediction: Prediction, losses: Losses, best: float, scale: Scale) -> Floats:
    """Per configuration, in the units of the scaled loss (for one metric: the log, so about the share saved)."""
    log_capacity, probability = prediction.nodes()
    log_p99, p99_probability = prediction.p99_nodes()
    found = scale(losses(log_capacity[:, :, None], log_p99[:, None, :]))
    gain = np.maximum(0.0, best - found)
    mean = (
        (gain * probability[:, :, None] * p99_probability).sum(axis=(1, 2))
        if gain.shape[2] > 1
        else (gain[:, :, 0] * probability).sum(axis=1)
    )
    return np.asarray(mean * prediction.outcome[:, 0])


def expected_loss(prediction: Prediction, losses: Losses, scale: Scale) -> Floats:
    """Per configuration, at the mean capacity and p99, where it serves."""
    return np.asarray(scale(losses(prediction.middle()[:, None, None], prediction.p99_mean[:, None, None]))[:, 0, 0])


def promise(prediction: Prediction, losses: Losses, scale: Scale, *, level_known: bool) -> Floats:
    """How good a first trial is: likely to serve, and cheap where earlier studies tell. Higher is better.

    Before anything was measured the network knows no capacity, and its expectation is only a hint.
    """
    mean = expected_loss(prediction, losses, scale)
    hint = mean if level_known else 0.3 * (mean - mean.min()) / max(1e-9, float(mean.std()))
    return np.asarray(np.log(prediction.outcome[:, 0] + 1e-9) - hint)


def chebyshev(weights: Floats, low: Floats, high: Floats) -> Callable[[Sequence[Floats]], Floats]:
    """Several losses as one: the worst of them, each from 0 to 1 over the range seen, and a little of their sum,
    so that none is given away for nothing (the augmented scalarisation of ParEGO, Knowles 2006).
    """

    def scale(found: Sequence[Floats]) -> Floats:
        parts = [
            weight * (loss - least) / max(1e-9, most - least)
            for weight, loss, least, most in zip(weights, found, low, high, strict=True)
        ]
        worst, total = parts[0], parts[0]
        for part in parts[1:]:
            worst, total = np.maximum(worst, part), total + part
        return np.asarray(worst + 0.05 * total)

    return scale
