"""Factors of approximate Hessians against dense linear algebra in float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gatescope.engine import precondition
from gatescope.engine.arrays import as_rows
from gatescope.engine.precondition import Factor, HessianSampler, SharedFactor, cholesky
from gatescope.engine.row_blocks import RowBlocks


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
        sampler = HessianSampler(rows, shift, scale, np.ones(6), fit_intercept)
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
        sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True)
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
        sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True)
        index, weight = sampler._draw(curvature, 1000)
        assert set(range(0, 5000, 50)) <= set(index.tolist())
        np.testing.assert_allclose(weight[np.isin(index, np.arange(0, 5000, 50))], 1.0)
        nothing = sampler.factor(np.zeros(5000), 5000.0, 0.5, 100)
    np.testing.assert_allclose(nothing.solve(np.arange(7.0)), [0, 2, 4, 6, 8, 10, 0])


@pytest.mark.parametrize("largest", [1, 3])
def test_the_row_of_the_largest_curvature_is_always_drawn(largest):
    X, _ = make(5000)
    with RowBlocks(X, np.float64) as rows:
        sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True)
        # A row that chance would leave out.
        row = int(sampler.threshold.argmax())
        curvature = np.full(5000, 1e-3)
        curvature[row] *= largest
        index, weight = sampler._draw(curvature, 50)
        assert (row in index) == (largest == 3)
        if largest == 3:
            assert weight[index == row] == curvature[row]


@pytest.mark.parametrize("power", [0, 6, 100])
def test_a_sample_is_as_large_as_its_variance_asks_for(power):
    X, _ = make(40_000)
    curvature = np.random.default_rng(3).random(40_000) ** power
    with RowBlocks(X, np.float64) as rows:
        index, weight = HessianSampler(rows, None, np.ones(6), np.ones(6), True)._draw(curvature, 1200)
    share = curvature[index] / weight
    # The variance of an estimated sum of curvatures, from the sample itself.
    variance = (weight**2 * (1 - share)).sum() / curvature.sum() ** 2
    # The further the curvature is carried by a few rows, the fewer others are wanted; but half of them at least.
    fewest, most, least = {0: (1150, 1250, 0.9), 6: (1000, 1150, 0.9), 100: (580, 620, 0)}[power]
    assert fewest < len(index) < most and least < variance * 1200 < 1.1


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_each_factor_is_made_once_by_a_share_of_the_cores(n_threads):
    X, curvature = make(2000)
    right, factors = np.arange(1.0, 8), {}
    with RowBlocks(X, np.float64) as rows:
        sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True)
        alone = [sampler.factor(curvature**power, 2000.0, 1e-3, 500).solve(right) for power in (1, 2, 3)]
    with RowBlocks(X, np.float64) as rows:
        # As many threads, whatever the cores of this machine.
        rows.n_threads, rows._pool = n_threads, rows._open.enter_context(ThreadPoolExecutor(n_threads))
        sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True)

        def make_factor(power, n_cores):
            assert 1 <= n_cores <= n_threads and power not in factors
            factors[power] = sampler.factor(curvature**power, 2000.0, 1e-3, 500, n_cores)

        sampler.each(make_factor, [1, 2, 3], min(2, n_threads))
    np.testing.assert_allclose([factors[power].solve(right) for power in (1, 2, 3)], alone, rtol=1e-10)


def test_the_shared_factor_follows_curvature_and_ridge():
    X, _ = make(2000)
    right = np.random.default_rng(2).standard_normal((7, 2))
    with RowBlocks(X, np.float64) as rows:
        shared = SharedFactor(HessianSampler(rows, None, np.ones(6), np.ones(6), True), None, 2000, np.ones(1))
    for curvature in (0.25, 0.01, 1e-4):
        # The columns of one residual may differ in both.
        curvatures, ridges = np.array([1, 2]) * curvature, np.array([4.0**-10, 2 * 4.0**-3]) * curvature
        solution = shared.solve(right, curvatures, ridges)
        for i in range(2):
            hessian = dense_hessian(X, np.full(2000, curvatures[i]), 2000.0, ridges[i], True)
            np.testing.assert_allclose(solution[:, i], np.linalg.solve(hessian, right[:, i]), rtol=1e-8)
    # Between two steps the ridge is taken to be at most twice too large or too small.
    both = shared.solve(right[:, [0, 0]], np.full(2, 0.25), 0.25 * 4.0**-5 * np.array([0.51, 1.99]))
    np.testing.assert_array_equal(*both.T)
    for step in range(-12, 3):
        shared.solve(right, np.ones(2), np.full(2, 4.0**step))
    assert len(shared._factors) == precondition.KEPT_FACTORS


def test_the_shared_factor_has_a_ridge_for_each_unit():
    X, _ = make(2000)
    right = np.random.default_rng(2).standard_normal(7)
    penalty = np.array([1e-12, 1e-3, 1, 1, 2, 2 - 1e-3 - 1e-12])
    X[:, 0] *= 1e-6
    with RowBlocks(X, np.float64) as rows:
        shared = SharedFactor(HessianSampler(rows, None, np.ones(6), X.std(axis=0), True), None, 2000, penalty)
    solution = shared.solve(right[:, None], np.full(1, 0.25), np.full(1, 0.25 * 4.0**-3))
    hessian = dense_hessian(X, np.full(2000, 0.25), 2000.0, 0.0, True)
    hessian[range(6), range(6)] += 0.25 * 4.0**-3 * penalty
    np.testing.assert_allclose(solution[:, 0], np.linalg.solve(hessian, right), rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_device_draws_the_same_rows_and_forms_the_same_matrix(device, dtype):
    X, curvature = make(3000)
    X, curvature = X.astype(dtype), curvature.astype(dtype)
    shift, scale = np.full(6, 4, dtype), np.array([1.0, 2, 0.5, 1, 3, 1])
    with RowBlocks(X, dtype) as rows:
        sampler = HessianSampler(rows, shift, scale, np.ones(6), True)
        half, mean = sampler.matrix(curvature, 3000.0, 600)
    with RowBlocks(device(X), dtype) as rows:
        # More than one piece of the sample.
        rows.block_rows = 100
        on_device = HessianSampler(rows, device(shift), scale, np.ones(6), True)
        np.testing.assert_array_equal(on_device.threshold.get(), sampler.threshold)
        got, got_mean = on_device.matrix(device(curvature), 3000.0, 600)
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(np.triu(got.get()), np.triu(half), rtol=0, atol=tolerance * half.max())
    np.testing.assert_allclose(got_mean, mean, rtol=tolerance)


def test_a_device_keeps_the_factors_that_problems_share(device):
    X, _ = make(500)
    residual = np.random.default_rng(2).standard_normal((7, 6))
    curvature, ridge = np.full(6, 0.2), 0.2 * 4.0 ** -np.array([9, 8, 7, 6, 5, 9])
    with RowBlocks(X, np.float64) as rows:
        expected = SharedFactor(HessianSampler(rows, None, np.ones(6), np.ones(6), True), None, 500, np.ones(1))
        solution = expected.solve(residual, curvature, ridge)
    with RowBlocks(device(X), np.float64) as rows:
        shared = SharedFactor(HessianSampler(rows, None, np.ones(6), np.ones(6), True), None, 500, np.ones(1))
        for _ in range(2):
            got = shared.solve(device(residual), curvature, ridge)
            made = dict(shared._factors)
            np.testing.assert_allclose(got.get(), solution, rtol=1e-8)
            assert len(made) == 5
        shared.solve(device(residual), curvature, ridge)
    assert all(shared._factors[step] is factor for step, factor in made.items())


@pytest.mark.cuda
def test_a_coarse_matrix_is_that_of_rounded_rows():
    """TF32 keeps 10 bits of a factor's fraction, float32 23."""
    X, curvature = (torch.from_numpy(values).float().cuda() for values in make(3000))
    cupy = pytest.importorskip("cupy")
    found = []
    with RowBlocks(as_rows(X), np.float32) as rows:
        for coarse in (False, True):
            sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True, coarse)
            found.append(sampler.matrix(cupy.from_dlpack(curvature), 3000.0, 3000)[0].get().astype(np.float64))
    error = np.abs(found[1] - found[0]).max() / np.abs(found[0]).max()
    assert 1e-6 < error < 2e-3
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"


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
    assert Factor(matrix.copy(), None, 1.0).singular and not Factor(np.eye(8, dtype=dtype), None, 1.0).singular
    solution = Factor(matrix.copy(), None, 1.0).solve(np.append(matrix @ np.arange(8, dtype=dtype), 0))
    assert np.isfinite(solution).all() and np.abs(solution).max() < 100
    # Three units span all: the others stay where they are, and what was asked for is reached.
    assert (solution[3:] == 0).all() and (solution[:3] != 0).all()
    np.testing.assert_allclose(
        matrix @ solution[:-1], matrix @ np.arange(8), rtol=1e-3 if dtype == np.float32 else 1e-9
    )
    assert np.isfinite(Factor(np.full((3, 3), np.nan), None, 1.0).solve(np.ones(4))).all()
