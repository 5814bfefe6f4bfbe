"""LogisticProbes against scikit-learn's exact Newton method, one target at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from logistic_problems import assert_equal_coefficients, assert_same_fit, fit_alone, make_problem
from scipy.special import expit
from sklearn.preprocessing import StandardScaler

from gatescope.engine import row_blocks, tile_width
from gatescope.engine.irls import LogisticProbes


def covering_cases():
    """Every shape with every C, each twice with opposite options, so that every pair of settings occurs."""
    pairs = itertools.product([(500, 6), (1500, 25), (60, 90)], [0.01, 1.0, 100.0])
    for number, (shape, C) in enumerate(pairs):
        spread, balanced = divmod(number % 4, 2)
        for flip in (0, 1):
            options = (4.0 * (spread ^ flip), (None, "balanced")[balanced ^ flip], bool(flip))
            yield pytest.param(shape, C, *options, id=f"N{shape[0]}-H{shape[1]}-{C}-{options}")


@pytest.mark.parametrize(("shape", "C", "spread", "class_weight", "fit_intercept"), list(covering_cases()))
def test_equals_scikit_learn(shape, C, spread, class_weight, fit_intercept):
    X, Y = make_problem(*shape, n_targets=4, spread=spread)
    X = X + 2.0
    probes = LogisticProbes(C, class_weight=class_weight, fit_intercept=fit_intercept, tol=1e-12).fit(X, Y)
    assert (probes.status_ == "converged").all()
    assert (probes.grad_norm_ <= 1e-12).all()
    for k in range(4):
        assert_same_fit(probes, k, fit_alone(X, Y[:, k], None, C, class_weight, fit_intercept))


@pytest.mark.parametrize("class_weight", [None, "balanced", {True: 3.0, False: 0.5}])
def test_weights_per_hypothesis_equal_scikit_learn(class_weight):
    X, Y = make_problem(800, 10, 5)
    generator = np.random.default_rng(1)
    weight = generator.uniform(0, 2, Y.shape) * (generator.random(Y.shape) < 0.7)
    probes = LogisticProbes(class_weight=class_weight, tol=1e-12).fit(X, Y, sample_weight=weight)
    for k in range(5):
        assert_same_fit(probes, k, fit_alone(X, Y[:, k], weight[:, k], class_weight=class_weight))
    shared = LogisticProbes(class_weight=class_weight, tol=1e-12).fit(X, Y, sample_weight=weight[:, 0])
    assert_same_fit(shared, 3, fit_alone(X, Y[:, 3], weight[:, 0], class_weight=class_weight))


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_rows_of_weight_zero_are_as_if_absent(class_weight):
    X, Y = make_problem(700, 8, 3)
    defined = np.random.default_rng(2).random(Y.shape) < 0.6
    probes = LogisticProbes(class_weight=class_weight, tol=1e-12).fit(X, Y, sample_weight=defined)
    for k in range(3):
        kept = defined[:, k]
        alone = LogisticProbes(class_weight=class_weight, tol=1e-12).fit(X[kept], Y[kept, k])
        assert_equal_coefficients(probes.coef_[k], alone.coef_[0])
        np.testing.assert_allclose(probes.objective_[k], alone.objective_[0], rtol=1e-12)


def test_objective_gradient_and_decrement_match_the_formula():
    X, Y = make_problem(900, 12, 4)
    weight = np.random.default_rng(3).uniform(0.1, 1, Y.shape)
    probes = LogisticProbes(C=0.3, tol=1e-4).fit(X, Y, sample_weight=weight)
    for k in range(4):
        w, b, s = probes.coef_[k], probes.intercept_[k], weight[:, k]
        margin = np.where(Y[:, k], 1, -1) * (X @ w + b)
        np.testing.assert_allclose(probes.objective_[k], (s * np.logaddexp(0, -margin)).sum() + w @ w / 0.6, rtol=1e-12)
        p = 1 / (1 + np.exp(-(X @ w + b)))
        design = np.column_stack([X, np.ones(len(X))])
        ridge = np.append(np.full(12, 1 / 0.3), 0.0)
        gradient = (design.T @ (s * (p - Y[:, k])) + ridge * np.append(w, 0)) / s.sum()
        np.testing.assert_allclose(probes.grad_norm_[k], np.abs(gradient).max(), rtol=1e-6)
        hessian = (design.T @ (design * (s * p * (1 - p))[:, None]) + np.diag(ridge)) / s.sum()
        exact = 0.5 * gradient @ np.linalg.solve(hessian, gradient)
        assert exact / 2 < probes.half_decrement_[k] < exact * 2


@pytest.mark.parametrize("options", [{}, {"class_weight": "balanced"}, {"C": 0.01, "standardize": True}])
def test_a_mask_of_one_hypothesis_does_not_affect_others(options):
    X, Y = make_problem(3000, 20, 4)
    X[1500:] *= 4
    mask = np.random.default_rng(4).random(Y.shape) < 0.7
    mask[1500:, 0], mask[:1500, 1], mask[:, 3] = False, False, mask[:, 2]
    together = LogisticProbes(**options).fit(X, Y, mask)
    for k in range(4):
        alone = LogisticProbes(**options).fit(X, Y[:, [k]], mask[:, [k]])
        assert together.status_[k] == alone.status_[0] == "converged"
        # At the default tolerance a fit might end elsewhere; here even the steps are the same.
        np.testing.assert_allclose(together.coef_[k], alone.coef_[0], rtol=0, atol=1e-9 * np.abs(alone.coef_).max())


def test_a_queue_longer_than_the_tile_gives_the_same_fits(monkeypatch):
    X, Y = make_problem(400, 7, 11)
    whole = LogisticProbes(tol=1e-11).fit(X, Y)
    monkeypatch.setattr(tile_width, "TILE", 3)
    tiled = LogisticProbes(tol=1e-11).fit(X, Y)
    assert_equal_coefficients(tiled.coef_, whole.coef_)
    assert (tiled.n_passes_ > 0).all()


def test_block_size_and_threads_change_only_rounding(monkeypatch):
    X, Y = make_problem(2000, 10, 4)
    X = X * 3
    whole = LogisticProbes(tol=1e-12).fit(X, Y)
    monkeypatch.setattr(row_blocks, "BLOCK_VALUES", 970)
    monkeypatch.setattr(row_blocks, "thread_count", lambda: 3)
    pieces = LogisticProbes(tol=1e-12).fit(X, Y)
    np.testing.assert_allclose(pieces.coef_, whole.coef_, rtol=1e-10, atol=1e-10)
    again = LogisticProbes(tol=1e-12).fit(X, Y)
    np.testing.assert_array_equal(pieces.coef_, again.coef_)


@pytest.mark.parametrize("far", [0, 30, 3000])
def test_the_gradient_is_accurate_for_uncentred_states(far):
    X, Y = make_problem(4000, 12, 6)
    # A unit that hardly varies around a value far from zero, as cells that count do.
    X[:, 5] = far + 0.1 * X[:, 5]
    X = X.astype(np.float32)
    probes = LogisticProbes().fit(X, Y)
    assert (probes.status_ == "converged").all()
    exact = X.astype(np.float64)
    residual = expit(exact @ probes.coef_.T + probes.intercept_) - Y
    gradient = np.vstack([exact.T @ residual + probes.coef_.T, residual.sum(axis=0)]) / len(X)
    np.testing.assert_allclose(probes.grad_norm_, np.abs(gradient).max(axis=0), rtol=1e-3, atol=1e-10)
    assert probes.grad_norm_.max() <= 1e-6


def test_each_hypothesis_may_have_its_own_C():
    X, Y = make_problem(500, 6, 3)
    C = np.array([0.02, 1.0, 30.0])
    probes = LogisticProbes(C, tol=1e-12).fit(X, np.repeat(Y[:, :1], 3, axis=1))
    for k in range(3):
        assert_same_fit(probes, k, fit_alone(X, Y[:, 0], C=C[k]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"standardize": True}, {"fit_intercept": False}])
def test_a_warm_start_finds_the_same_minimum_sooner(dtype, options):
    X, Y = make_problem(3000, 20, 4)
    # Without an intercept nothing is centred, and units far from zero are almost collinear: rounding would decide.
    X = (X + 400 * options.get("fit_intercept", True)).astype(dtype)
    Y[:, 3] = False
    changed = Y ^ (np.random.default_rng(8).random(Y.shape) < 0.001)
    changed[:, 3] = Y[:, 3]
    cold = LogisticProbes(tol=1e-9, **options).fit(X, changed)
    warm = LogisticProbes(tol=1e-9, warm_start=True, **options).fit(X, Y).fit(X, changed)
    np.testing.assert_array_equal(warm.status_, cold.status_)
    for k in range(3):
        assert_equal_coefficients(warm.coef_[k], cold.coef_[k])
    again = warm.n_passes_[:3].sum()
    assert again < cold.n_passes_[:3].sum()
    other = warm.fit(X[:, :5], Y[:, :2])
    assert other.coef_.shape == (2, 5)


def test_a_warm_start_drops_an_intercept_no_longer_fitted():
    X, Y = make_problem(800, 6, 2)
    warm = LogisticProbes(tol=1e-10, warm_start=True).fit(X, Y)
    warm.set_params(fit_intercept=False).fit(X + 1, Y)
    assert (warm.intercept_ == 0).all()
    assert_equal_coefficients(warm.coef_, LogisticProbes(tol=1e-10, fit_intercept=False).fit(X + 1, Y).coef_)


def test_a_path_of_penalties_equals_single_fits():
    X, Y = make_problem(600, 8, 3)
    Cs = [0.01, 0.1, 1.0, 10.0]
    path = LogisticProbes(tol=1e-12, class_weight="balanced").fit_path(X, Y, Cs)
    for C, probes in zip(Cs, path, strict=True):
        assert probes.C == C and not probes.warm_start
        for k in range(3):
            assert_same_fit(probes, k, fit_alone(X, Y[:, k], C=C, class_weight="balanced"))


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "origin"])
def test_standardize_penalises_scaled_columns(fit_intercept):
    X, Y = make_problem(900, 8, 2, spread=3.0)
    X = X + 5 * X.std(axis=0)
    probes = LogisticProbes(0.1, standardize=True, fit_intercept=fit_intercept, tol=1e-12).fit(X, Y)
    for k in range(2):
        scaler = StandardScaler(with_mean=fit_intercept)
        alone = fit_alone(scaler.fit_transform(X), Y[:, k], C=0.1, fit_intercept=fit_intercept)
        assert_equal_coefficients(probes.coef_[k] * scaler.scale_, alone.coef_[0])
        logits = alone.decision_function(scaler.transform(X))
        np.testing.assert_allclose(probes.decision_function(X)[:, k], logits, rtol=1e-6, atol=1e-7)


def test_standardize_uses_the_weighted_spread_of_each_hypothesis():
    X, Y = make_problem(900, 8, 3, spread=2.0)
    X[450:] *= 5
    weight = np.random.default_rng(3).uniform(0, 2, Y.shape)
    weight[450:, 0] = 0
    probes = LogisticProbes(0.1, standardize=True, tol=1e-12).fit(X, Y, weight)
    for k in range(3):
        scaler = StandardScaler().fit(X, sample_weight=weight[:, k])
        alone = fit_alone(scaler.transform(X), Y[:, k], weight[:, k], C=0.1)
        assert_equal_coefficients(probes.coef_[k] * scaler.scale_, alone.coef_[0])


@pytest.mark.parametrize(("dtype", "spread"), [(np.float32, 1e-4), (np.float64, 1e-4), (np.float64, 1e-7)])
@pytest.mark.parametrize("C", [1e-3, 1.0])
def test_standardize_handles_units_that_vary_less_where_weighted(dtype, spread, C):
    generator = np.random.default_rng(0)
    X, mask, decisive = generator.standard_normal((5000, 2)), generator.random(5000) < 0.3, generator.normal(size=5000)
    X[mask, 0] = 0.3 + spread * decisive[mask]
    X, y = X.astype(dtype), (decisive + generator.logistic(size=5000) > 0)[:, None]
    probes = LogisticProbes(standardize=True, C=C).fit(X, y, mask[:, None].astype(float))
    alone = X[mask].astype(np.float64)
    mean, sd = alone.mean(axis=0), alone.std(axis=0)
    expected = fit_alone((alone - mean) / sd, y[mask, 0], C=C)
    assert probes.status_[0] == "converged"
    np.testing.assert_allclose(probes.coef_ * sd, expected.coef_, atol=1e-3)


def test_the_objective_of_rare_labels_is_summed_in_float64():
    X, _ = make_problem(20_000, 60, 1)
    X = X.astype(np.float32)
    exact = X.astype(np.float64)
    score = exact[:, :4] + np.random.default_rng(9).logistic(size=(20_000, 4)) * 0.5
    Y = score > np.quantile(score, 0.997, axis=0)
    for class_weight in (None, "balanced"):
        probes = LogisticProbes(class_weight=class_weight, max_iter=20).fit(X, Y)
        for k in range(4):
            w, b = probes.coef_[k], probes.intercept_[k]
            share = Y[:, k].mean()
            s = np.where(Y[:, k], 0.5 / share, 0.5 / (1 - share)) if class_weight else np.ones(len(X))
            loss = s @ np.logaddexp(0, np.where(Y[:, k], -1, 1) * (exact @ w + b)) + w @ w / 2
            np.testing.assert_allclose(probes.objective_[k], loss, rtol=1e-12)
