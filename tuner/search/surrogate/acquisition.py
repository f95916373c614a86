"""Which configuration is worth a trial, by how likely it is the best of those that were not tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import softmax

from tuner.search.surrogate.features import Floats, Ints
from tuner.search.surrogate.predict import Prediction

# Of log capacities and of logs of p99 over its limit, arrays whose rows are configurations, to losses: lower is better.
Losses = Callable[[Floats, Floats], Sequence[Floats]]
Scale = Callable[[Sequence[Floats]], Floats]  # of several losses to one

_DRAWS = 128


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


def optimistic_improvement(
    prediction: Prediction, losses: Losses, best: float, scale: Scale, optimism: float = 1.5
) -> Floats:
    """The improvement if the capacity is `optimism` standard deviations above its mean, times P(serves)."""
    mean = prediction.middle()
    second = ((prediction.spread**2 + prediction.mean**2) * prediction.weight).sum(axis=1)
    lucky = mean + optimism * np.sqrt(np.maximum(second - mean**2, 1e-12))
    loss = scale(losses(lucky[:, None, None], prediction.p99_mean[:, None, None]))[:, 0, 0]
    return np.asarray(np.maximum(0.0, best - loss) * prediction.outcome[:, 0])


def probability_of_best(
    prediction: Prediction, losses: Losses, scale: Scale, free: Ints, generator: np.random.Generator, *, learned: bool
) -> Floats:
    """Of each configuration that is `free`, the probability that it is the best of them. What the network has `learned`
    of being the cheapest is taken where it says so; else capacities are drawn from what is predicted, independently.
    """
    if learned and prediction.best is not None:
        return np.asarray(softmax(prediction.best[free]))
    pick = (prediction.weight[free].cumsum(axis=1)[None] < generator.random((_DRAWS, len(free), 1))).sum(axis=2)
    pick = np.minimum(pick, prediction.mean.shape[1] - 1)
    rows = np.arange(len(free))
    drawn = prediction.mean[free][rows, pick] + prediction.spread[free][rows, pick] * generator.normal(size=pick.shape)
    p99 = prediction.p99_mean[free] + prediction.p99_spread[free] * generator.normal(size=pick.shape)
    whole = np.zeros((len(prediction.mean), _DRAWS, 1)), np.zeros((len(prediction.mean), _DRAWS, 1))
    whole[0][free, :, 0], whole[1][free, :, 0] = drawn.T, p99.T
    loss = scale(losses(*whole))[free, :, 0].T
    loss = np.where(generator.random(loss.shape) < prediction.outcome[free, 0], loss, np.inf)
    served = np.isfinite(loss).any(axis=1)
    wins = np.bincount(loss[served].argmin(axis=1), minlength=len(free)) + 1 / len(free)
    return np.asarray(wins / wins.sum())


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
