"""Samples of rows, and the factors of their matrices, against dense linear algebra in float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from curved_rows import dense_hessian, make

from gatescope.engine import hessian_sampler
from gatescope.engine.arrays import as_rows
from gatescope.engine.hessian_sampler import HessianSampler
from gatescope.engine.row_blocks import RowBlocks


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("rows_at_once", [1000, 10_000])
def test_the_factor_of_all_rows_inverts_the_hessian(monkeypatch, fit_intercept, rows_at_once):
    monkeypatch.setattr(hessian_sampler, "SAMPLE_ROWS", rows_at_once)
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
    # Rows are drawn with equal weight, so eigenvalues spread like those of a Wishart matrix (Marchenko & Pastur 1967).
    edge = np.sqrt(6 / 1200)
    ratios = np.linalg.eigvals(np.linalg.solve(exact, matrix)).real
    assert (1 - 2 * edge) ** 2 < ratios.min() and ratios.max() < (1 + 2 * edge) ** 2
    np.testing.assert_allclose(weight.sum(), curvature.sum(), rtol=0.1)
    np.testing.assert_allclose(mean, center, atol=5 * X.std() / np.sqrt(1200))


def test_rows_that_carry_all_curvature_are_always_drawn():
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
        # A row that the draw would otherwise leave out.
        row = int(sampler.threshold.argmax())
        curvature = np.full(5000, 1e-3)
        curvature[row] *= largest
        index, weight = sampler._draw(curvature, 50)
        assert (row in index) == (largest == 3)
        if largest == 3:
            assert weight[index == row] == curvature[row]


@pytest.mark.parametrize("power", [0, 6, 100])
def test_sample_size_follows_the_required_variance(power):
    X, _ = make(40_000)
    curvature = np.random.default_rng(3).random(40_000) ** power
    with RowBlocks(X, np.float64) as rows:
        index, weight = HessianSampler(rows, None, np.ones(6), np.ones(6), True)._draw(curvature, 1200)
    share = curvature[index] / weight
    # The variance of an estimated sum of curvatures, computed from the sample itself.
    variance = (weight**2 * (1 - share)).sum() / curvature.sum() ** 2
    # The more of the curvature a few rows carry, the fewer others are needed, but at least half of them.
    fewest, most, least = {0: (1150, 1250, 0.9), 6: (1000, 1150, 0.9), 100: (580, 620, 0)}[power]
    assert fewest < len(index) < most and least < variance * 1200 < 1.1


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_each_factor_is_computed_once_with_a_share_of_the_cores(n_threads):
    X, curvature = make(2000)
    right, factors = np.arange(1.0, 8), {}
    with RowBlocks(X, np.float64) as rows:
        sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True)
        alone = [sampler.factor(curvature**power, 2000.0, 1e-3, 500).solve(right) for power in (1, 2, 3)]
    with RowBlocks(X, np.float64) as rows:
        # A fixed number of threads, however many cores this machine has.
        rows.n_threads, rows._pool = n_threads, rows._open.enter_context(ThreadPoolExecutor(n_threads))
        sampler = HessianSampler(rows, None, np.ones(6), np.ones(6), True)

        def make_factor(power, n_cores):
            assert 1 <= n_cores <= n_threads and power not in factors
            factors[power] = sampler.factor(curvature**power, 2000.0, 1e-3, 500, n_cores)

        sampler.each(make_factor, [1, 2, 3], min(2, n_threads))
    np.testing.assert_allclose([factors[power].solve(right) for power in (1, 2, 3)], alone, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_device_draws_the_same_rows_and_forms_the_same_matrix(device, dtype):
    X, curvature = make(3000)
    X, curvature = X.astype(dtype), curvature.astype(dtype)
    shift, scale = np.full(6, 4, dtype), np.array([1.0, 2, 0.5, 1, 3, 1])
    with RowBlocks(X, dtype) as rows:
        sampler = HessianSampler(rows, shift, scale, np.ones(6), True)
        half, mean = sampler.matrix(curvature, 3000.0, 600)
    with RowBlocks(device(X), dtype) as rows:
        # The sample takes more than one piece.
        rows.block_rows = 100
        on_device = HessianSampler(rows, device(shift), scale, np.ones(6), True)
        np.testing.assert_array_equal(on_device.threshold.get(), sampler.threshold)
        got, got_mean = on_device.matrix(device(curvature), 3000.0, 600)
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(np.triu(got.get()), np.triu(half), rtol=0, atol=tolerance * half.max())
    np.testing.assert_allclose(got_mean, mean, rtol=tolerance)


@pytest.mark.cuda
def test_a_coarse_matrix_equals_that_of_rounded_rows():
    """TF32 keeps 10 bits of the fraction, float32 23."""
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
