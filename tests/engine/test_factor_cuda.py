"""Inverted factors on a GPU against solving with the matrix, and against the factor on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.engine.factor import Factor
from gatescope.engine.factor_cuda import DeviceFactor, cholesky


def hessian(n_units=30, seed=0):
    rows = np.random.default_rng(seed).normal(size=(100, n_units)) * np.logspace(-3, 3, n_units)
    return rows.T @ rows / 100


@pytest.mark.parametrize("centred", [False, True])
def test_device_factor_solves_like_the_cpu_factor(device, centred):
    matrix, mean = hessian(), np.linspace(-1, 1, 30) if centred else None
    residual = np.random.default_rng(1).normal(size=31)
    factor = DeviceFactor(device(matrix), mean, 0.2)
    got = factor.solve(device(residual)).get()
    assert not factor.singular
    np.testing.assert_allclose(got, Factor(matrix.copy(), mean, 0.2).solve(residual), rtol=1e-8)
    residuals = np.column_stack([residual, -2 * residual, np.arange(31.0)])
    together = DeviceFactor(device(matrix), mean, 0.2).solve(device(residuals)).get()
    expected = Factor(matrix.copy(), mean, 0.2).solve(residuals)
    assert together.dtype == np.float64 and expected.shape == (31, 3)
    np.testing.assert_allclose(together, expected, rtol=1e-8, atol=1e-12 * np.abs(expected).max())
    if not centred:
        np.testing.assert_allclose(matrix @ got[:-1], residual[:-1], rtol=1e-6, atol=1e-8)
        assert got[-1] == 0


def test_a_singular_matrix_is_factored_like_on_the_cpu(device):
    rows = np.random.default_rng(2).normal(size=(50, 6))
    # One unit repeats the one before it, one is a difference of others, and one is always 0.
    rows[:, 2], rows[:, 4], rows[:, 5] = rows[:, 1], rows[:, 0] - rows[:, 3], 0
    for dtype, close in ((np.float32, 1e-3), (np.float64, 1e-8)):
        matrix = (rows.T @ rows).astype(dtype)
        factors = DeviceFactor(device(matrix), None, 1.0), Factor(matrix.copy(), None, 1.0)
        assert factors[0].singular and factors[1].singular
        units = np.append(np.eye(6), np.zeros((6, 1)), axis=1)
        inverse = np.stack([factors[0].solve(device(unit)).get()[:-1] for unit in units], axis=1)
        expected = np.stack([factors[1].solve(unit)[:-1] for unit in units], axis=1)
        np.testing.assert_allclose(inverse, expected, rtol=close, atol=close * expected.max() / 10)
        # Units that others determine keep a coefficient of 0.
        assert not inverse[[2, 4]].any() and not inverse[:, [2, 4]].any()
        assert (np.linalg.eigvalsh(inverse[np.ix_([0, 1, 3, 5], [0, 1, 3, 5])]) > 0).all()


def test_an_indefinite_matrix_gets_more_jitter(device):
    correlation = np.array([[1.0, 1.1], [1.1, 1.0]])
    factor, jitter = cholesky(device(correlation))
    factor = factor.get()
    assert np.isfinite(factor).all() and (factor @ factor.T)[0, 0] == pytest.approx(1 + jitter) and jitter > 0.1


def test_a_nonfinite_matrix_is_replaced_by_the_identity(device):
    factor = DeviceFactor(device(np.full((3, 3), np.nan)), None, 1.0)
    np.testing.assert_allclose(factor.solve(device(np.array([1.0, 2.0, 3.0, 4.0]))).get(), [1, 2, 3, 0])
