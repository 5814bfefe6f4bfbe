"""Factors of singular and regular matrices."""

import numpy as np
import pytest

from gatescope.engine.factor import Factor, cholesky


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_singular_matrices_get_just_enough_diagonal_jitter(dtype):
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
    # Three units span all of them: the others keep a coefficient of 0, and the product asked for is reached.
    assert (solution[3:] == 0).all() and (solution[:3] != 0).all()
    np.testing.assert_allclose(
        matrix @ solution[:-1], matrix @ np.arange(8), rtol=1e-3 if dtype == np.float32 else 1e-9
    )
    assert np.isfinite(Factor(np.full((3, 3), np.nan), None, 1.0).solve(np.ones(4))).all()
