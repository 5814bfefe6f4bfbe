"""Labels of states as probes get them, the problems that they pose, and scikit-learn's fit of one as the reference."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression

from gatescope.engine.problems import Problems


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


def problems_of(rows, signed, C=1.0, start=None):
    """The problems of labels [N, K] of -1 or 1 on rows as they are, in the form that the minimiser takes."""
    n_rows, n_problems = signed.shape
    ones = np.ones(rows.shape[1])
    return Problems(
        rows=rows,
        shift=None,
        scale=ones,
        mean=0 * ones,
        sd=ones,
        origin=None,
        signed_weights=lambda k: signed[:, k],
        row_weight=lambda k: None,
        weighting=np.zeros(n_problems, int),
        ridge=np.full((1, n_problems), 1 / (C * n_rows)),
        total=np.full(n_problems, float(n_rows)),
        prevalence=(signed > 0).mean(axis=0),
        start=start,
        fit_intercept=True,
    )


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
