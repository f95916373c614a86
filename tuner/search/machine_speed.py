"""What the machine's own speed did to each launch, learned and taken out.

A machine that others share is faster in one launch than in the next, and a server on it too: by all of the difference
where the processor is its limit, by nothing where it waits for a GPU. The logarithm of a launch's figure is taken as

    what it would be at a reference speed - sensitivity x (logarithm of the time of fixed work, less the reference's)

The sensitivity is one for a study. It is learned from the configurations that were launched more than once, by what
their launches differ among themselves (a regression within groups, with Student's t for the odd launch that something
else disturbed); until then it is what servers on processors and on GPUs have on average, and doubted accordingly.

The time of fixed work has an error of its own, and where launches differ by no more than that nothing is taken out: of
each deviation only the share of the variance that the error does not explain counts (the reliability ratio: Fuller,
Measurement Error Models, section 1.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from results import MachineEffect
from tuner.search.launches import LAUNCH_SPREAD, Contender, Floats

_USUAL, _DOUBT = 0.5, 0.5
_FREEDOM, _SWEEPS = 4.0, 8  # degrees of freedom of the errors; reweightings


@dataclass(frozen=True)
class Correction:
    """For each launch: what to add to its log figure, of which more is better, and the standard deviation of that.
    `effect` is None where too few were timed.
    """

    shift: Floats
    error: Floats
    effect: MachineEffect | None = None


def at_mean_speed(
    groups: NDArray[np.int64], work: Floats, work_errors: Floats, figures: Floats, errors: Floats,
    reference: float | None = None,
) -> Correction:  # fmt: skip
    """A value per launch in each. `groups` names its configuration; figures are nan where only a bound is known, errors
    are those of the measurement. Launches whose `work` is not known (nan) count as of the mean speed. `reference` is
    the logarithm of the work at whose speed figures are given; None: the launches' mean.
    """
    known = np.isfinite(work)
    if known.sum() < 2:
        return Correction(np.zeros(len(known)), np.zeros(len(known)))
    noise = np.where(known, work_errors, 0.0) ** 2
    usual = float(np.median(noise[known]))
    weight = known / np.maximum(usual + noise, 1e-12)
    mean = float(weight[known] @ work[known] / weight.sum())
    deviation = np.where(known, work - mean, 0.0)
    true = max(0.0, float(weight @ deviation**2) / weight.sum() * known.sum() / (known.sum() - 1) - usual)
    reliable = np.divide(true, true + noise, out=np.zeros(len(known)), where=known & (true > 0))
    measured = known & np.isfinite(figures)
    sensitivity, doubt = _sensitivity(groups[measured], work[measured], usual, figures[measured], errors[measured])
    slower = reliable * deviation
    at = mean if reference is None else reference
    shift = sensitivity * (slower + (mean - at) * true / max(1e-12, true + usual))
    # What is not known of the sensitivity is the same in all launches of a configuration, and no mean of theirs less.
    place, counts = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    together = np.abs(np.bincount(place, slower) / counts)[place] * np.sqrt(counts)[place]
    timing = sensitivity * np.sqrt(reliable * noise)
    effect = MachineEffect(work_ms=math.exp(at), sensitivity=sensitivity, doubt=doubt)
    return Correction(shift, np.hypot(doubt * together, timing) * known, effect)


def contenders_at_mean_speed(contenders: Sequence[Contender]) -> tuple[list[Contender], MachineEffect | None]:
    """The same with figures as they would be at the machine's mean speed in the search (for which the search predicts,
    too), and the errors that this adds; and what the machine's speed does, None where it was not timed.
    """
    rows = [(group, launch) for group, one in enumerate(contenders) for launch in one.launches]
    works = np.array([one.work for _, one in rows if one.round is None])
    search = works[np.isfinite(works)]
    correction = at_mean_speed(
        np.array([group for group, _ in rows]),
        np.array([one.work for _, one in rows]),
        np.array([one.work_error for _, one in rows]),
        np.array([math.nan if one.below else one.figure for _, one in rows]),
        np.array([one.error for _, one in rows]),
        None if not len(search) else float(search.mean()),
    )
    if correction.effect is None:
        return list(contenders), None
    corrected = iter(
        replace(one, figure=one.figure + shift, error=math.hypot(one.error, error))
        for (_, one), shift, error in zip(rows, correction.shift, correction.error, strict=True)
    )
    at_mean = [replace(one, launches=tuple(next(corrected) for _ in one.launches)) for one in contenders]
    return at_mean, correction.effect


def _sensitivity(
    groups: NDArray[np.int64], work: Floats, noise: float, figures: Floats, errors: Floats
) -> tuple[float, float]:
    """Its posterior mean, never below 0, and standard deviation, from a normal prior. `noise` is the variance of the
    timing: of what launches of one configuration differ by, it explains its share.
    """
    variance = np.nan_to_num(errors) ** 2 + LAUNCH_SPREAD**2
    slower = _within(groups, work, np.ones(len(work)))
    degrees = len(work) - len(np.unique(groups))
    explained = noise * degrees / max(1e-12, float((slower**2).sum()))
    calibrated = max(0.0, 1 - explained) * work
    weight, mean, precision = 1 / variance, _USUAL, _DOUBT**-2
    for _ in range(_SWEEPS):
        slower, lower = _within(groups, calibrated, weight), -_within(groups, figures, weight)
        precision = _DOUBT**-2 + float(weight @ slower**2)
        mean = (_USUAL / _DOUBT**2 + float(weight @ (slower * lower))) / precision
        weight = (_FREEDOM + 1) / (_FREEDOM + (lower - mean * slower) ** 2 / variance) / variance
    return max(0.0, mean), precision**-0.5


def _within(groups: NDArray[np.int64], values: Floats, weight: Floats) -> Floats:
    """Each value less the weighted mean of its group."""
    if not len(values):
        return values
    place = np.unique(groups, return_inverse=True)[1]
    return np.asarray(values - (np.bincount(place, weight * values) / np.bincount(place, weight))[place])
