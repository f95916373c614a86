"""Regression by a Gaussian process, with the length scales that make the values likeliest.

It computes what scikit-learn's GaussianProcessRegressor does with a constant times a Matern kernel (nu = 5/2, a length
scale for each dimension) plus white noise, on values that are brought to mean 0 and variance 1; a test holds the two
together. To import scikit-learn takes more than a second, for which every run would wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from tuner.search.surrogate.features import Floats

_START = (1.0, 1.0, 1e-3)  # the constant, each length scale, and the noise
_BOUNDS = ((0.05, 20.0), (0.1, 20.0), (1e-5, 0.1))


@dataclass(frozen=True)
class Kernel:
    """`theta` are the logarithms of the constant, of the length scales and of the noise."""

    theta: Floats

    @classmethod
    def first(cls, dimensions: int) -> Kernel:
        """Before it is fitted to anything."""
        return cls(np.log(_of_each(_START, dimensions)))

    def between(self, left: Floats, right: Floats) -> Floats:
        """How much alike the values at two lists of places are, without their noise. Of many places at once, so no
        array has all three: left, right and dimension.
        """
        scale = np.exp(-self.theta[1:-1])
        left, right = left * scale, right * scale
        squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
        alike, _, _ = self._alike(np.maximum(squares, 0.0))
        return alike

    def within(self, squares: Floats) -> tuple[Floats, Floats]:
        """How much alike the noisy values at places with these squared distances are, and the derivatives of that."""
        alike, distance, decay = self._alike(squares @ np.exp(-2 * self.theta[1:-1]))
        by_length = squares / np.exp(2 * self.theta[1:-1]) * (5 / 3 * (distance + 1) * decay)[:, :, None]
        noise = np.exp(self.theta[-1]) * np.eye(len(squares))
        return alike + noise, np.concatenate([alike[:, :, None], by_length, noise[:, :, None]], axis=2)

    def _alike(self, squares: Floats) -> tuple[Floats, Floats, Floats]:
        """Of squared distances in length scales; the distances times the root of 5 and what they leave, besides."""
        distance = np.sqrt(5 * squares)
        decay = np.exp(self.theta[0] - distance)
        return (1 + distance + distance**2 / 3) * decay, distance, decay


class Regression:
    """Of values at places, each with a `variance` relative to that of all."""

    def __init__(self, places: Floats, values: Floats, variance: Floats, kernel: Kernel) -> None:
        self._places, self._kernel = places, kernel
        self._middle, self._spread = _scale(values)
        alike, _ = kernel.within(_squares(places))
        self._lower, self._weights = _solved(alike, variance, (values - self._middle) / self._spread)

    def predict(self, places: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations."""
        alike = self._kernel.between(places, self._places)
        explained = solve_triangular(self._lower, alike.T, lower=True, check_finite=False)
        variance = np.exp(self._kernel.theta[[0, -1]]).sum() - (explained**2).sum(axis=0)
        return self._middle + self._spread * (alike @ self._weights), self._spread * np.sqrt(np.maximum(variance, 0.0))


def fitted(places: Floats, values: Floats, variance: Floats, kernel: Kernel) -> Kernel:
    """The kernel that makes the values likeliest, searched for from `kernel` on."""
    middle, spread = _scale(values)
    scaled, squares, every = (values - middle) / spread, _squares(places), np.eye(len(places))

    def unlikely(theta: Floats) -> tuple[float, Floats]:
        alike, derivatives = Kernel(theta).within(squares)
        try:
            lower, weights = _solved(alike, variance, scaled)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(theta)
        likelihood = -0.5 * scaled @ weights - np.log(np.diag(lower)).sum()
        inner = np.outer(weights, weights) - cho_solve((lower, True), every, check_finite=False)
        return -float(likelihood), -0.5 * np.tensordot(inner, derivatives, axes=2)

    bounds = np.log(_of_each(_BOUNDS, places.shape[1]))
    found: Any = minimize(unlikely, kernel.theta, method="L-BFGS-B", jac=True, bounds=bounds)
    return Kernel(np.asarray(found.x))


def _of_each(values: tuple[Any, Any, Any], dimensions: int) -> list[Any]:
    constant, length, noise = values
    return [constant, *([length] * dimensions), noise]


def _scale(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) or 1.0


def _squares(places: Floats) -> Floats:
    return np.asarray((places[:, None, :] - places[None]) ** 2)


def _solved(alike: Floats, variance: Floats, scaled: Floats) -> tuple[Floats, Floats]:
    lower = cholesky(alike + np.diag(variance), lower=True, check_finite=False)
    return lower, cho_solve((lower, True), scaled, check_finite=False)
