"""The factors that hypotheses share, against dense linear algebra in float64."""

import numpy as np
from curved_rows import dense_hessian, make

from gatescope.engine.hessian_sampler import HessianSampler
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.shared_factor import KEPT_FACTORS, SharedFactor


def test_the_shared_factor_scales_with_curvature_and_ridge():
    X, _ = make(2000)
    right = np.random.default_rng(2).standard_normal((7, 2))
    with RowBlocks(X, np.float64) as rows:
        shared = SharedFactor(HessianSampler(rows, None, np.ones(6), np.ones(6), True), None, 2000, np.ones(1))
    for curvature in (0.25, 0.01, 1e-4):
        # The columns of one residual may differ in curvature and in ridge.
        curvatures, ridges = np.array([1, 2]) * curvature, np.array([4.0**-10, 2 * 4.0**-3]) * curvature
        solution = shared.solve(right, curvatures, ridges)
        for i in range(2):
            hessian = dense_hessian(X, np.full(2000, curvatures[i]), 2000.0, ridges[i], True)
            np.testing.assert_allclose(solution[:, i], np.linalg.solve(hessian, right[:, i]), rtol=1e-8)
    # Ridges come in steps: the one used is wrong by a factor of two at most.
    both = shared.solve(right[:, [0, 0]], np.full(2, 0.25), 0.25 * 4.0**-5 * np.array([0.51, 1.99]))
    np.testing.assert_array_equal(*both.T)
    for step in range(-12, 3):
        shared.solve(right, np.ones(2), np.full(2, 4.0**step))
    assert len(shared._factors) == KEPT_FACTORS


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
