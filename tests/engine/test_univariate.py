"""Fits on a histogram against the same fits on the values, in float64, and against scikit-learn on single columns."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hard_units import columns, fit, labels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from gatescope.engine import univariate
from gatescope.engine.unit_loss import Values
from gatescope.engine.univariate import _histogram


def make(seed=0, N=5000):
    generator = np.random.default_rng(seed)
    return np.sort(generator.standard_normal(N)), generator.uniform(0, 2, N)


def binned(u, weight, target):
    mass = weight[:, None] / weight.sum()
    return _histogram(u, mass, np.zeros(1), np.ones(1), target), mass


@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_of_a_histogram_equal_those_of_its_values(weighted):
    u, weight = make()
    weight = weight if weighted else np.ones_like(u)
    point = np.array([[0.0, 1.5, -8.0, 60.0], [-2.0, 0.3, 1.0, 100.0]])
    histogram, mass = binned(u, weight, np.zeros((2, 4)))
    assert histogram.middle.shape[1] <= univariate.BINS
    p = expit(np.outer(point[0], u) + point[1][:, None])
    gradient = np.stack([(mass.T * p * u).sum(axis=1), (mass.T * p).sum(axis=1)])
    got = histogram.derivatives(point, np.arange(4))
    # The part left out is bounded, and the bound is tight.
    error = np.abs(np.stack([got.gradient[0] + got.centre * got.gradient[1], got.gradient[1]]) - gradient)
    bound = histogram.omitted(point)
    assert (error <= bound + got.rounding).all()
    assert (bound[:, :3] < 1e-9).all() and (bound[:, 3] > 1e-9).all()
    pq = mass.T * p * (1 - p)
    # For Newton's method, the curvature at the bins' middles is good enough.
    np.testing.assert_allclose(got.curvature[1], pq.sum(axis=1), rtol=2e-2)
    np.testing.assert_allclose(got.centre, (pq @ u) / pq.sum(axis=1), rtol=2e-2, atol=1e-3)
    z = np.outer(point[0], u) + point[1][:, None]
    np.testing.assert_allclose(
        histogram.loss(point, np.arange(4)), (mass.T * np.logaddexp(0, z)).sum(axis=1), rtol=1e-6
    )


def test_derivatives_over_values_match_the_loss():
    u, weight = make(2, 300)
    positive = weight * (u > 0.2) / weight.sum()
    values = Values(u, positive, weight / weight.sum() - positive)
    point, step = np.array([[1.2], [-0.4]]), 1e-5
    at = values.derivatives(point, np.arange(1))
    slopes = [
        (values.loss(point + move, np.arange(1)) - values.loss(point - move, np.arange(1)))[0] / (2 * step)
        for move in (np.array([[step], [-step * at.centre[0]]]), np.array([[0.0], [step]]))
    ]
    np.testing.assert_allclose(at.gradient[:, 0], slopes, rtol=1e-7, atol=1e-10)
    moved = values.derivatives(point + np.array([[0.0], [step]]), np.arange(1)).gradient[1]
    np.testing.assert_allclose((moved - at.gradient[1]) / step, at.curvature[1], rtol=1e-4)


def alone(x, y, weight=None):
    """scikit-learn's fit, refined by a few more steps of Newton's method in 80 bits.

    Where the loss is nearly flat, scikit-learn stops early: its fit to three values a million apart is 8e-5 from the
    minimum that 60 digits give. Its Hessian is singular if the mean is far from zero, so the column is centred first.
    """
    shift, scale = np.median(x), 2.0 ** np.round(np.log2(np.std(x)))
    u = (x - shift) / scale
    model = LogisticRegression(C=scale**2, solver="newton-cholesky", tol=1e-14, max_iter=1000)
    with warnings.catch_warnings():
        # The line search stops at the precision of the loss.
        warnings.simplefilter("ignore")
        model.fit(u[:, None], y, sample_weight=weight)
    u, s = u.astype(np.longdouble), np.longdouble(1) if weight is None else weight.astype(np.longdouble)
    ridge = 1 / np.longdouble(scale) ** 2
    w, b = np.longdouble(model.coef_[0, 0]), np.longdouble(model.intercept_[0])
    for _ in range(30):
        with np.errstate(over="ignore"):
            p, q = 1 / (1 + np.exp(-(w * u + b))), 1 / (1 + np.exp(w * u + b))
        residual, curvature = s * np.where(y, -q, p), s * p * q
        a = u - curvature @ u / curvature.sum()
        step = -(residual @ a + ridge * w) / (curvature @ a**2 + ridge)
        w, b = w + step, b - residual.sum() / curvature.sum() - (u - a)[0] * step
    assert abs(step) <= 1e-12 * abs(w) + 1e-15
    return float(w / scale), float(b - w / scale * shift)


def worst_gradient(x, y, weight, w, b):
    """The gradient at a fit, in units of the standard deviation, relative to the summed sizes of its terms."""
    z = w * x + b
    residual = weight * np.where(y, -expit(-z), expit(z))
    u = (x - np.average(x, weights=weight)) / x.std()
    return np.abs([residual @ u + w / x.std(), residual.sum()]).max() / np.abs(residual).sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", list(columns(10)))
def test_fits_equal_scikit_learn(name, weighted):
    x = columns()[name]
    Y = labels(x)
    weight = np.random.default_rng(7).uniform(0.1, 2, len(x)) if weighted else None
    w, b, converged = fit(x, Y, weight)
    assert converged.all()
    for g in range(Y.shape[1]):
        expected_w, expected_b = alone(x, Y[:, g], weight)
        assert w[g] == pytest.approx(expected_w, rel=1e-6, abs=1e-8 / x.std()), g
        assert b[g] == pytest.approx(expected_b, rel=1e-6, abs=1e-6 * abs(w[g]) * x.std() + 1e-7), g


def test_each_hypothesis_has_its_own_weights():
    generator = np.random.default_rng(8)
    x = columns()["t3"]
    Y = labels(x)
    weight = generator.uniform(0, 2, Y.shape) * (generator.random(Y.shape) < 0.6)
    # One hypothesis is defined on a small part of the range only.
    weight[np.abs(x) > 0.5, 4] = 0
    together = fit(x, Y, weight)
    assert together[2].all()
    for g in range(Y.shape[1]):
        kept = weight[:, g] > 0
        single = fit(x[kept], Y[kept, g : g + 1], weight[kept, g])
        assert together[0][g] == pytest.approx(single[0][0], rel=1e-7)
        assert together[1][g] == pytest.approx(single[1][0], rel=1e-7, abs=1e-8)


def test_a_nearly_flat_loss_does_not_stop_the_fit():
    x = np.random.default_rng(9).integers(0, 3, 4000) * 1e6
    y = np.arange(4000) == np.flatnonzero(x == 0)[0]
    w, _, converged = fit(x, y[:, None])
    assert converged.all()
    assert w[0] == pytest.approx(alone(x, y)[0], rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 60),
    exponent=st.integers(-8, 12),
    tail=st.floats(0.2, 5),
    rounded=st.booleans(),
    steepness=st.sampled_from([0.0, 1.0, 30.0, np.inf]),
)
def test_every_fit_ends_with_a_vanishing_gradient(seed, size, exponent, tail, rounded, steepness):
    generator = np.random.default_rng(seed)
    x = np.sinh(tail * generator.standard_normal(size))
    x = (np.round(x) if rounded else x) * 10.0**exponent
    weight = generator.uniform(0.1, 3, size)
    if x.min() == x.max():
        return
    z = (x - np.median(x)) / x.std()
    y = z > 0 if np.isinf(steepness) else generator.random(size) < expit(steepness * z)
    if y.all() or not y.any():
        return
    w, b, converged = fit(x, y[:, None], weight)
    assert converged.all()
    assert worst_gradient(x, y, weight, w[0], b[0]) < 1e-6


def test_steep_fits_continue_over_distinct_values(monkeypatch):
    u, _ = make(3)
    Y = (u > 0.5)[:, None]
    exact = fit(u, Y, C=1e4)
    monkeypatch.setattr(univariate, "_is_certain", lambda histogram, ridge, point: np.ones(1, bool))
    assert abs(fit(u, Y, C=1e4)[0][0] / exact[0][0] - 1) > 1e-9
