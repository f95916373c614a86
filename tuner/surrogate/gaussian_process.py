"""The model to fall back on: scikit-learn's Gaussian process of the log capacity over the choices' ranks.

It expects nothing of services but smoothness. Outcomes are predicted by those of the trials nearby.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from tuner.surrogate.features import OUTCOMES, Candidates, Floats, Ints, Trials
from tuner.surrogate.predict import Prediction

_PRUNED_PENALTY = 0.3  # in logs: a pruned trial's capacity is taken to be so much below the bound it proved
_NEAR = 0.35  # how far, in ranges, the outcome of a trial is taken to hold
_FIT_AT = (2, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 85, 113, 150)  # numbers of trials at which length scales are fitted


class GaussianProcess:
    """Predictions from the trials alone. What was fitted depends only on the trials, not on what was asked before."""

    def __init__(self, candidates: Candidates) -> None:
        self._places = places(candidates)
        self._kernels: dict[tuple[int, ...], object] = {}

    def predict(self, trials: Trials, which: Ints | None = None) -> Prediction:
        """For some configurations, or all."""
        at = self._places if which is None else self._places[which]
        known = trials.only(trials.state <= 1)
        outcome = self._outcomes(trials, at)
        spread = np.ones(len(at))
        if len(known) < 2:
            mean = np.full(len(at), known.log_capacity.mean() if len(known) else 0.0)
        else:
            values = known.log_capacity - _PRUNED_PENALTY * (known.state == 1)
            model = self._fitted(known, values)
            mean, spread = model.predict(at, return_std=True)
        seen = trials.measured[:, 0][~np.isnan(trials.measured[:, 0])]
        p99_mean, p99_spread = (seen.mean(), max(0.1, seen.std())) if len(seen) else (0.0, 1.0)
        ones = np.ones(len(at))
        return Prediction(
            mean[:, None], np.maximum(spread, 1e-3)[:, None], ones[:, None], p99_mean * ones, p99_spread * ones, outcome
        )

    def _fitted(self, known: Trials, values: Floats) -> GaussianProcessRegressor:
        fit_at = max(one for one in _FIT_AT if one <= len(known))
        key = tuple(known.index[:fit_at])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            if key not in self._kernels:
                kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(
                    np.ones(self._places.shape[1]), (0.1, 20), nu=2.5
                ) + WhiteKernel(1e-3, (1e-5, 0.1))
                model = GaussianProcessRegressor(kernel, normalize_y=True)
                self._kernels[key] = model.fit(self._places[known.index[:fit_at]], values[:fit_at]).kernel_
            model = GaussianProcessRegressor(self._kernels[key], optimizer=None, normalize_y=True)
            return model.fit(self._places[known.index], values)

    def _outcomes(self, trials: Trials, at: Floats) -> Floats:
        """Shares of the outcomes of trials, weighted by their nearness; before any, most serve."""
        prior = np.array([2.0, 0.3, 0.5, 0.1])
        squared = ((at[:, None, :] - self._places[trials.index][None]) ** 2).sum(axis=2)
        near = np.exp(-squared / (2 * _NEAR**2))
        seen = np.eye(len(OUTCOMES))[np.maximum(trials.state - 1, 0)]
        counts = near @ seen * 4 + prior
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def places(candidates: Candidates) -> Floats:
    """Configurations as points: ranks from 0 to 1 where choices are ordered, a corner of a simplex where not."""
    parts = []
    for column in candidates.columns:
        if column.categories is None:
            parts.append(np.nan_to_num(column.positions)[:, None])
        else:
            parts.append(np.eye(int(column.categories.max()) + 1)[column.categories] / np.sqrt(2))
    return np.hstack(parts)
