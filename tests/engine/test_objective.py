"""objective.py: objectives and gradients at any coefficients, against sums written out in float64."""

import numpy as np
import pytest
from scipy.special import expit

from gatescope.engine import objective
from gatescope.engine.objective import recompute
from gatescope.engine.problems import Solution
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.targets import BinaryTargets
from gatescope.engine.weights import Weights

N, H, K = 300, 4, 5


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_the_recomputed_objective_equals_the_sum_over_rows(monkeypatch, weighted, fit_intercept):
    monkeypatch.setattr(objective, "FEWEST", 2)
    generator = np.random.default_rng(0)
    X, Y = generator.normal(size=(N, H)) + 3, generator.random((N, K)) < 0.3
    weight = generator.random((N, K)) * 1e3 if weighted else None
    targets = BinaryTargets(Y, Weights(weight, N, K, np), "balanced" if weighted else None)
    solution = Solution(H, K)
    solution.coefficients, solution.intercepts = 0.1 * generator.normal(size=(H, K)), generator.normal(size=K) + 5
    solution.objective[1], solution.gradient[1] = 7.0, 8.0
    selected = np.arange(K) != 1
    ridge, origin, scale = 1e-3 * generator.random((H, K)), X.mean(axis=0), X.std(axis=0)
    with RowBlocks(X, np.float64) as rows:
        recompute(rows, targets, solution, selected, ridge, origin, scale, fit_intercept)
    assert (solution.objective[1], solution.gradient[1]) == (7.0, 8.0)
    assert solution.n_passes.tolist() == [1, 0, 1, 1, 1]
    for k in np.flatnonzero(selected):
        s = np.ones(N) if weight is None else weight[:, k].copy()
        if weighted:
            classes = np.array([s[~Y[:, k]].sum(), s[Y[:, k]].sum()])
            s *= (classes.sum() / (2 * classes))[Y[:, k].astype(int)]
        # In standardised units, whose coefficients are penalised.
        Z, w = (X - origin) / scale, solution.coefficients[:, k] * scale
        logits = Z @ w + solution.intercepts[k] + origin @ solution.coefficients[:, k]
        loss = (s * np.logaddexp(0, np.where(Y[:, k], -logits, logits))).sum() / s.sum()
        value = loss + 0.5 * (ridge[:, k] * w**2).sum()
        residual = s * (expit(logits) - Y[:, k]) / s.sum()
        gradient = np.abs(Z.T @ residual + ridge[:, k] * w).max()
        # Nearly all rows are far on one side, so the intercept has the largest gradient.
        assert abs(residual.sum()) > 1.1 * gradient
        if fit_intercept:
            gradient = abs(residual.sum())
        assert solution.objective[k] == pytest.approx(value * s.sum(), rel=1e-12)
        assert solution.gradient[k] == pytest.approx(gradient, rel=1e-9)
