"""The loops over remembered steps on a GPU, against a dense BFGS matrix."""

from __future__ import annotations

import numpy as np

from gatescope.engine.step_pairs_cuda import DevicePairs


def inverse_hessian(first, steps, changes, reciprocals):
    """BFGS updates of a dense inverse Hessian (Nocedal & Wright 2006, equation 6.17)."""
    matrix, identity = first, np.eye(len(first))
    for step, change, reciprocal in zip(steps, changes, reciprocals, strict=True):
        turn = identity - reciprocal * np.outer(change, step)
        matrix = turn.T @ matrix @ turn + reciprocal * np.outer(step, step)
    return matrix


def test_the_loops_apply_the_bfgs_matrix(device):
    generator = np.random.default_rng(0)
    # More coordinates than lanes, and not a multiple of them; two of the five slots for pairs are empty.
    steps, changes = generator.standard_normal((2, 5, 45, 4))
    reciprocals = 1 / np.einsum("mhk,mhk->mk", steps, changes)
    reciprocals[1, 3] = 0
    columns, gradient = np.array([3, 0]), generator.standard_normal((45, 2))
    pairs = DevicePairs(device(steps), device(changes), reciprocals[:3], columns)
    q = device(gradient.copy())
    weights = pairs.from_the_last(q)
    x = q * 0.5
    pairs.from_the_first(x, weights)
    for i, k in enumerate(columns):
        kept = (values[:3, ..., k] for values in (steps, changes, reciprocals))
        expected = inverse_hessian(0.5 * np.eye(45), *kept) @ gradient[:, i]
        np.testing.assert_allclose(x[:, i].get(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_no_pairs_leave_the_gradient_unchanged(device):
    gradient = np.arange(6.0).reshape(3, 2)
    pairs = DevicePairs(device(np.ones((5, 3, 2))), device(np.ones((5, 3, 2))), np.ones((0, 2)), np.array([0, 1]))
    q = device(gradient.copy())
    weights = pairs.from_the_last(q)
    pairs.from_the_first(q, weights)
    np.testing.assert_array_equal(q.get(), gradient)
