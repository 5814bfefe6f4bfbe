"""Fits on a histogram against the same fits on the values, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from gatescope.engine import univariate
from gatescope.engine.univariate import Histogram, fit_univariate


def make(seed=0, N=5000):
    generator = np.random.default_rng(seed)
    u = generator.standard_normal(N)
    return u, generator.uniform(0, 2, N)


@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_of_a_histogram_are_those_of_its_values(weighted):
    u, weight = make()
    weight = weight if weighted else None
    s = np.ones_like(u) if weight is None else weight
    w, b = np.array([0.0, 1.5, -8.0]), np.array([-2.0, 0.3, 1.0])
    p = expit(np.outer(w, u) + b[:, None])
    gradient = np.stack([(s * p * u).sum(axis=1), (s * p).sum(axis=1)])
    pq = s * p * (1 - p)
    hessian = np.stack([(pq * u**2).sum(axis=1), (pq * u).sum(axis=1), pq.sum(axis=1)])
    binned = Histogram.of_equal_bins(u, weight)
    assert (np.abs(w) * binned.half_width < univariate.WIDEST).all()
    got, curvature = binned.derivatives(w, b)
    np.testing.assert_allclose(got, gradient, atol=1e-8 * s.sum())
    # Newton's method does with the curvature at the middles of the bins.
    np.testing.assert_allclose(curvature, hessian, atol=1e-2 * s.sum())
    got, curvature = Histogram.of_distinct_values(u, weight).derivatives(w, b)
    np.testing.assert_allclose(got, gradient, rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(curvature, hessian, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("steepness", [0.0, 1.0, 30.0, 3000.0])
@pytest.mark.parametrize("share", [0.5, 0.002])
def test_the_minimum_is_that_of_the_objective(steepness, share):
    u, weight = make(1)
    generator = np.random.default_rng(2)
    score = steepness * u + generator.logistic(size=len(u))
    y = score > np.quantile(score, 1 - share)
    x = 0.3 * u + 7
    got = fit_univariate(x, weight, np.array([weight @ y]), np.array([(weight * y) @ x]), 1.0)
    assert got[2].all()

    def objective(point):
        z = point[0] * x + point[1]
        gradient = weight * (expit(z) - y)
        loss = weight @ np.logaddexp(0, np.where(y, -z, z)) + point[0] ** 2 / 2
        return loss, np.array([gradient @ x + point[0], gradient.sum()])

    point = np.array([got[0][0], got[1][0]])
    loss, gradient = objective(point)
    assert np.abs(gradient).max() < 1e-6 * weight.sum()
    assert loss <= minimize(objective, [0.0, 0.0], jac=True, method="BFGS").fun * (1 + 1e-10)


def test_steep_fits_go_on_over_distinct_values(monkeypatch):
    u, _ = make(3)
    y = u > 0.5
    arguments = (u, None, np.array([float(y.sum())]), np.array([u[y].sum()]), 100.0)
    exact = fit_univariate(*arguments)
    assert np.abs(exact[0][0]) * 7 / univariate.BINS > univariate.WIDEST
    monkeypatch.setattr(univariate, "WIDEST", np.inf)
    assert abs(fit_univariate(*arguments)[0][0] / exact[0][0] - 1) > 1e-9
