"""Ridge probes against scikit-learn."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.utils.estimator_checks import check_estimator

from gatescope.engine.errors import InputError
from gatescope.engine.ridge import RidgeProbes


def smallest(X, Y, C=np.inf, weight=None):
    """Of all minima without an intercept, the one of smallest norm [K, H], from the singular values of X itself."""
    root = np.ones((len(X), 1)) if weight is None else np.sqrt(weight)[:, None]
    design = np.vstack([X * root, np.eye(X.shape[1]) / np.sqrt(C)])
    right = np.vstack([Y * root, np.zeros((X.shape[1], Y.shape[1]))])
    return np.linalg.lstsq(design, right, rcond=1e-14)[0].T


def problem(N=300, H=12, K=4):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, H)) @ rng.normal(size=(H, H)) + 2
    return X, X @ rng.normal(size=(H, K)) + rng.normal(size=(N, K)) - 3


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("N", "H"), [(300, 12), (20, 40)])
def test_coefficients_equal_scikit_learn(N, H, C, fit_intercept):
    X, Y = problem(N, H)
    weight = np.random.default_rng(1).integers(0, 3, size=Y.shape).astype(float)
    probes = RidgeProbes(C=C, fit_intercept=fit_intercept).fit(X, Y, sample_weight=weight)
    for k in range(Y.shape[1]):
        expected = Ridge(alpha=1 / C, fit_intercept=fit_intercept, solver="cholesky").fit(
            X, Y[:, k], sample_weight=weight[:, k]
        )
        scale = np.abs(expected.coef_).max()
        np.testing.assert_allclose(probes.coef_[k], expected.coef_, rtol=1e-6, atol=1e-6 * scale)
        np.testing.assert_allclose(probes.intercept_[k], expected.intercept_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(probes.predict(X)[:, k], expected.predict(X), rtol=1e-6, atol=1e-6 * scale)
    assert set(probes.status_) == {"converged"}


def test_each_target_may_have_its_own_C_or_none():
    X, Y = problem()
    C = np.array([0.1, 1.0, 10.0, np.inf])
    probes = RidgeProbes(C=C).fit(X, Y)
    for k in range(3):
        np.testing.assert_allclose(probes.coef_[k], Ridge(alpha=1 / C[k]).fit(X, Y[:, k]).coef_, rtol=1e-7)
    np.testing.assert_allclose(probes.coef_[3], LinearRegression().fit(X, Y[:, 3]).coef_, rtol=1e-7)


def test_a_path_equals_scikit_learn_with_eigenvectors_only_if_unpenalised(monkeypatch):
    X, Y = problem()
    # Without a penalty, only eigenvectors settle how two equal units share a coefficient.
    X = np.hstack([X, X[:, :1]])
    weight = np.random.default_rng(1).integers(0, 3, size=len(Y)).astype(float)
    largest = np.linalg.norm((X - np.average(X, axis=0, weights=weight)) * np.sqrt(weight)[:, None], 2) ** 2
    decompose, made = np.linalg.eigh, []
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: made.append(matrix) or decompose(matrix))
    Cs = [1e3, 1e-4, 1e-2, 1.0, np.array([0.1, 1.0, 10.0, 100.0]), np.inf, np.inf]
    probes = RidgeProbes(fit_intercept=True)
    path = probes.fit_path(X, Y, Cs, weight)
    assert len(path) == len(Cs) and len(made) == 2 and not hasattr(probes, "coef_")
    for C, fitted in zip(Cs, path, strict=True):
        assert fitted.C is C and (fitted.status_ == "converged").all() and fitted.grad_norm_.max() < 1e-9
        for k, alpha in enumerate(np.broadcast_to(1 / np.asarray(C), 4)):
            alone = Ridge(alpha=alpha, solver="svd").fit(X, Y[:, k], sample_weight=weight)
            if alpha == 0:
                mean = np.average(np.column_stack([X, Y]), axis=0, weights=weight)
                alone.coef_ = smallest(X - mean[:-4], Y - mean[-4:], weight=weight)[k]
                alone.intercept_ = mean[k - 4] - mean[:-4] @ alone.coef_
            # The Gram matrix is known to a rounding of its largest eigenvalue; this is how well it separates two equal
            # units.
            exact = max(1e-9, 4 * np.finfo(float).eps * largest / alpha) if alpha else 1e-9
            np.testing.assert_allclose(fitted.coef_[k], alone.coef_, rtol=0, atol=exact * np.abs(alone.coef_).max())
            np.testing.assert_allclose(fitted.intercept_[k], alone.intercept_, rtol=exact)
            np.testing.assert_allclose(fitted.predict(X)[:, k], alone.predict(X), rtol=1e-6)
    single = RidgeProbes(C=1e-2).fit(X, Y, weight)
    np.testing.assert_allclose(path[2].coef_, single.coef_, rtol=1e-9)
    np.testing.assert_allclose(path[2].objective_, single.objective_, rtol=1e-12)
    assert probes.fit_path(X, Y[:, 0], [1.0, 2.0, 3.0])[1].coef_.shape == (13,)
    with pytest.raises(InputError, match=r"C is -1.0"):
        probes.fit_path(X, Y, [1.0, -1.0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("difference", [0.0, 1e-9, 1e-7, 1e-3])
@pytest.mark.parametrize("C", [1.0, 1e9, 1e15, np.inf])
def test_fit_and_path_agree_on_nearly_equal_units(difference, C):
    X, Y = problem()
    twice = np.hstack([X, X[:, :2] + difference * np.random.default_rng(2).normal(size=(300, 2))])
    single, path = RidgeProbes(C).fit(twice, Y), RidgeProbes().fit_path(twice, Y, [1e-3, 0.1, C, 10.0])[2]
    np.testing.assert_array_equal(single.coef_, path.coef_)
    expected = smallest(twice - twice.mean(axis=0), Y - Y.mean(axis=0), C)
    # Units that float64 sums cannot separate share a coefficient, at hardly any cost in squared error.
    squares = ((Y - Y.mean(axis=0) - (twice - twice.mean(axis=0)) @ expected.T) ** 2).sum(axis=0)
    np.testing.assert_allclose(single.objective_, 0.5 * (squares + (expected**2).sum(axis=1) / C), rtol=0.02)
    assert np.abs(single.coef_).max() < 1.1 * np.abs(expected).max()


@pytest.mark.parametrize("C", [1e-3, 1.0, np.inf])
def test_widely_different_scales_are_fitted_exactly(C):
    X, Y = problem()
    scale = 10.0 ** np.linspace(-9, 6, 12)
    for probes in (RidgeProbes(C).fit(X * scale, Y), *RidgeProbes().fit_path(X * scale, Y, [C, 3 * C, 2 * C])[:1]):
        # In coordinates in which all units vary alike, it is the penalties that differ.
        centred, ridge = X - X.mean(axis=0), np.diag(1 / (C * scale**2))
        expected = np.linalg.solve(centred.T @ centred + ridge, centred.T @ (Y - Y.mean(axis=0)))
        np.testing.assert_allclose(probes.coef_ * scale, expected.T, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e12, np.inf])
def test_coefficients_without_intercept_are_exact_far_from_zero(offset, C):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(500, 20)) + offset
    Y = X[:, :2] + generator.normal(size=(500, 2))
    weight = generator.integers(0, 3, 500).astype(float)
    probes = RidgeProbes(C, fit_intercept=False).fit(X, Y, weight)
    expected = smallest(X, Y, C, weight)
    np.testing.assert_allclose(probes.coef_, expected, rtol=0, atol=1e-7)
    loss = (weight[:, None] * (X @ expected.T - Y) ** 2).sum(axis=0) + (expected**2).sum(axis=1) / C
    np.testing.assert_allclose(probes.objective_, 0.5 * loss, rtol=1e-6)
    assert (probes.intercept_ == 0).all() and (probes.grad_norm_ < 1e-14 * (1 + offset**2)).all()


@pytest.mark.parametrize("C", [1.0, np.inf])
def test_a_constant_unit_without_intercept_is_fitted_like_any_other(C):
    X, Y = problem()
    constant = np.hstack([X, np.full((300, 1), 5.0), X[:, :1]])
    probes = RidgeProbes(C, fit_intercept=False).fit(constant, Y)
    expected = smallest(constant, Y, C)
    np.testing.assert_allclose(probes.coef_, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("offset", [1e3, 1e6])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_predictions_from_units_far_from_zero_are_accurate(offset, fit_intercept):
    generator = np.random.default_rng(0)
    X = (generator.normal(size=(2000, 30)) + offset).astype(np.float32)
    exact = X.astype(np.float64)
    Y = exact[:, :2] - exact[:, 2:4] + [0, 3]
    probes = RidgeProbes(fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_allclose(probes.predict(X), exact @ probes.coef_.T + probes.intercept_, rtol=0, atol=1e-6)
    near = RidgeProbes().fit((exact - offset).astype(np.float32), Y)
    assert near.predict((exact - offset).astype(np.float32)).dtype == np.float32


def test_one_dimensional_targets_and_float16_states_are_accepted():
    X, Y = problem()
    probes = RidgeProbes().fit(X.astype(np.float16), Y[:, 0])
    expected = Ridge().fit(X.astype(np.float16).astype(np.float64), Y[:, 0])
    np.testing.assert_allclose(probes.coef_, expected.coef_, rtol=1e-7)
    assert probes.predict(X).shape == (len(X),) and isinstance(probes.intercept_, float)


@pytest.mark.filterwarnings("ignore:1 of 4 ridge probes")
def test_a_target_without_rows_gets_a_status_and_leaves_others_unchanged():
    X, Y = problem()
    weight = np.ones_like(Y)
    weight[:, 1] = 0
    probes = RidgeProbes().fit(X, Y, sample_weight=weight)
    assert list(probes.status_) == ["converged", "empty", "converged", "converged"]
    assert np.isnan(probes.coef_[1]).all()
    np.testing.assert_allclose(probes.coef_[2], Ridge().fit(X, Y[:, 2]).coef_, rtol=1e-7)


def test_an_overflowing_penalty_gives_a_status():
    X, Y = (each[:10] for each in problem())
    C = np.array([1.0, 1e-310, 1.0, 1.0])
    with pytest.warns(ConvergenceWarning, match=r"1 of 4 ridge probes have no result \(the first is target 1, not_f"):
        path = RidgeProbes().fit_path(X, Y, [1.0, C])
    assert [list(probes.status_) for probes in path] == [
        ["converged"] * 4,
        ["converged", "not_finite"] + ["converged"] * 2,
    ]
    assert np.isnan(path[1].coef_[1]).all() and np.isnan(path[1].intercept_[1])
    for k in (0, 2, 3):
        np.testing.assert_array_equal(path[1].coef_[k], path[0].coef_[k])


def test_all_targets_without_rows_give_a_warning():
    X, Y = problem()
    with pytest.warns(ConvergenceWarning, match="4 of 4 ridge probes have no result .*target 0, empty"):
        probes = RidgeProbes().fit(X, Y, np.zeros(Y.shape))
    assert (probes.status_ == "empty").all() and np.isnan(probes.coef_).all() and np.isnan(probes.predict(X)).all()
    with pytest.warns(ConvergenceWarning, match="1 of 1 ridge probes have no result"):
        assert RidgeProbes().fit(X, Y[:, :1], np.zeros((len(X), 1))).status_.tolist() == ["empty"]


def test_values_that_are_not_finite_are_refused():
    X, Y = problem()
    X[3, 4] = np.nan
    with pytest.raises(InputError, match=r"row 3.*column 4"):
        RidgeProbes().fit(X, Y)


def test_a_first_fit_that_is_refused_leaves_an_estimator_that_is_not_fitted():
    X, Y = problem()
    probes = RidgeProbes()
    with pytest.raises(InputError):
        probes.fit(X, Y, np.ones(len(X) - 1))
    with pytest.raises(NotFittedError):
        probes.predict(X)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize("constant", [0.0, 5.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_small_scale_beside_equal_units_is_not_taken_as_constant(scale, constant, fit_intercept):
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    X = np.column_stack([a, a, np.full(300, constant), scale * rng.normal(size=300)])
    y = 3 * a + X[:, 3] / scale + 2 + rng.normal(size=300)
    probes = RidgeProbes(C=np.inf, fit_intercept=fit_intercept).fit(X, y)
    design = X / [1, 1, constant or 1, scale]
    design = np.column_stack([design, np.ones(300)]) if fit_intercept else design
    best = y - design @ np.linalg.lstsq(design, y, rcond=1e-12)[0]
    assert probes.status_.tolist() == ["converged"]
    assert ((y - probes.predict(X)) ** 2).sum() == pytest.approx((best**2).sum(), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_targets_far_from_zero_are_predicted(dtype):
    X = np.random.default_rng(0).normal(size=(300, 6)).astype(dtype)
    y = 3 * X[:, 0].astype(float) + 0.1 * np.random.default_rng(1).normal(size=300)
    for offset in (1.7e9, 1e60):
        scaled = y + offset if offset < 1e10 else y * offset
        mine = RidgeProbes().fit(X, scaled)
        theirs = Ridge().fit(X.astype(float), scaled)
        np.testing.assert_allclose(mine.predict(X), theirs.predict(X.astype(float)), rtol=1e-12)
        assert mine.score(X, scaled) > 0.99


def test_times_and_missing_values_are_refused_as_targets():
    X, y = np.eye(4), np.arange(4.0)
    times = np.datetime64("2020-01-01") + np.arange(4).astype("m8[D]")
    for wrong in (times, times - times[0]):
        with pytest.raises(InputError, match="expected real numbers"):
            RidgeProbes().fit(X, wrong)
    for missing in (np.nan, "nan", np.inf):
        given = y.astype(object)
        given[3] = missing
        with pytest.raises(InputError, match=r"Y contains NaN or inf at \(3, 0\)"):
            RidgeProbes().fit(X, given)


def test_the_reported_gradient_is_the_largest_over_units():
    """For the unit that is always 0 the gradient is exactly 0, for the others the rounding error of large sums."""
    generator = np.random.default_rng(0)
    X = 1e3 + generator.standard_normal((200, 6))
    X[:, 2] = 0
    assert RidgeProbes(C=10.0).fit(X, X @ generator.standard_normal((6, 3))).grad_norm_.max() > 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_estimator_checks():
    results = check_estimator(RidgeProbes(), on_skip=None, on_fail=None)
    assert not [result for result in results if result["status"] == "failed"]
