"""What the network sees of the trials so far: a row of numbers for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.search.surrogate.encoder import F32, STATES, Floats

if TYPE_CHECKING:
    from tuner.search.surrogate.features import Trials


def trial_rows(trials: Trials, log_price: F32 | Floats) -> tuple[F32, float]:
    """(T, TRIAL_WIDTH), and the log capacity that is 0 in it: the mean of the throughputs known,
    capacities and bounds before throughputs at full load. `log_price` (T) is that of what was tried.
    """
    complete, pruned = trials.state == 0, trials.state == 1
    middle, known_level = _middle(trials)
    over = trials.log_capacity - middle
    cost = np.where(complete, log_price - trials.log_capacity, np.nan)
    costed = ~np.isnan(cost)
    cheapest = cost[costed].min() if costed.any() else 0.0
    above = np.where(costed, cost - cheapest, 0.0)
    known_error = ~np.isnan(trials.error) & complete
    figures = [
        np.where(complete, over, 0.0), np.where(pruned, over, 0.0), np.full(len(trials), known_level),
        # The network could be told here that a trial is of another study, but learns more as `CarriedOver` shows it.
        np.zeros(len(trials)), ~np.isnan(trials.log_saturated), np.nan_to_num(trials.log_saturated - middle), above,
        costed, costed & (above <= 0), known_error,
        np.where(known_error, np.nan_to_num(trials.error).clip(0, 1) * 4, 0.0),
    ]  # fmt: skip
    state = np.eye(len(STATES))[trials.state]
    measured = [np.nan_to_num(trials.measured).clip(-4, 4), ~np.isnan(trials.measured)]
    rows = np.concatenate([state, np.stack(figures, axis=-1).clip(-8, 8), *measured], axis=-1)
    return rows.astype(np.float32), middle


def _middle(trials: Trials) -> tuple[float, bool]:
    capacity = np.where(trials.state <= 1, trials.log_capacity, np.nan)
    for throughput in (capacity, trials.log_saturated):
        known = throughput[~np.isnan(throughput)]
        if len(known):
            return float(known.mean()), True
    return 0.0, False
