"""Our regression by a Gaussian process computes what scikit-learn's does, which is not installed with tune."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tuner.search.surrogate.regression import Kernel, Regression, fitted


@pytest.mark.parametrize("count", [2, 4, 11, 36])
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("dimensions", [1, 4])
def test_it_computes_what_scikit_learn_does(count: int, noise: float, dimensions: int) -> None:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    random = np.random.default_rng([count, dimensions])
    places, asked = random.integers(0, 5, (count, dimensions)) / 4, random.random((50, dimensions))
    values = 3 + np.sin(3 * places).sum(axis=1) + noise * random.normal(size=count)
    variance = 1e-10 + noise**2 * random.random(count)
    theirs = ConstantKernel(1.0, (0.05, 20)) * Matern(np.ones(dimensions), (0.1, 20), nu=2.5)
    model = GaussianProcessRegressor(theirs + WhiteKernel(1e-3, (1e-5, 0.1)), alpha=variance, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(places, values)
    kernel = fitted(places, values, variance, Kernel.first(dimensions))
    settled = model.kernel_.theta > np.log(1e-4)  # a noise that is nothing may be as little as it likes
    assert kernel.theta[settled] == pytest.approx(model.kernel_.theta[settled], abs=2e-3)
    assert (kernel.theta[~settled] < np.log(2e-4)).all()
    same = Kernel(model.kernel_.theta)
    mean, spread = Regression(places, values, variance, same).predict(asked)
    expected, expected_spread = model.predict(asked, return_std=True)
    assert mean == pytest.approx(expected, abs=1e-6)
    assert spread == pytest.approx(expected_spread, abs=1e-6)


def test_values_that_are_all_the_same_are_expected_everywhere() -> None:
    places = np.array([[0.0], [0.5], [1.0]])
    values, variance = np.full(3, 2.0), np.full(3, 1e-10)
    mean, _ = Regression(places, values, variance, fitted(places, values, variance, Kernel.first(1))).predict(places)
    assert mean == pytest.approx(values)
