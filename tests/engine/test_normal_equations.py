"""normal_equations.py: sums, solutions and gradients, against the rows themselves in float64."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from gatescope.engine.normal_equations import NormalEquations
from gatescope.engine.row_blocks import RowBlocks

N, H, K = 60, 4, 5
GROUP = np.array([1, 2, 4])
C = np.array([0.5, 20.0, 0.5])


def problem(weighted):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(N, H)) @ generator.normal(size=(H, H)) + [0, 3, -1, 10]
    Y = X @ generator.normal(size=(H, K)) + generator.normal(size=(N, K)) + 2
    return X, Y, generator.random(N) if weighted else None


@pytest.fixture(params=[False, True], ids=["equal", "weighted"])
def weighted(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["intercept", "without"])
def fit_intercept(request):
    return request.param


@pytest.fixture
def system(weighted, fit_intercept):
    X, Y, weight = problem(weighted)
    with RowBlocks(X, np.float64) as rows:
        return NormalEquations(rows, Y, weight, GROUP, fit_intercept)


def objective_of(w, g, weighted, fit_intercept):
    """The objective of one target, with the best intercept for these coefficients."""
    X, Y, weight = problem(weighted)
    s, missing = np.ones(N) if weight is None else weight, Y[:, GROUP[g]] - X @ w
    b = np.average(missing, weights=s) if fit_intercept else 0.0
    return 0.5 * ((s * (missing - b) ** 2).sum() + (w**2).sum() / C[g]), s.sum()


def test_objective_and_gradient_equal_those_over_the_rows(system, weighted, fit_intercept):
    W = np.random.default_rng(1).normal(size=(H, len(GROUP)))
    found, gradients = system.objective(W, C), system.gradient(W, C)
    for g in range(len(GROUP)):
        value, total = objective_of(W[:, g], g, weighted, fit_intercept)
        assert found[g] == pytest.approx(value, rel=1e-12) and system.total == pytest.approx(total, rel=1e-14)

        def mean_loss(w, g=g, total=total):
            return objective_of(w, g, weighted, fit_intercept)[0] / total

        def gradient(w, g=g):
            return gradients[:, g]

        size = np.abs(gradients[:, g]).max()
        assert check_grad(mean_loss, gradient, W[:, g]) < 1e-5 * size


def test_solutions_solve_the_penalised_rows(system, weighted, fit_intercept):
    """Least squares over the rows, plus one row for each penalty, without a matrix of sums."""
    X, Y, weight = problem(weighted)
    root = np.ones(N) if weight is None else np.sqrt(weight)
    w = system.solutions(C)
    for g, k in enumerate(GROUP):
        columns = [X, np.ones((N, 1))] if fit_intercept else [X]
        penalty = np.eye(H) / np.sqrt(C[g])
        rows = np.hstack(columns) * root[:, None]
        below = np.hstack([penalty, np.zeros((H, rows.shape[1] - H))])
        expected = np.linalg.lstsq(np.vstack([rows, below]), np.append(Y[:, k] * root, np.zeros(H)), rcond=None)[0]
        np.testing.assert_allclose(w[:, g], expected[:H], rtol=1e-9)
        assert system.intercepts(w)[g] == pytest.approx(expected[H] if fit_intercept else 0, rel=1e-9)


def test_all_zero_weights_give_a_total_of_zero():
    with RowBlocks(np.ones((3, 2)), np.float64) as rows:
        assert NormalEquations(rows, np.ones((3, 1)), np.zeros(3), np.arange(1), True).total == 0
