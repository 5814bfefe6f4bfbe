"""Newton's method on rows of few values, against scikit-learn and the project's own solvers on the same rows, dense."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from gatescope.engine.sparse_rows import SparseRows, fit_logistic, fit_ridge

P, M = 30, 5


def sparse_rows(n=4000, seed=0):
    """Rows of M values each and an intercept, and the same rows dense, without the intercept."""
    rng = np.random.default_rng(seed)
    columns = np.stack([rng.permutation(P)[:M] for _ in range(n)])
    values = np.where(rng.random((n, M)) < 0.7, 1.0, rng.normal(size=(n, M)))
    dense = np.zeros((n, P))
    np.put_along_axis(dense, columns, values, axis=1)
    with_intercept = np.hstack([columns, np.full((n, 1), P)]).astype(np.int32)
    return SparseRows(with_intercept, np.hstack([values, np.ones((n, 1))]), P + 1), dense


def labels(dense, rates=(0.5, 0.2, 0.01), seed=1):
    rng = np.random.default_rng(seed)
    logits = dense @ rng.normal(size=(P, len(rates))) * 2 + rng.logistic(size=(len(dense), len(rates)))
    return logits > np.quantile(logits, 1 - np.array(rates), axis=0).diagonal()


@pytest.mark.parametrize("C", [1.0, 30.0])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_probes_equal_scikit_learn(balanced, weighted, C):
    rows, dense = sparse_rows()
    Y = labels(dense)
    weight = np.random.default_rng(2).uniform(0, 3, Y.shape) if weighted else np.ones(Y.shape, bool)
    found = fit_logistic(rows, Y, weight, balanced, C)
    for k, y in enumerate(Y.T):
        # scikit-learn counts rows for class weights by their weights, too.
        model = LogisticRegression(
            C=C, class_weight="balanced" if balanced else None, solver="newton-cholesky", tol=1e-12, max_iter=1000
        )
        model.fit(dense, y, sample_weight=weight[:, k].astype(float))
        np.testing.assert_allclose(found[:-1, k], model.coef_[0], rtol=1e-4, atol=1e-4)
        assert found[-1, k] == pytest.approx(model.intercept_[0], abs=1e-4)
        np.testing.assert_allclose(rows.predictions(found)[:, k], model.decision_function(dense), rtol=1e-4, atol=1e-3)


def test_rare_labels_where_a_newton_step_overshoots_reach_the_minimum():
    """Whole steps from the prevalence go so far that the Hessian is singular there."""
    n, group = 20_000, 20
    codes = np.random.default_rng(0).integers(group, size=(n, 5))
    columns = np.hstack([codes + group * np.arange(5), np.full((n, 1), 5 * group)]).astype(np.int32)
    y = (codes[:, 0] == 0) & (codes[:, 1] == 0)
    rows = SparseRows(columns, np.ones((n, 6)), 5 * group + 1)
    found = fit_logistic(rows, y[:, None], np.ones((n, 1)), balanced=False)
    dense = rows.predictions(np.eye(5 * group + 1))[:, :-1]
    model = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(dense, y)
    np.testing.assert_allclose(found[:-1, 0], model.coef_[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_probes_equal_scikit_learn(weighted):
    rows, dense = sparse_rows()
    rng = np.random.default_rng(3)
    # The seconds since 1970 have ten digits.
    Y = dense @ rng.normal(size=(P, 2)) + rng.normal(size=(len(dense), 2)) + [0, 1.7e9]
    weight = rng.uniform(0, 3, Y.shape) if weighted else np.ones(Y.shape, bool)
    found = fit_ridge(rows, Y, weight, C=0.5)
    for k in range(2):
        model = Ridge(alpha=2.0).fit(dense, Y[:, k], sample_weight=weight[:, k].astype(float))
        np.testing.assert_allclose(found[:-1, k], model.coef_, rtol=1e-6, atol=1e-6)
        assert found[-1, k] == pytest.approx(model.intercept_, rel=1e-12, abs=1e-8)


def test_one_class_has_an_infinite_intercept_and_no_weight_none():
    rows, dense = sparse_rows(100)
    Y = np.stack([np.ones(100, bool), np.zeros(100, bool), dense[:, 0] > 0, dense[:, 0] > 0], axis=1)
    weight = np.ones((100, 4))
    weight[:, 2] = dense[:, 0] > 0  # only the rows of one class
    weight[:, 3] = 0
    for balanced in (False, True):
        found = fit_logistic(rows, Y, weight, balanced)
        np.testing.assert_array_equal(found[-1], [np.inf, -np.inf, np.inf, np.nan])
        assert not found[:-1].any()
        np.testing.assert_array_equal(
            rows.predictions(found)[:, :3], np.broadcast_to([np.inf, -np.inf, np.inf], (100, 3))
        )
    assert np.isnan(fit_ridge(rows, dense[:, :4], weight)[-1]).tolist() == [False, False, False, True]


def test_a_value_of_zero_may_stand_at_a_column_twice():
    rows, dense = sparse_rows()
    Y = labels(dense)
    twice = SparseRows(
        np.hstack([rows.columns[:, :1], rows.columns]), np.hstack([np.zeros((4000, 1)), rows.values]), P + 1
    )
    expected, found = (fit_logistic(each, Y, np.ones(Y.shape), balanced=True) for each in (rows, twice))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
