"""Which configuration is worth a trial, by how much better it may be than the best so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import softmax

from tuner.search.launches import LAUNCH_SPREAD
from tuner.search.surrogate.features import Floats, Ints, Trials
from tuner.search.surrogate.mixture import mixed
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


def believed_best(predictions: Sequence[tuple[float, Prediction]], losses: Losses, served: Trials) -> float:
    """The lowest loss that is believed of a configuration that was measured, by the one objective there is."""
    numbers, believed = believed_capacity(predictions, served)
    log_capacity, log_p99 = (np.zeros((len(predictions[0][1].outcome), 1, 1)) for _ in range(2))
    log_capacity[numbers, 0, 0] = believed
    log_p99[served.index, 0, 0] = np.nan_to_num(served.measured[:, 0])
    return float(losses(log_capacity, log_p99)[0][numbers].min())


def believed_capacity(predictions: Sequence[tuple[float, Prediction]], served: Trials) -> tuple[Ints, Floats]:
    """The configurations that were measured, and the log capacity that all trials together make one believe of each:
    what its own launches showed, drawn towards what the models predict of it by as much as launches are off. The
    highest of many noisy figures is a lucky one, and to better luck is no aim. What was told without an error stands.
    """
    numbers, place, counts = np.unique(served.index, return_inverse=True, return_counts=True)
    shown = np.bincount(place, served.log_capacity) / counts
    error = np.nan_to_num(served.error)
    variance = np.bincount(place, np.where(error > 0, np.hypot(error, LAUNCH_SPREAD), 0.0) ** 2) / counts**2
    mean = mixed(predictions, [one.middle() for _, one in predictions])[numbers]
    squares = [((one.mean**2 + one.spread**2) * one.weight).sum(axis=1) for _, one in predictions]
    doubt = np.maximum(mixed(predictions, squares)[numbers] - mean**2, 1e-12)
    return numbers, np.asarray(mean + (shown - mean) * doubt / (doubt + variance))


def expected_loss(prediction: Prediction, losses: Losses, scale: Scale) -> Floats:
    """Per configuration, at the mean capacity and p99, where it serves."""
    return np.asarray(scale(losses(prediction.middle()[:, None, None], prediction.p99_mean[:, None, None]))[:, 0, 0])


def promise(
    prediction: Prediction, losses: Losses, scale: Scale, free: Ints, *, learned: bool, warm_started: bool
) -> Floats:
    """How good each `free` configuration is as a first trial: the odds that it is the best, by what the network has
    `learned` of being the cheapest or by what it expects, times those that it serves, which count twice: a trial that
    serves says how fast the service is.

    Before anything was measured the network knows no capacity, and its expectation is only a hint. Where earlier
    studies `warm_started` the search, what serves there is known well enough.
    """
    if learned and prediction.best is not None:
        odds = softmax(prediction.best[free])
    else:
        loss = expected_loss(prediction, losses, scale)[free]
        odds = softmax(-loss / 0.05) if warm_started else softmax(-0.3 * loss / max(1e-9, float(loss.std())))
    return np.asarray(odds * prediction.outcome[free, 0] ** (1 if warm_started else 2))


def chebyshev(weights: Floats, low: Floats, high: Floats) -> Callable[[Sequence[Floats]], Floats]:
    """Several losses as one: the worst of them, each from 0 to 1 over the range seen, and a little of their sum,
    so that none is given away for nothing (the augmented scalarisation of ParEGO, Knowles 2006).
    """

    def scale(found: Sequence[Floats]) -> Floats:
        parts = [
            weight * (loss - lowest) / max(1e-9, highest - lowest)
            for weight, loss, lowest, highest in zip(weights, found, low, high, strict=True)
        ]
        worst, total = parts[0], parts[0]
        for part in parts[1:]:
            worst, total = np.maximum(worst, part), total + part
        return np.asarray(worst + 0.05 * total)

    return scale
