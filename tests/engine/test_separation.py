"""Whether a minimum exists without a penalty: against one linear programme over all rows, and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import OptimizeResult, linprog
from scipy.special import expit

from gatescope.engine import separation
from gatescope.engine.irls import LogisticProbes

pytestmark = pytest.mark.filterwarnings("ignore:.*probes did not converge")


def has_plane(X, y, weight, fit_intercept=True):
    """Whether a direction moves no row of positive weight away from its label, and at least one towards it."""
    X = X.astype(np.float64)
    X = (X - X.mean(axis=0) * fit_intercept) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
    points = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    points = (points * (2.0 * y[:, None] - 1))[weight > 0]
    found = linprog(-points.sum(axis=0), -points, np.zeros(len(points)), bounds=(-1, 1))
    return -found.fun > 1e-4


def with_a_mark(dtype=np.float64):
    """Two weakly predictive units, and a mark: a unit that is 1 at 5% of the rows, where the label is always true."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((1000, 2))
    mark = generator.random(1000) < 0.05
    y = (generator.random(1000) < expit(X[:, 0])) | mark
    return np.column_stack([X, mark]).astype(dtype), y, mark


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
def test_a_unit_seen_with_one_label_gets_no_coefficient(dtype, tol):
    X, y, mark = with_a_mark(dtype)
    torn = y.copy()
    torn[np.flatnonzero(mark)[7]] = False
    weight = np.ones((1000, 3))
    weight[:, 2] = ~mark
    probes = LogisticProbes(np.inf, tol=tol).fit(X, np.column_stack([y, torn, y]), weight)
    # One row of the other label gives the mark a coefficient; where the mark has no weight it has no effect.
    assert probes.status_.tolist() == ["separable", "converged", "converged"]
    assert np.isnan(probes.standard_errors(X, np.column_stack([y, torn, y]), weight).coef[0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["far", "steep"])
def test_large_logits_do_not_count_as_separable(dtype, kind):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((5000, 2))
    y = generator.random(5000) < expit((2 if kind == "far" else 15) * X[:, 0])
    if kind == "far":
        X[0], y[0] = [40, 0], True
    X = X.astype(dtype)
    probes = LogisticProbes(np.inf, tol=1e-9).fit(X, y)
    oracle = sm.Logit(y.astype(float), sm.add_constant(X.astype(np.float64))).fit(disp=0, tol=1e-14)
    assert probes.status_.tolist() == ["converged"]
    assert np.abs(probes.decision_function(X)).max() > 50
    np.testing.assert_allclose(probes.coef_[0], oracle.params[1:], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(probes.standard_errors(X, y).coef[0], oracle.bse[1:], rtol=1e-6)


def any_problem(seed):
    """Units that vary or are marks, on very different scales, some of them far from zero, with rare labels."""
    generator = np.random.default_rng(seed)
    N, H = int(generator.integers(20, 300)), int(generator.integers(1, 10))
    marks = generator.random((N, H)) < generator.choice([0.02, 0.1, 0.5], H)
    X = np.where(generator.random(H) < 0.5, generator.standard_normal((N, H)).round(1), marks)
    y = generator.random(N) < expit(generator.choice([0, 1, 5]) * X[:, 0] - generator.standard_normal())
    if generator.random() < 0.5:
        y |= X[:, -1] > np.quantile(X[:, -1], 0.95)
    weight = (generator.random(N) < 0.9) * generator.choice([0.5, 1, 3], N)
    y[:2], weight[:2] = [True, False], 1
    return X * 10.0 ** generator.integers(-2, 3, H) + (generator.random(H) < 0.2) * 100, y, weight


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_status_of_any_small_problem_matches_a_linear_program(fit_intercept):
    seen = []
    for seed in range(60):
        X, y, weight = any_problem(seed)
        status = LogisticProbes(np.inf, fit_intercept=fit_intercept).fit(X, y, weight).status_[0]
        if status != "max_iter":
            expected = has_plane(X, y, weight, fit_intercept)
            assert (status == "separable") == expected, seed
            seen.append(expected)
    assert 15 < sum(seen) < len(seen) - 15


@pytest.mark.parametrize("gap", [False, True])
def test_many_free_directions_do_not_hide_separability(device, gap):
    """Nearly all rows are on their right side, and the few others leave most directions free."""
    generator = np.random.default_rng(1)
    X = generator.standard_normal((3000, 40))
    mark = generator.random(3000) < 0.03
    X[:, 39] = mark
    score = X[:, :39] @ generator.standard_normal(39)
    y = score + generator.logistic(size=3000) > 12
    # All rows of the mark have one label, or all but two.
    y[mark] = False
    y[np.flatnonzero(mark)[:2]] = not gap
    weight = np.ones(3000)
    assert has_plane(X, y, weight) == gap
    for states in (X, device(X)):
        probes = LogisticProbes(np.inf, max_iter=2000).fit(states, y)
        wrong = (probes.predict(X) != y).sum()
        assert probes.status_.tolist() == ["separable" if gap else "converged"] and 0 < wrong < 40


def test_a_plane_through_misclassified_rows_counts_as_separable():
    """Three rows lie on the plane, and two of them have the same label."""
    X = np.concatenate([np.linspace(-2, -1, 20), np.zeros(3), np.linspace(1, 2, 20)])[:, None]
    y = np.repeat([False, True], [21, 22])
    assert has_plane(X, y, np.ones(43))
    probes = LogisticProbes(np.inf).fit(X, y)
    assert (probes.predict(X) != y).sum() == 1 and probes.status_.tolist() == ["separable"]


def test_a_failed_linear_program_does_not_stop_the_fit(monkeypatch):
    X, y, _ = with_a_mark()
    real = separation.linprog
    monkeypatch.setattr(separation, "linprog", lambda *given, **named: OptimizeResult(real(*given, **named), fun=None))
    probes = LogisticProbes(np.inf).fit(X, np.column_stack([y, X[:, 0] > 0]))
    assert probes.status_.tolist() == ["converged", "separable"]
