"""Variances of units that a sample missed, against NumPy over all rows."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.engine.arrays import to_host
from gatescope.engine.hessian_sampler import HessianSampler
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.weights import CHUNK_ROWS

SCALE = np.array([1.0, 2, 1, 1, 1, 0.5])


def make(dtype):
    """Six units: plain, rare and far from zero, rare, constant where there is weight, constant, plain."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((6000, 6))
    weight = generator.uniform(0.5, 1, 6000) * (np.arange(6000) >= 1000)
    # Few rows carry the variation, and they have little weight.
    rare = generator.choice(np.arange(1000, 6000), 5, replace=False)
    X[:, 1:3] = [-30, 0]
    X[rare, 1:3] += 3
    weight[rare] *= 1e-3
    X[1000:, 3], X[:, 4] = 0.3, 0.7
    return X.astype(dtype), weight.astype(dtype), rare


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_units_missed_by_a_sample_get_their_exact_variances(device, dtype, fit_intercept):
    X, weight, rare = make(dtype)
    exact = X.astype(np.longdouble) / SCALE
    mean = np.average(exact, axis=0, weights=weight) if fit_intercept else 0
    variance = np.average((exact - mean) ** 2, axis=0, weights=weight).astype(np.float64)
    curved = weight.sum() / 6000
    sd = X.std(axis=0, dtype=np.float64) * (np.ptp(X, axis=0) > 0)
    for move in (lambda array: array, device):
        with RowBlocks(move(X), dtype) as rows:
            sampler = HessianSampler(rows, None, SCALE, sd, fit_intercept)
            index, _ = sampler._draw(move(weight), 200)
            assert not np.isin(to_host(index), rare).any()
            matrix, _ = sampler.matrix(move(weight), 6000.0, 200)
        matrix = np.triu(to_host(matrix)).astype(np.float64)
        found, others = matrix.diagonal(), np.abs(matrix - np.diag(matrix.diagonal()))
        missed = [1, 2] if fit_intercept else [2]
        np.testing.assert_allclose(found[missed], curved * variance[missed], rtol=0.05)
        assert (others[missed] == 0).all() and (others[:, missed] == 0).all()
        # The other variances come from the sample, and constant units have none.
        np.testing.assert_allclose(found[[0, 5]], curved * variance[[0, 5]], rtol=0.3)
        assert others[0, 5] > 0
        if fit_intercept:
            assert (found[[3, 4]] == 0).all() and (others[:, [3, 4]] == 0).all()


def test_a_sample_that_sees_all_units_needs_no_extra_pass(monkeypatch):
    X = np.random.default_rng(1).standard_normal((3 * CHUNK_ROWS, 6))
    with RowBlocks(X, np.float64) as rows:
        sampler = HessianSampler(rows, None, SCALE, X.std(axis=0), True)
        passes = []
        monkeypatch.setattr(rows, "totals", lambda *given, **named: passes.append(given))
        factor = sampler.factor(np.ones(len(X)), float(len(X)), 0.0, 200)
    assert not passes and not factor.singular
