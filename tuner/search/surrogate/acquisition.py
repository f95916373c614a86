"""Which configuration is worth a trial, by how much better it may be than the best so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import softmax

from tuner.search.surrogate.features import Floats, Ints
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


def promise(prediction: Prediction, losses: Losses, scale: Scale, free: Ints, *, learned: bool, told: bool) -> Floats:
    """How good each `free` configuration is as a first trial: the odds that it is the best, by what the network has
    `learned` of being the cheapest or by what it expects, times those that it serves, which count twice: a trial that
    serves says how fast the service is.

    Before anything was measured the network knows no capacity, and its expectation is only a hint. Where earlier
    studies have `told`, what serves there is known well enough.
    """
    if learned and prediction.best is not None:
        odds = softmax(prediction.best[free])
    else:
        loss = expected_loss(prediction, losses, scale)[free]
        odds = softmax(-loss / 0.05) if told else softmax(-0.3 * loss / max(1e-9, float(loss.std())))
    return np.asarray(odds * prediction.outcome[free, 0] ** (1 if told else 2))


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
