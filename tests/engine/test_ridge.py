"""Ridge probes against scikit-learn."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, Ridge

from gatescope.engine.errors import InputError
from gatescope.engine.ridge import RidgeProbes


def problem(N=300, H=12, K=4):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, H)) @ rng.normal(size=(H, H)) + 2
    return X, X @ rng.normal(size=(H, K)) + rng.normal(size=(N, K)) - 3


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("N", "H"), [(300, 12), (20, 40)])
def test_coefficients_are_scikit_learns(N, H, C, fit_intercept):
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


def test_one_C_for_each_target_and_none():
    X, Y = problem()
    C = np.array([0.1, 1.0, 10.0, np.inf])
    probes = RidgeProbes(C=C).fit(X, Y)
    for k in range(3):
        np.testing.assert_allclose(probes.coef_[k], Ridge(alpha=1 / C[k]).fit(X, Y[:, k]).coef_, rtol=1e-7)
    np.testing.assert_allclose(probes.coef_[3], LinearRegression().fit(X, Y[:, 3]).coef_, rtol=1e-7)


def test_a_path_is_scikit_learns_and_has_one_eigendecomposition(monkeypatch):
    X, Y = problem()
    weight = np.random.default_rng(1).integers(0, 3, size=len(Y)).astype(float)
    decompose, made = np.linalg.eigh, []
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: made.append(matrix) or decompose(matrix))
    Cs = [1e3, 1e-4, 1e-2, 1.0, np.array([0.1, 1.0, 10.0, 100.0]), np.inf]
    probes = RidgeProbes(fit_intercept=True)
    path = probes.fit_path(X, Y, Cs, weight)
    assert len(path) == len(Cs) and len(made) == 1 and not hasattr(probes, "coef_")
    for C, fitted in zip(Cs, path, strict=True):
        assert fitted.C is C and (fitted.status_ == "converged").all() and fitted.grad_norm_.max() < 1e-9
        for k, alpha in enumerate(np.broadcast_to(1 / np.asarray(C), 4)):
            alone = Ridge(alpha=alpha, solver="svd").fit(X, Y[:, k], sample_weight=weight)
            np.testing.assert_allclose(fitted.coef_[k], alone.coef_, rtol=0, atol=1e-9 * np.abs(alone.coef_).max())
            np.testing.assert_allclose(fitted.intercept_[k], alone.intercept_, rtol=1e-9)
            np.testing.assert_allclose(fitted.predict(X)[:, k], alone.predict(X), rtol=1e-6)
    single = RidgeProbes(C=1e-2).fit(X, Y, weight)
    np.testing.assert_allclose(path[2].coef_, single.coef_, rtol=1e-9)
    np.testing.assert_allclose(path[2].objective_, single.objective_, rtol=1e-12)
    assert probes.fit_path(X, Y[:, 0], [1.0, 2.0, 3.0])[1].coef_.shape == (12,)
    with pytest.raises(InputError, match=r"C is -1.0"):
        probes.fit_path(X, Y, [1.0, -1.0])


def test_one_dimension_and_narrow_states():
    X, Y = problem()
    probes = RidgeProbes().fit(X.astype(np.float16), Y[:, 0])
    expected = Ridge().fit(X.astype(np.float16).astype(np.float64), Y[:, 0])
    np.testing.assert_allclose(probes.coef_, expected.coef_, rtol=1e-7)
    assert probes.predict(X).shape == (len(X),) and isinstance(probes.intercept_, float)


@pytest.mark.filterwarnings("ignore:1 of 4 ridge probes")
def test_a_target_without_rows_has_a_status_and_harms_no_other():
    X, Y = problem()
    weight = np.ones_like(Y)
    weight[:, 1] = 0
    probes = RidgeProbes().fit(X, Y, sample_weight=weight)
    assert list(probes.status_) == ["converged", "empty", "converged", "converged"]
    assert np.isnan(probes.coef_[1]).all()
    np.testing.assert_allclose(probes.coef_[2], Ridge().fit(X, Y[:, 2]).coef_, rtol=1e-7)


def test_no_target_has_a_row():
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
