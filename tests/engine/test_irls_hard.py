"""LogisticProbes where a fit is hard or impossible: no penalty, one class, equal columns, odd scales, few steps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logistic_problems import assert_equal_coefficients, assert_same_fit, fit_alone, make_problem
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from gatescope.engine import quasi_newton, unseen_units
from gatescope.engine.inverse_hessian import InverseHessians
from gatescope.engine.irls import LogisticProbes


def test_batch_equals_single_fits_despite_a_bad_hypothesis():
    X, Y = make_problem(600, 9, 8)
    Y[:, 2], Y[:, 5] = False, True
    weight = np.ones(Y.shape)
    weight[:, 6] = 0
    together = LogisticProbes(tol=1e-10).fit(X, Y, sample_weight=weight)
    assert together.status_.tolist() == ["converged"] * 2 + ["one_class"] + ["converged"] * 2 + ["one_class"] * 2 + [
        "converged"
    ]
    for k in (0, 1, 3, 4, 7):
        alone = LogisticProbes(tol=1e-10).fit(X, Y[:, [k]])
        assert_equal_coefficients(together.coef_[k], alone.coef_[0])
        assert alone.status_[0] == together.status_[k]
    assert np.isnan(together.coef_[[2, 5, 6]]).all()
    assert together.intercept_[2] == -np.inf and together.intercept_[5] == np.inf and np.isnan(together.intercept_[6])
    assert not together.predict(X)[:, 2].any() and together.predict(X)[:, 5].all()
    assert (together.predict_proba(X)[:, 5] == 1).all() and np.isnan(together.predict_proba(X)[:, 6]).all()


@pytest.mark.parametrize("n_targets", [1, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.filterwarnings("error")
def test_all_zero_weights_give_one_class_everywhere(dtype, n_targets):
    X, Y = make_problem(200, 5, n_targets)
    X, weight = X.astype(dtype), np.zeros(Y.shape)
    for labels in (Y, Y[:, 0]) if n_targets == 1 else (Y,):
        probes = LogisticProbes(class_weight="balanced", standardize=True).fit(X, labels, weight)
        assert probes.status_.tolist() == ["one_class"] * n_targets
        assert np.isnan(probes.coef_).all() and np.isnan(probes.intercept_).all()
        assert np.isnan(probes.predict_proba(X)).all()
        assert np.isnan(probes.standard_errors(X, labels, weight).coef).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:.*probes did not converge")
def test_batch_and_single_fits_have_the_same_status(dtype):
    X, Y = make_problem(600, 9, 8)
    X = X.astype(dtype)
    Y[:, 2], Y[:, 5], Y[:, 6] = False, X[:, 0] > 0.4, X[:, 1] + 2 * X[:, 2] > 1
    # Rare labels take the most steps.
    Y[:, 7] = np.random.default_rng(3).random(600) < 0.01
    for options in ({"C": np.inf}, {"C": np.inf, "max_iter": 8}, {"max_iter": 3}):
        together = LogisticProbes(**options).fit(X, Y)
        alone = [LogisticProbes(**options).fit(X, Y[:, [k]]) for k in range(8)]
        assert together.status_.tolist() == [probes.status_[0] for probes in alone], options
        if options.get("max_iter") == 8:
            assert set(together.status_) == {"converged", "max_iter", "one_class", "separable"}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("seed", [5, 7])
def test_unpenalised_fits_drop_duplicates_and_sums_of_units(dtype, seed):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((500, 4)).astype(dtype)
    Y = X[:, :2] + generator.logistic(size=(500, 2)) > 0
    double = np.hstack([X, X[:, :1]] if dtype == np.float16 else [X, X[:, :1], X.sum(axis=1, keepdims=True)])
    probes = LogisticProbes(np.inf).fit(double, Y)
    reduced = LogisticProbes(np.inf, tol=1e-10).fit(X.astype(np.float64), Y)
    assert probes.status_.tolist() == ["converged"] * 2
    np.testing.assert_allclose(probes.coef_[:, :4], reduced.coef_, rtol=0, atol=1e-4)
    assert np.abs(probes.coef_[:, 4:]).max() <= 1e-4


@pytest.mark.parametrize("size", [1e-50, 1e-46, 1e30, 1e50])
@pytest.mark.filterwarnings("error")
def test_unpenalised_fits_do_not_depend_on_the_weight_scale(size):
    X, Y = make_problem(400, 3, 2)
    X = X.astype(np.float32)
    expected = LogisticProbes(np.inf).fit(X, Y)
    got = LogisticProbes(np.inf).fit(X, Y, np.full(400, size))
    assert got.status_.tolist() == ["converged"] * 2
    np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-4)
    np.testing.assert_allclose(got.objective_, expected.objective_ * size, rtol=1e-6)


def test_unpenalised_fits_report_separable_hypotheses():
    generator = np.random.default_rng(7)
    X = generator.standard_normal((400, 4))
    X[:150, 0] = 0
    tied = np.where(X[:, 0] == 0, generator.random(400) < 0.5, X[:, 0] > 0)
    noisy = generator.random(400) < 1 / (1 + np.exp(-X[:, 1]))
    Y = np.column_stack([X[:, 0] > 0.2, tied, noisy])
    with pytest.warns(ConvergenceWarning, match="2 of 3 probes .*2 separable; the first is hypothesis 0"):
        probes = LogisticProbes(C=np.inf, tol=1e-9).fit(X, Y)
    assert probes.status_.tolist() == ["separable", "separable", "converged"]
    assert_same_fit(probes, 2, fit_alone(X, noisy, C=np.inf))
    assert ((probes.decision_function(X)[:, 0] > 0) == Y[:, 0]).all()


@pytest.mark.parametrize("difference", [1e-4, 3e-6, 1e-6])
def test_unpenalised_fits_resolve_nearly_equal_units(difference):
    generator = np.random.default_rng(0)
    one, other = generator.standard_normal((2, 4000))
    X = np.column_stack([one, one + difference * other]).astype(np.float32)
    exact = np.column_stack([one.astype(np.float32), (X[:, 1].astype(np.float64) - X[:, 0]) / difference])
    y = exact[:, 1] + generator.logistic(size=4000) > 0
    probes = LogisticProbes(C=np.inf).fit(X, y)
    model = fit_alone(exact, y, C=np.inf)
    loss = np.logaddexp(0, np.where(y, -1, 1) * model.decision_function(exact)).sum()
    assert probes.status_[0] == "converged"
    np.testing.assert_allclose(probes.objective_, loss, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("C", [1e4, np.inf])
def test_a_unit_that_varies_in_few_rows_is_fitted(dtype, C):
    """A sample of the rows may see the unit at a single value only."""
    generator = np.random.default_rng(0)
    X, rare = generator.standard_normal((20_000, 64)), generator.random(20_000) < 0.0005
    X[:, 0] = np.where(rare, 0.0, -1.0)
    X, y = X.astype(dtype), generator.random(20_000) < 0.3 + 0.2 * rare
    probes = LogisticProbes(C=C).fit(X, y)
    assert probes.status_[0] == "converged" and probes.n_iter_[0] < 20
    model = fit_alone(X.astype(np.float64), y, C=C)
    np.testing.assert_allclose(probes.coef_, model.coef_, atol=3e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore:.*probes did not converge")
def test_reported_results_are_true_even_after_huge_steps(monkeypatch, dtype, seed):
    # The sample's matrix then holds rounding errors in place of the unit's variance, and steps are 1e17 times too long.
    monkeypatch.setattr(unseen_units, "LEAST_VARIANCE", 0.0)
    generator = np.random.default_rng(seed)
    X, rare = generator.standard_normal((20_000, 64)), generator.random(20_000) < 0.0005
    X[:, 0] = np.where(rare, 0.0, -1.0)
    X, y = X.astype(dtype), generator.random(20_000) < 0.3 + 0.2 * rare
    probes = LogisticProbes(C=np.inf).fit(X, y)
    X = X.astype(np.float64)
    logits = X @ probes.coef_[0] + probes.intercept_[0]
    residual = expit(logits) - y
    gradient = np.abs(np.append(X.T @ residual, residual.sum())).max() / 20_000
    np.testing.assert_allclose(probes.grad_norm_, gradient, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(probes.objective_, np.logaddexp(0, np.where(y, -logits, logits)).sum(), rtol=1e-7)
    assert (probes.status_[0] == "converged") == (gradient < 1e-6)


@pytest.mark.parametrize(("n_far", "status"), [(0, "converged"), (1, "converged"), (2, "max_iter")])
@pytest.mark.filterwarnings("ignore:.*probes did not converge")
def test_logits_are_recomputed_after_a_huge_step(monkeypatch, n_far, status):
    monkeypatch.setattr(quasi_newton, "SMALLEST_STEP", 1e-30)
    plain, calls = InverseHessians.direction, []

    def direction(self, columns, g):
        """The solver's first step goes much too far."""
        first = not hasattr(self, "directed")
        self.directed = True
        calls.append(first)
        x = plain(self, columns, g)
        return x * (1e12 / np.abs(x).max()) if first and sum(calls) <= n_far else x

    monkeypatch.setattr(InverseHessians, "direction", direction)
    X, Y = make_problem(2000, 5, 1)
    probes = LogisticProbes().fit(X, Y)
    assert sum(calls) == 1 + (n_far > 0) and probes.status_[0] == status
    gradient = X.T @ (expit(probes.decision_function(X)) - Y)[:, 0] + probes.coef_[0]
    assert (np.abs(gradient).max() / 2000 < 1e-6) == (status == "converged")


def test_a_warm_start_recovers_from_a_failed_fit():
    X, Y = make_problem(500, 5, 2)
    probes = LogisticProbes(warm_start=True).fit(X, Y)
    expected, passes = probes.coef_, probes.n_passes_
    for bad in (1e35, np.nan):
        probes.coef_ = np.full_like(expected, bad)
        assert (probes.fit(X, Y).status_ == "converged").all()
        np.testing.assert_allclose(probes.coef_, expected, atol=1e-4)
        # A single pass shows that the coefficients are worse than zeros.
        assert (probes.n_passes_ <= passes + 1).all()


@pytest.mark.parametrize("C", [1e7, 1e9, 1e12])
def test_a_penalised_hypothesis_is_never_separable(C):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((500, 3))
    y = X[:, 0] > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert LogisticProbes(C=C).fit(X, y).status_[0] in ("converged", "max_iter")
        assert LogisticProbes(C=np.inf).fit(X, y).status_[0] == "separable"


def test_a_penalised_separable_hypothesis_is_fitted_as_usual():
    X, _ = make_problem(300, 5, 1)
    y = X[:, 0] > 0
    probes = LogisticProbes(C=1e4, tol=1e-12).fit(X, y)
    assert probes.status_[0] == "converged"
    assert_same_fit(probes, 0, fit_alone(X, y, C=1e4))


def test_constant_and_duplicate_columns_are_legal():
    X, Y = make_problem(500, 6, 2)
    wide = np.hstack([X, X[:, :2], np.zeros((500, 1)), np.full((500, 1), 1234.5)])
    probes = LogisticProbes(tol=1e-12).fit(wide, Y)
    assert (probes.status_ == "converged").all()
    assert_equal_coefficients(probes.coef_[:, 6:8], probes.coef_[:, :2])
    for k in range(2):
        alone = fit_alone(wide[:, :9], Y[:, k])
        assert_equal_coefficients(probes.coef_[k], np.append(alone.coef_[0], 0.0))
        np.testing.assert_allclose(probes.intercept_[k], alone.intercept_[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_far_from_zero_equal_scikit_learn(dtype):
    X, Y = make_problem(800, 5, 2)
    far = (X + 3000).astype(dtype)
    probes = LogisticProbes(tol=1e-9).fit(far, Y)
    exact = far.astype(np.float64)
    for k in range(2):
        alone = fit_alone(exact - 3000, Y[:, k])
        assert_equal_coefficients(probes.coef_[k], alone.coef_[0])


@pytest.mark.parametrize("offset", [1e3, 1e6])
@pytest.mark.parametrize("standardize", [False, True])
def test_predictions_from_columns_far_from_zero_are_accurate(offset, standardize):
    generator = np.random.default_rng(3)
    X = (generator.standard_normal((2000, 30)) + offset).astype(np.float32)
    exact = X.astype(np.float64)
    Y = exact[:, :1] - offset + generator.logistic(size=(2000, 1)) > 0
    probes = LogisticProbes(standardize=standardize).fit(X, Y)
    expected = exact @ probes.coef_.T + probes.intercept_
    np.testing.assert_allclose(probes.decision_function(X), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(probes.predict(X), expected > 0)
    # A constant unit loses no precision, so single precision is enough.
    near = np.hstack([X - np.float32(offset), np.full((2000, 1), 1234.5, np.float32)])
    assert LogisticProbes().fit(near, Y).decision_function(near).dtype == np.float32


def test_scaling_units_scales_coefficients_and_overflow_gives_nan():
    X, Y = make_problem(300, 4, 2)
    reference = LogisticProbes(C=np.inf, tol=1e-9).fit(X, Y)
    scaled = LogisticProbes(C=np.inf, tol=1e-9).fit(X * [1e-12, 1, 1e5, 1], Y)
    assert_equal_coefficients(scaled.coef_ * [1e-12, 1, 1e5, 1], reference.coef_)
    tiny = LogisticProbes(C=np.inf).fit(X * 1e-20, Y)
    np.testing.assert_allclose(tiny.coef_ * 1e-20, reference.coef_, rtol=1e-3)
    with pytest.warns(ConvergenceWarning, match="2 not_finite"):
        broken = LogisticProbes().fit(X * 1e200, Y)
    assert np.isnan(broken.coef_).all()


def test_a_single_row_and_equal_rows_are_fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = LogisticProbes().fit(np.ones((1, 3)), np.array([[True, False]]))
        equal = LogisticProbes(tol=1e-10).fit(np.ones((4, 3)), np.array([[True], [False], [True], [True]]))
    assert single.status_.tolist() == ["one_class", "one_class"]
    assert equal.status_.tolist() == ["converged"]
    np.testing.assert_allclose(equal.predict_proba(np.ones((1, 3))), [[0.75]])


def test_running_out_of_steps_gives_a_single_warning():
    X, Y = make_problem(500, 10, 4)
    with pytest.warns(ConvergenceWarning) as caught:
        probes = LogisticProbes(max_iter=2).fit(X, Y)
    assert len(caught) == 1
    assert "4 of 4 probes did not converge (4 max_iter; the first is hypothesis 0): raise max_iter (now 2)" in str(
        caught[0].message
    )
    assert str(caught[0].message).endswith(": raise max_iter (now 2) or lower C or set standardize=True; see status_")
    assert probes.status_.tolist() == ["max_iter"] * 4 and (probes.n_iter_ == 2).all()
    assert np.isfinite(probes.coef_).all()


def test_the_warning_points_to_the_line_of_the_caller():
    X, Y = make_problem(500, 10, 4)
    for fit in (LogisticProbes(max_iter=2).fit, lambda X, Y: LogisticProbes(max_iter=2).fit_path(X, Y, [1.0])):
        with pytest.warns(ConvergenceWarning) as caught:
            fit(X, Y)
        assert [each.filename for each in caught] == [__file__]


def test_the_warning_advises_more_steps_only_if_they_help():
    rng = np.random.default_rng(0)
    X = 1e4 * rng.normal(size=2) + 1e-3 * rng.normal(size=(1500, 2))
    y = rng.random(1500) < 0.3
    # Far from zero and without an intercept, logits lack the digits for so small a gradient.
    with pytest.warns(ConvergenceWarning, match=r": raise tol \(now 1e-09\) or lower C; see status_"):
        probes = LogisticProbes(fit_intercept=False, standardize=True, tol=1e-9).fit(X, y)
    assert probes.n_iter_ < 500
    with pytest.warns(ConvergenceWarning, match=r"1 separable; .*: lower C; see"):
        LogisticProbes(C=np.inf).fit(rng.normal(size=(50, 2)) + 9 * np.arange(50)[:, None], np.arange(50) < 25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    n_rows=st.integers(2, 60),
    n_units=st.integers(1, 12),
    C=st.sampled_from([1e-3, 1.0, 1e3]),
    class_weight=st.sampled_from([None, "balanced"]),
    fit_intercept=st.booleans(),
)
def test_any_small_problem_is_solved_or_has_one_class(seed, n_rows, n_units, C, class_weight, fit_intercept):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_rows, n_units)).round(1)
    Y = generator.random((n_rows, 3)) < [0.5, 0.1, 0.02]
    weight = (generator.random((n_rows, 3)) < 0.8) * generator.uniform(0.5, 2, (n_rows, 3))
    weight[0] = 1
    probes = LogisticProbes(C, class_weight=class_weight, fit_intercept=fit_intercept, tol=1e-9).fit(X, Y, weight)
    order = generator.permutation(n_units)
    permuted = LogisticProbes(C, class_weight=class_weight, fit_intercept=fit_intercept, tol=1e-9)
    permuted.fit(X[:, order], Y, weight)
    for k in range(3):
        classes = np.unique(Y[weight[:, k] > 0, k])
        assert probes.status_[k] == ("one_class" if len(classes) < 2 else "converged")
        if len(classes) < 2:
            continue
        s = weight[:, k].copy()
        if class_weight:
            for label in (False, True):
                s[Y[:, k] == label] *= weight[:, k].sum() / (2 * weight[Y[:, k] == label, k].sum())
        w = probes.coef_[k]
        residual = s * (1 / (1 + np.exp(-(X @ w + probes.intercept_[k]))) - Y[:, k])
        gradient = np.append(X.T @ residual + w / C, residual.sum() if fit_intercept else 0.0) / s.sum()
        assert np.abs(gradient).max() <= 1.1e-9
        tolerance = 1e-6 * max(np.abs(w).max(), 1e-3) * max(1.0, C)
        np.testing.assert_allclose(permuted.coef_[k], w[order], rtol=0, atol=tolerance)


def test_a_gradient_stalled_in_single_precision_continues_in_double(monkeypatch):
    """Each step still seems to lower the loss, and the other signs of noise are switched off."""
    monkeypatch.setattr("gatescope.engine.quasi_newton.PATIENCE", 10**9)
    monkeypatch.setattr("gatescope.engine.logistic_fit.FINEST_FLOAT32_TOL", 1e-12)
    X, Y = make_problem(4000, 20, 3)
    probes = LogisticProbes(tol=1e-12).fit(X.astype(np.float32), Y)
    assert probes.status_.tolist() == ["converged"] * 3 and probes.n_iter_.max() < 200
