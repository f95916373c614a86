"""The model to fall back on: a Gaussian process of the log capacity over the choices' ranks.

It expects nothing of services but smoothness. Outcomes are predicted by those of the trials nearby.

Of what is far from all trials it expects what they showed on average: the same capacity, or, `by_price`, as much for
the money, so that what costs half holds half and not everything cheap that nobody tried looks like a bargain.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import log_ndtr

from tuner.search.surrogate.features import OUTCOMES, Candidates, Floats, Ints, Trials
from tuner.search.surrogate.predict import Prediction, one_thread
from tuner.search.surrogate.regression import Kernel, Regression, fitted

_JITTER, _MIN_VARIANCE = 1e-10, 1e-4
_LOG_ROOT_2_PI = 0.5 * np.log(2 * np.pi)
_MIN = 2  # trials with a capacity, for a regression
_PRUNED_BELOW = 0.3  # in logs: so much below its bound a pruned trial is taken to be while nothing says better
# What a trial's outcome counts within _NEAR ranges of it, what anywhere, and the counts before any trial.
_NEAR, _NEARBY, _ANYWHERE, _BEFORE_ANY = 0.35, 4.0, 0.5, np.array([2.0, 0.3, 0.5, 0.1])
_FIT_AT = (2, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 85, 113, 150)  # numbers of trials at which length scales are fitted


class GaussianProcess:
    """Predictions from the trials alone. What was fitted depends only on the trials, not on what was asked before."""

    def __init__(self, candidates: Candidates, *, by_price: bool) -> None:
        self._places = places(candidates)
        known = by_price and not np.isnan(candidates.log_price).any()
        self._log_price = candidates.log_price if known else np.zeros(len(candidates))
        self._kernels: dict[tuple[int, ...], Kernel] = {}
        self._fitted: tuple[Kernel, bytes, Regression] | None = None

    def predict(self, trials: Trials, which: Ints | None = None, fitted_to: Trials | None = None) -> Prediction:
        """For some configurations, or all. `fitted_to`: trials whose length scales are used; these trials' own else."""
        at = self._places if which is None else self._places[which]
        outcome = self._outcomes(trials, at)
        known = self._for_the_money(trials)
        if len(known) < _MIN:
            mean, spread = np.full(len(at), known.log_capacity.mean() if len(known) else 0.0), np.ones(len(at))
        else:
            others = known if fitted_to is None else self._for_the_money(fitted_to)
            fit_at = max(one for one in _FIT_AT if one <= len(others))
            with one_thread():
                kernel = self._kernel(others.only(np.arange(fit_at)))
                mean, spread = self._model(known, kernel).predict(at)
        mean = mean + (self._log_price if which is None else self._log_price[which])
        seen = trials.measured[:, 0][~np.isnan(trials.measured[:, 0])]
        p99_mean, p99_spread = (seen.mean(), max(0.1, seen.std())) if len(seen) else (0.0, 1.0)
        ones = np.ones(len(at))
        return Prediction(
            mean[:, None], np.maximum(spread, 1e-3)[:, None], ones[:, None], p99_mean * ones, p99_spread * ones, outcome
        )

    def _model(self, known: Trials, kernel: Kernel) -> Regression:
        """The latest is kept: a trial is judged by those that it was proposed after."""
        shown = known.content()
        if self._fitted is None or self._fitted[0] is not kernel or self._fitted[1] != shown:
            self._fitted = kernel, shown, Regression(*self._observed(known, self._values(known, kernel)), kernel)
        return self._fitted[2]

    def _for_the_money(self, trials: Trials) -> Trials:
        """Those that served or were pruned, with log capacities over the price."""
        known = trials.only(trials.state <= 1)
        log_price = self._log_price[known.index]
        return replace(
            known, log_capacity=known.log_capacity - log_price, log_saturated=known.log_saturated - log_price
        )

    def _kernel(self, known: Trials) -> Kernel:
        """Fitted twice where trials were pruned: once on guesses of what they would have shown, once on better ones."""
        key = tuple(known.index.tolist())
        if key not in self._kernels:
            kernel = Kernel.first(self._places.shape[1])
            kernel = fitted(*self._observed(known, _guessed(known)), kernel)
            if (known.state == 1).any():
                kernel = fitted(*self._observed(known, self._values(known, kernel)), kernel)
            self._kernels[key] = kernel
        return self._kernels[key]

    def _values(self, known: Trials, kernel: Kernel) -> Floats:
        """Log capacities; of a pruned trial what the complete ones make one expect of it, below the bound it proved:
        from its own throughput at full load, else from theirs (the mean of a normal distribution that ends there).
        """
        pruned = known.state == 1
        complete = known.only(~pruned)
        values = _guessed(known)
        if len(complete) >= _MIN and pruned.any():
            model = Regression(*self._observed(complete, complete.log_capacity), kernel)
            mean, spread = model.predict(self._places[known.index[pruned]])
            z = (known.log_capacity[pruned] - mean) / spread
            values[pruned] = mean - spread * np.exp(-(z**2) / 2 - _LOG_ROOT_2_PI - log_ndtr(z))
        usable = complete.log_capacity - complete.log_saturated
        usable = usable[~np.isnan(usable)]
        shown = known.log_saturated + (usable.mean() if len(usable) else 0.0)
        return np.where(pruned & ~np.isnan(shown), np.minimum(known.log_capacity, shown), values)

    def _observed(self, known: Trials, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Places, values and variances. Each trial counts by its own error, relative to the spread of the values."""
        variance = np.nan_to_num(known.error) ** 2 / max(float(np.var(values)), _MIN_VARIANCE)
        return self._places[known.index], values, _JITTER + variance

    def _outcomes(self, trials: Trials, at: Floats) -> Floats:
        """Shares of the outcomes of trials, those nearby counting most; before any, most serve."""
        squared = ((at[:, None, :] - self._places[trials.index][None]) ** 2).sum(axis=2)
        seen = np.eye(len(OUTCOMES))[np.maximum(trials.state - 1, 0)]
        counts = (_NEARBY * np.exp(-squared / (2 * _NEAR**2)) + _ANYWHERE) @ seen + _BEFORE_ANY
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _guessed(known: Trials) -> Floats:
    return np.asarray(known.log_capacity - _PRUNED_BELOW * (known.state == 1))


def places(candidates: Candidates) -> Floats:
    """Configurations as points: ranks from 0 to 1 where choices are ordered, a corner of a simplex where not."""
    parts = []
    for column in candidates.columns:
        if column.categories is None:
            parts.append(np.nan_to_num(column.positions)[:, None])
        else:
            parts.append(np.eye(int(column.categories.max()) + 1)[column.categories] / np.sqrt(2))
    return np.hstack(parts)
