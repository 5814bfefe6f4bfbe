"""Factors of approximate Hessians against dense linear algebra in float64."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.engine import precondition
from gatescope.engine.arrays import RowBlocks
from gatescope.engine.precondition import Factor, HessianSampler, SharedFactor, cholesky


def make(n_rows=4000, n_units=6):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n_rows, n_units)) @ generator.standard_normal((n_units, n_units)) + 5
    curvature = generator.random(n_rows) ** 6
    return X, curvature


def dense_hessian(X, curvature, total, ridge, fit_intercept):
    design = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    matrix = design.T @ (design * curvature[:, None]) / total
    return matrix + ridge * np.diag([1.0] * X.shape[1] + [0.0] * fit_intercept)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("rows_at_once", [1000, 10_000])
def test_the_factor_of_all_rows_inverts_the_hessian(monkeypatch, fit_intercept, rows_at_once):
    monkeypatch.setattr(precondition, "SAMPLE_ROWS", rows_at_once)
    X, curvature = make()
    scale = np.array([1.0, 2, 0.5, 1, 3, 1])
    shift = np.full(6, 4.0)
    with RowBlocks(X, np.float64) as rows:
        sampler = HessianSampler(rows, shift, scale, fit_intercept)
        factor = sampler.factor(curvature, 4000.0, 1e-3, 4000)
    hessian = dense_hessian((X - 4) / scale, curvature, 4000.0, 1e-3, fit_intercept)
    right = np.random.default_rng(1).standard_normal(7)
    expected = np.linalg.solve(hessian, right[: len(hessian)])
    np.testing.assert_allclose(factor.solve(right)[: len(hessian)], expected, rtol=1e-9)
    if not fit_intercept:
        assert factor.solve(right)[-1] == 0


def test_a_sample_keeps_the_spectrum():
    X, curvature = make(40_000)
    with RowBlocks(X, np.float64) as rows:
        sampler = HessianSampler(rows, None, np.ones(6), True)
        half, mean = sampler.matrix(curvature, 40_000.0, 1200)
        index, weight = sampler._draw(curvature, 1200)
    assert 1000 < len(index) < 1400
    matrix = np.triu(half) + np.triu(half, 1).T
    center = curvature @ X / curvature.sum()
    exact = (X - center).T @ ((X - center) * curvature[:, None]) / 40_000
    # Rows drawn with equal weight each: eigenvalues spread like those of a Wishart matrix (Marchenko & Pastur 1967).
    edge = np.sqrt(6 / 1200)
    ratios = np.linalg.eigvals(np.linalg.solve(exact, matrix)).real
    assert (1 - 2 * edge) ** 2 < ratios.min() and ratios.max() < (1 + 2 * edge) ** 2
    np.testing.assert_allclose(weight.sum(), curvature.sum(), rtol=0.1)
    np.testing.assert_allclose(mean, center, atol=5 * X.std() / np.sqrt(1200))


def test_rows_that_carry_all_curvature_are_drawn_for_certain():
    X, _ = make(5000)
    curvature = np.zeros(5000)
    curvature[::50] = 1.0
    curvature[7] = 1e-9
    with RowBlocks(X, np.float64) as rows:
        sampler = HessianSampler(rows, None, np.ones(6), True)
        index, weight = sampler._draw(curvature, 1000)
        assert set(range(0, 5000, 50)) <= set(index.tolist())
        np.testing.assert_allclose(weight[np.isin(index, np.arange(0, 5000, 50))], 1.0)
        nothing = sampler.factor(np.zeros(5000), 5000.0, 0.5, 100)
    np.testing.assert_allclose(nothing.solve(np.arange(7.0)), [0, 2, 4, 6, 8, 10, 0])


def test_the_shared_factor_follows_curvature_and_ridge():
    X, _ = make(2000)
    right = np.random.default_rng(2).standard_normal(7)
    with RowBlocks(X, np.float64) as rows:
        shared = SharedFactor(HessianSampler(rows, None, np.ones(6), True), None, 2000)
    for curvature in (0.25, 0.01, 1e-4):
        for ridge in (4.0**-10 * curvature, 4.0**-3 * curvature):
            hessian = dense_hessian(X, np.full(2000, curvature), 2000.0, ridge, True)
            np.testing.assert_allclose(
                shared.solve(right, curvature, ridge), np.linalg.solve(hessian, right), rtol=1e-8
            )
    # Between two steps the ridge is taken to be at most twice too large or too small.
    low, high = (shared.solve(right, 0.25, 0.25 * 4.0**-5 * factor) for factor in (0.51, 1.99))
    np.testing.assert_array_equal(low, high)
    for step in range(-12, 3):
        shared.solve(right, 1.0, 4.0**step)
    assert len(shared._factors) == precondition.KEPT_FACTORS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_singular_matrices_get_just_enough_on_the_diagonal(dtype):
    generator = np.random.default_rng(3)
    thin = np.vstack([np.eye(3), generator.standard_normal((5, 3))]).astype(dtype)
    matrix = thin @ thin.T
    scale = 1 / np.sqrt(matrix.diagonal())
    correlation = matrix * scale * scale[:, None]
    packed, jitter = cholesky(correlation.copy())
    factor = np.zeros_like(correlation)
    factor.T[np.triu_indices(8)] = packed
    assert np.abs(factor @ factor.T - correlation).max() < 1e3 * np.finfo(dtype).eps
    assert jitter < 1e3 * np.finfo(dtype).eps
    solution = Factor(matrix.copy(), None, 1.0).solve(np.append(matrix @ np.arange(8, dtype=dtype), 0))
    assert np.isfinite(solution).all() and np.abs(solution).max() < 100
    # Three units span all: the others stay where they are, and what was asked for is reached.
    assert (solution[3:] == 0).all() and (solution[:3] != 0).all()
    np.testing.assert_allclose(
        matrix @ solution[:-1], matrix @ np.arange(8), rtol=1e-3 if dtype == np.float32 else 1e-9
    )
    assert np.isfinite(Factor(np.full((3, 3), np.nan), None, 1.0).solve(np.ones(4))).all()
