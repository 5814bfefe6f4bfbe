"""The two-loop recursion, against the BFGS matrices themselves."""

from __future__ import annotations

import numpy as np
import pytest
from logistic_problems import problems_of

from gatescope.engine.arrays import as_rows
from gatescope.engine.inverse_hessian import InverseHessians
from gatescope.engine.row_blocks import RowBlocks


def inverse_hessians(rows, n_problems):
    """One column for each problem, with a matrix that all problems share."""
    signed = np.where(np.arange(rows.shape[0])[:, None] % 2, np.ones(n_problems), -1.0)
    problems = problems_of(rows, signed)
    inverse = InverseHessians(problems, np.arange(n_problems), n_problems, 1)
    for k in range(n_problems):
        inverse.start(k, k)
    inverse.share(waiting=False)
    return inverse


@pytest.mark.parametrize("on_device", [False, True])
def test_directions_equal_the_matrix_and_skip_pairs_without_curvature(device, on_device):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((300, 4))
    columns = np.arange(3)
    with RowBlocks(as_rows(device(X)) if on_device else X, np.float64) as rows:
        inverse = inverse_hessians(rows, 3)
        matrices = [
            np.column_stack([-inverse.direction(np.array([k]), unit[:, None]) for unit in np.eye(5)]) for k in range(3)
        ]
        curvature = generator.standard_normal((5, 5))
        curvature = curvature @ curvature.T
        for i in range(4):
            step = generator.standard_normal((5, 3))
            change = curvature @ step
            # The second problem has pairs with zero and with negative curvature.
            if i == 1:
                change[:, 1] -= (step[:, 1] @ change[:, 1]) / (step[:, 1] @ step[:, 1]) * step[:, 1]
            if i == 2:
                change[:, 1] *= -1
            inverse.remember(columns, step, change)
            for k in range(3):
                if k == 1 and i in (1, 2):
                    continue
                rho = 1 / (step[:, k] @ change[:, k])
                left = np.eye(5) - rho * np.outer(step[:, k], change[:, k])
                matrices[k] = left @ matrices[k] @ left.T + rho * np.outer(step[:, k], step[:, k])
        g = generator.standard_normal((5, 3))
        found = inverse.direction(columns, g)
    for k in range(3):
        np.testing.assert_allclose(found[:, k], -matrices[k] @ g[:, k], rtol=1e-9)


def test_renewing_one_matrix_leaves_the_shared_one_for_others():
    generator = np.random.default_rng(0)
    X, g, columns = generator.standard_normal((300, 4)), generator.standard_normal((5, 3)), np.arange(3)
    with RowBlocks(X, np.float64) as rows:
        inverse = inverse_hessians(rows, 3)
        before = inverse.direction(columns, g)
        inverse.renew(columns[:1], lambda column: np.full(300, 1e-3), waiting=False)
        found = inverse.direction(columns, g)
    np.testing.assert_array_equal(found[:, 1:], before[:, 1:])
    # Where the loss has little curvature, steps are long.
    assert np.linalg.norm(found[:, 0]) > 2 * np.linalg.norm(before[:, 0]) and found[:, 0] @ g[:, 0] < 0


def test_a_shared_matrix_is_kept_while_needed():
    X = np.random.default_rng(0).standard_normal((300, 4))
    with RowBlocks(X, np.float64) as rows:
        inverse = inverse_hessians(rows, 3)
        shared = inverse.shared[0]
        inverse.share(waiting=False)
        assert inverse.shared == {0: shared}
        inverse.renew(np.arange(2), lambda column: np.ones(300), waiting=True)
        inverse.share(waiting=False)
        assert inverse.shared == {0: shared}
        # Every problem has a matrix of its own, but the next problem has not come yet.
        inverse.renew(np.array([2]), lambda column: np.ones(300), waiting=True)
        inverse.share(waiting=True)
        assert inverse.shared == {0: shared}
        inverse.share(waiting=False)
        assert inverse.shared == {}
