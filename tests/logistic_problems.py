"""Labels of states as probes meet them, and scikit-learn's fit of one label as the reference."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression


def make_problem(n_rows, n_units, n_targets, seed=0, spread=0.0):
    """Correlated states whose columns' scales differ by up to 10 ** spread, and labels from common to rare."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_rows, n_units)) @ generator.standard_normal((n_units, n_units))
    X = X / np.sqrt(n_units) * 10 ** generator.uniform(-spread / 2, spread / 2, n_units)
    logits = X / X.std(axis=0) @ generator.standard_normal((n_units, n_targets)) / np.sqrt(n_units)
    threshold = np.linspace(0, 3.5, n_targets)
    Y = logits + 1.5 * generator.logistic(size=(n_rows, n_targets)) > threshold
    Y[0], Y[1] = True, False
    return X, Y


def fit_alone(X, y, weight=None, C=1.0, class_weight=None, fit_intercept=True):
    model = LogisticRegression(
        C=C, class_weight=class_weight, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-12, max_iter=1000
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y, sample_weight=weight)


def assert_same_fit(probes, k, model, rtol=1e-6):
    size = np.abs(model.coef_[0]).max()
    np.testing.assert_allclose(probes.coef_[k], model.coef_[0], rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(probes.intercept_[k], model.intercept_[0], rtol=rtol, atol=rtol * size)


def assert_equal_coefficients(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
