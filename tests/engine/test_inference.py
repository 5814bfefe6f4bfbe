"""Standard errors against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit

from gatescope.engine import row_blocks
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes


def make(N=1500, H=5, K=3, seed=0):
    """Rows of 60 sequences; rows of one sequence share a part of their states and labels."""
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 60, N)
    X = generator.normal(size=(N, H)) + generator.normal(size=(60, H))[groups]
    Y = X[:, :K] + 2 * generator.logistic(size=(N, K)) + generator.normal(size=(60, K))[groups] > [0, 1, 3]
    return X, Y, groups


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK_VALUES", 1000)
    monkeypatch.setattr(row_blocks, "thread_count", lambda: 3)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("clustered", [False, True])
def test_errors_and_p_values_equal_statsmodels(small_blocks, fit_intercept, clustered):
    X, Y, groups = make()
    probes = LogisticProbes(C=np.inf, fit_intercept=fit_intercept, tol=1e-11).fit(X, Y)
    names = np.array([f"sequence {g}" for g in groups])
    got = probes.standard_errors(X, Y, groups=names if clustered else None)
    design = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    options = {"cov_type": "cluster", "cov_kwds": {"groups": groups}} if clustered else {}
    for k in range(3):
        oracle = sm.Logit(Y[:, k].astype(float), design).fit(disp=0, tol=1e-14, **options)
        np.testing.assert_allclose(got.coef[k], oracle.bse[:5], rtol=1e-7)
        np.testing.assert_allclose(got.p_values[k], oracle.pvalues[:5], rtol=1e-5, atol=1e-300)
        if fit_intercept:
            np.testing.assert_allclose(got.intercept[k], oracle.bse[5], rtol=1e-7)
    assert np.isnan(got.intercept).all() != fit_intercept


@pytest.mark.parametrize("clustered", [False, True])
def test_rows_of_weight_zero_are_as_if_absent(clustered):
    X, Y, groups = make()
    defined = np.random.default_rng(1).random(Y.shape) < 0.7
    probes = LogisticProbes(C=np.inf, tol=1e-11).fit(X, Y, defined)
    got = probes.standard_errors(X, Y, defined, groups if clustered else None)
    for k in range(3):
        rows = defined[:, k]
        alone = LogisticProbes(C=np.inf, tol=1e-11).fit(X[rows], Y[rows, k])
        expected = alone.standard_errors(X[rows], Y[rows, k], groups=groups[rows] if clustered else None)
        np.testing.assert_allclose(got.coef[k], expected.coef[0], rtol=1e-7)
        np.testing.assert_allclose(got.p_values[k], expected.p_values[0], rtol=1e-5, atol=1e-300)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_weights_count_rows(clustered, each):
    # Few rows, so that the correction for their number shows.
    X, Y, groups = make(N=200)
    weight = np.random.default_rng(2).integers(0, 4, Y.shape if each else len(X))
    probes = LogisticProbes(C=np.inf, tol=1e-11).fit(X, Y, weight)
    got = probes.standard_errors(X, Y, weight, groups if clustered else None)
    for k in range(3):
        rows = np.repeat(np.arange(len(X)), weight[:, k] if each else weight)
        options = {"cov_type": "cluster", "cov_kwds": {"groups": groups[rows]}} if clustered else {}
        oracle = sm.Logit(Y[rows, k].astype(float), sm.add_constant(X[rows])).fit(disp=0, tol=1e-14, **options)
        np.testing.assert_allclose(np.append(got.intercept[k], got.coef[k]), oracle.bse, rtol=1e-7)
        np.testing.assert_allclose(got.p_values[k], oracle.pvalues[1:], rtol=1e-5, atol=1e-300)


def test_class_weights_do_not_change_the_number_of_rows():
    X, Y, groups = make(N=200)
    plain, heavy = (LogisticProbes(C=np.inf, tol=1e-11, class_weight=w).fit(X, Y) for w in (None, {0: 5.0, 1: 5.0}))
    # All scores and all information are five times as large, but the number of rows stays.
    expected = plain.standard_errors(X, Y, groups=groups).coef
    np.testing.assert_allclose(heavy.standard_errors(X, Y, groups=groups).coef, expected, rtol=1e-7)


@pytest.mark.parametrize("standardize", [False, True])
def test_a_penalty_is_part_of_the_information_and_forbids_p_values(standardize):
    X, Y, _ = make()
    X = X * [1, 10, 0.1, 1, 1]
    probes = LogisticProbes(C=[0.01, 0.02, 0.03], standardize=standardize, class_weight="balanced").fit(X, Y)
    got = probes.standard_errors(X, Y)
    for k in range(3):
        p = expit(X @ probes.coef_[k] + probes.intercept_[k])
        s = np.where(Y[:, k], 0.5 / Y[:, k].mean(), 0.5 / (1 - Y[:, k].mean()))
        design = np.column_stack([X, np.ones(len(X))])
        penalty = (X.std(axis=0) ** 2 if standardize else np.ones(5)) / probes.C[k]
        information = design.T @ (design * (s * p * (1 - p))[:, None]) + np.diag(np.append(penalty, 0))
        expected = np.sqrt(np.linalg.inv(information).diagonal())
        np.testing.assert_allclose(np.append(got.coef[k], got.intercept[k]), expected, rtol=1e-8)
    assert np.isnan(got.p_values).all()
    plain = LogisticProbes(C=np.inf, class_weight="balanced").fit(X, Y)
    assert np.isnan(plain.standard_errors(X, Y).p_values).all()


@pytest.mark.filterwarnings("ignore:1 of 1 probes did not converge")
def test_undefined_standard_errors_are_nan():
    X, Y, groups = make()
    Y[:, 1] = True
    probes = LogisticProbes().fit(X, Y)
    got = probes.standard_errors(X, Y)
    assert np.isnan(got.coef[1]).all() and np.isfinite(got.coef[[0, 2]]).all()
    double = np.hstack([X, X[:, :1]])
    twice = LogisticProbes(C=np.inf).fit(double, Y[:, 0])
    assert np.isnan(twice.standard_errors(double, Y[:, 0]).coef).all()
    assert np.isnan(probes.standard_errors(X, Y, groups=np.zeros(len(X))).coef).all()
    # A fit that has not reached its minimum is no estimate, and so has no standard error.
    for y, max_iter, status in ((X[:, 0] > 0, 500, "separable"), (Y[:, 0], 1, "max_iter")):
        unfinished = LogisticProbes(C=np.inf, max_iter=max_iter).fit(X, y)
        found = unfinished.standard_errors(X, y)
        assert unfinished.status_[0] == status
        assert np.isnan(found.coef).all() and np.isnan(found.intercept).all() and np.isnan(found.p_values).all()
    with pytest.raises(InputError, match="groups has the shape"):
        probes.standard_errors(X, Y, groups=groups[:-1])
    with pytest.raises(InputError, match="Y has 2 hypotheses: expected 3"):
        probes.standard_errors(X, Y[:, :2])
    words = np.where(Y[:, 0], "yes", "no")
    flat = LogisticProbes(C=np.inf).fit(X, words).standard_errors(X, words)
    np.testing.assert_allclose(flat.coef[0], LogisticProbes(C=np.inf).fit(X, Y).standard_errors(X, Y).coef[0])


@pytest.mark.parametrize("offset", [1e6, 1e8])
@pytest.mark.parametrize("grouped", [False, True], ids=["rows", "groups"])
def test_standard_errors_do_not_change_with_an_offset(offset, grouped):
    rng = np.random.default_rng(0)
    X = rng.integers(-50, 50, size=(600, 4)) / 16
    y = X[:, 0] + rng.normal(size=600) > 0
    groups = np.arange(600) // 10 if grouped else None
    near, far = (
        LogisticProbes(C=np.inf, tol=1e-10).fit(states, y).standard_errors(states, y, groups=groups)
        for states in (X, X + offset)
    )
    np.testing.assert_allclose(far.coef, near.coef, rtol=1e-5)
    np.testing.assert_allclose(far.p_values, near.p_values, rtol=1e-3)
    assert far.intercept[0] > near.intercept[0] * offset / 1000


def test_standard_errors_refuse_labels_that_were_not_fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = X[:, 0] + rng.normal(size=300) > 0
    words, Y = np.where(y, "yes", "no"), np.stack([y, ~y], axis=1)
    flat, wide = LogisticProbes().fit(X, words), LogisticProbes().fit(X, Y)
    for wrong in (y, np.full(300, "zzz"), np.arange(300)):
        with pytest.raises(InputError, match="y has the label"):
            flat.standard_errors(X, wrong)
    for probes, wrong in ((flat, words[:, None]), (wide, y)):
        with pytest.raises(InputError, match="Y has the shape"):
            probes.standard_errors(X, wrong)
    with pytest.raises(InputError, match="C is"):
        LogisticProbes().fit(X, Y).set_params(C=[1, 2, 3]).standard_errors(X, Y)
    some = ([None, "a", 1], object), ([1, "a", None], object), ([1, np.nan, 2], object), ([1, np.nan, 2], float)
    for groups, dtype in (*some, (["2026-11-29", "NaT", "NaT"], "datetime64[D]")):
        with pytest.raises(InputError, match="groups has missing values"):
            flat.standard_errors(X, words, groups=np.array(groups * 100, dtype=dtype))
