"""LogisticProbes against scikit-learn's exact Newton method, one target at a time."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from gatescope.engine import arrays, irls
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes


def make_problem(n_rows, n_units, n_targets, seed=0, spread=0.0):
    """Correlated states whose columns' scales differ by up to 10 ** spread, and labels from common to rare."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_rows, n_units)) @ generator.standard_normal((n_units, n_units))
    X = X / np.sqrt(n_units) * 10 ** generator.uniform(-spread / 2, spread / 2, n_units)
    logits = X / X.std(axis=0) @ generator.standard_normal((n_units, n_targets)) / np.sqrt(n_units)
    threshold = np.linspace(0, 3.5, n_targets)
    Y = logits + 1.5 * generator.logistic(size=(n_rows, n_targets)) > threshold
    Y[0], Y[1] = True, False
    return X, Y


def fit_alone(X, y, weight=None, C=1.0, class_weight=None, fit_intercept=True):
    model = LogisticRegression(
        C=C, class_weight=class_weight, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-12, max_iter=1000
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y, sample_weight=weight)


def assert_same_fit(probes, k, model, rtol=1e-6):
    size = np.abs(model.coef_[0]).max()
    np.testing.assert_allclose(probes.coef_[k], model.coef_[0], rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(probes.intercept_[k], model.intercept_[0], rtol=rtol, atol=rtol * size)


def assert_equal_coefficients(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(500, 6), (1500, 25), (60, 90)], ids=["N500-H6", "N1500-H25", "N60-H90"])
@pytest.mark.parametrize("spread", [0.0, 4.0], ids=["alike", "scales1e4"])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "origin"])
def test_equals_scikit_learn(shape, spread, C, class_weight, fit_intercept):
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


def test_objective_gradient_and_decrement_are_those_of_the_formula():
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


def test_batch_equals_single_fits_and_a_bad_hypothesis_changes_nothing():
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


@pytest.mark.parametrize("options", [{}, {"class_weight": "balanced"}, {"C": 0.01, "standardize": True}])
def test_a_mask_of_one_hypothesis_is_nothing_to_the_others(options):
    X, Y = make_problem(3000, 20, 4)
    X[1500:] *= 4
    mask = np.random.default_rng(4).random(Y.shape) < 0.7
    mask[1500:, 0], mask[:1500, 1], mask[:, 3] = False, False, mask[:, 2]
    together = LogisticProbes(**options).fit(X, Y, mask)
    for k in range(4):
        alone = LogisticProbes(**options).fit(X, Y[:, [k]], mask[:, [k]])
        assert together.status_[k] == alone.status_[0] == "converged"
        # At the default tolerance, which leaves room for other ends: the steps are the same.
        np.testing.assert_allclose(together.coef_[k], alone.coef_[0], rtol=0, atol=1e-9 * np.abs(alone.coef_).max())


def test_a_queue_longer_than_the_tile_gives_the_same(monkeypatch):
    X, Y = make_problem(400, 7, 11)
    whole = LogisticProbes(tol=1e-11).fit(X, Y)
    monkeypatch.setattr(irls, "TILE", 3)
    tiled = LogisticProbes(tol=1e-11).fit(X, Y)
    assert_equal_coefficients(tiled.coef_, whole.coef_)
    assert (tiled.n_passes_ > 0).all()


def test_block_size_and_threads_change_nothing_beyond_rounding(monkeypatch):
    X, Y = make_problem(2000, 10, 4)
    X = X * 3
    whole = LogisticProbes(tol=1e-12).fit(X, Y)
    monkeypatch.setattr(arrays, "BLOCK_VALUES", 970)
    monkeypatch.setattr(arrays, "thread_count", lambda: 3)
    pieces = LogisticProbes(tol=1e-12).fit(X, Y)
    np.testing.assert_allclose(pieces.coef_, whole.coef_, rtol=1e-10, atol=1e-10)
    again = LogisticProbes(tol=1e-12).fit(X, Y)
    np.testing.assert_array_equal(pieces.coef_, again.coef_)


def test_one_C_for_each_hypothesis():
    X, Y = make_problem(500, 6, 3)
    C = np.array([0.02, 1.0, 30.0])
    probes = LogisticProbes(C, tol=1e-12).fit(X, np.repeat(Y[:, :1], 3, axis=1))
    for k in range(3):
        assert_same_fit(probes, k, fit_alone(X, Y[:, 0], C=C[k]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"standardize": True}, {"fit_intercept": False}])
def test_a_warm_start_finds_the_same_minimum_sooner(dtype, options):
    X, Y = make_problem(3000, 20, 4)
    X = (X + 400).astype(dtype)
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


def test_a_warm_start_forgets_an_intercept_that_is_fitted_no_more():
    X, Y = make_problem(800, 6, 2)
    warm = LogisticProbes(tol=1e-10, warm_start=True).fit(X, Y)
    warm.set_params(fit_intercept=False).fit(X + 1, Y)
    assert (warm.intercept_ == 0).all()
    assert_equal_coefficients(warm.coef_, LogisticProbes(tol=1e-10, fit_intercept=False).fit(X + 1, Y).coef_)


def test_a_path_of_penalties():
    X, Y = make_problem(600, 8, 3)
    Cs = [0.01, 0.1, 1.0, 10.0]
    path = LogisticProbes(tol=1e-12, class_weight="balanced").fit_path(X, Y, Cs)
    for C, probes in zip(Cs, path, strict=True):
        assert probes.C == C
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


def test_standardize_takes_the_spread_by_the_weights_of_each_hypothesis():
    X, Y = make_problem(900, 8, 3, spread=2.0)
    X[450:] *= 5
    weight = np.random.default_rng(3).uniform(0, 2, Y.shape)
    weight[450:, 0] = 0
    probes = LogisticProbes(0.1, standardize=True, tol=1e-12).fit(X, Y, weight)
    for k in range(3):
        scaler = StandardScaler().fit(X, sample_weight=weight[:, k])
        alone = fit_alone(scaler.transform(X), Y[:, k], weight[:, k], C=0.1)
        assert_equal_coefficients(probes.coef_[k] * scaler.scale_, alone.coef_[0])


def mean_objective(X, y, w, b, C=1.0):
    margin = np.where(y, 1, -1) * (X @ w + b)
    return (np.logaddexp(0, -margin).sum() + w @ w / (2 * C)) / len(y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_16_and_32_bit_states_reach_the_float64_minimum(dtype, class_weight):
    generator = np.random.default_rng(5)
    hidden = np.tanh(generator.standard_normal((6000, 30)) @ generator.standard_normal((30, 30)) * 0.4)
    cells = np.cumsum(generator.standard_normal((6000, 6)), axis=0) * 0.1 + 30
    X = np.hstack([hidden, cells, np.ones((6000, 1)), hidden[:, :1]]).astype(dtype)
    Y = X[:, :3].astype(np.float64) + generator.logistic(size=(6000, 3)) * 0.3 > [0, 0.5, 1.2]
    probes = LogisticProbes(class_weight=class_weight).fit(X, Y)
    exact = LogisticProbes(class_weight=class_weight, tol=1e-12).fit(X.astype(np.float64), Y)
    assert (probes.status_ == "converged").all() and (probes.grad_norm_ <= 1e-6).all()
    for k in range(3):
        assert np.abs(probes.coef_[k] - exact.coef_[k]).max() <= 1e-4 * np.abs(exact.coef_[k]).max()
    np.testing.assert_allclose(probes.objective_, exact.objective_, rtol=1e-7)


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("seed", [5, 7])
def test_without_a_penalty_duplicates_and_sums_of_units_are_left_out(dtype, seed):
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
def test_the_size_of_the_weights_is_nothing_without_a_penalty(size):
    X, Y = make_problem(400, 3, 2)
    X = X.astype(np.float32)
    expected = LogisticProbes(np.inf).fit(X, Y)
    got = LogisticProbes(np.inf).fit(X, Y, np.full(400, size))
    assert got.status_.tolist() == ["converged"] * 2
    np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-4)
    np.testing.assert_allclose(got.objective_, expected.objective_ * size, rtol=1e-6)


def test_a_fine_tolerance_on_16_bit_states_is_reached_in_float64():
    X, Y = make_problem(1500, 12, 3)
    X = X.astype(np.float16)
    fine = LogisticProbes(tol=1e-12).fit(X, Y)
    assert (fine.status_ == "converged").all() and (fine.grad_norm_ <= 1e-12).all()
    for k in range(3):
        assert_same_fit(fine, k, fit_alone(X.astype(np.float64), Y[:, k]))


@pytest.mark.parametrize(
    "wrap",
    [
        torch.from_numpy,
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X[::-1][::-1],
        lambda X: X.tolist(),
    ],
    ids=["torch", "fortran", "strided", "reversed-twice", "list"],
)
def test_every_kind_of_array_gives_the_same(wrap):
    X, Y = make_problem(300, 5, 2)
    expected = LogisticProbes(tol=1e-11).fit(X, Y)
    got = LogisticProbes(tol=1e-11).fit(wrap(X.copy()), Y)
    assert_equal_coefficients(got.coef_, expected.coef_)
    np.testing.assert_allclose(got.predict_proba(wrap(X.copy())), expected.predict_proba(X), rtol=1e-6)


def test_bfloat16_and_read_only_maps(tmp_path, recwarn):
    X, Y = make_problem(400, 6, 2)
    rounded = torch.from_numpy(X).to(torch.bfloat16)
    bfloat = LogisticProbes(tol=1e-10).fit(rounded, Y)
    exact = LogisticProbes(tol=1e-10).fit(rounded.to(torch.float64).numpy(), Y)
    assert_equal_coefficients(bfloat.coef_, exact.coef_)
    labels = torch.from_numpy(Y).to(torch.bfloat16)
    weighted = LogisticProbes(tol=1e-10).fit(X, labels, torch.full((400,), 2.0, dtype=torch.bfloat16))
    assert_equal_coefficients(weighted.coef_, LogisticProbes(tol=1e-10).fit(X, Y, np.full(400, 2)).coef_)
    np.save(tmp_path / "x.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    before = (tmp_path / "x.npy").read_bytes()
    LogisticProbes().fit(mapped, Y)
    assert (tmp_path / "x.npy").read_bytes() == before
    assert not recwarn.list


def write_dump(folder, X):
    spec = DumpSpec(
        arrays={"layer0/h": X.shape[1]},
        sequence_starts=np.array([0, len(X)]),
        document_starts=np.array([0, len(X)]),
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=X.dtype,
        attributes={"vocabulary": ["a"]},
        block_rows=3000,
    )
    with DumpWriter(folder, spec) as writer:
        writer.append(0, np.zeros(len(X), np.uint8), {"layer0/h": X})
    return StateDump.open(folder).array("layer0/h")


@pytest.mark.parametrize("kind", ["map", "dump"])
def test_states_on_disk_within_a_limit_of_memory_give_the_same(tmp_path, kind):
    X, Y = make_problem(20_000, 24, 12)
    X = X.astype(np.float16)
    if kind == "map":
        np.save(tmp_path / "x.npy", X)
        source = np.load(tmp_path / "x.npy", mmap_mode="r")
    else:
        source = write_dump(tmp_path / "states.zarr", X)
    expected = LogisticProbes(tol=1e-12).fit(X, Y)
    tracemalloc.start()
    try:
        got = LogisticProbes(tol=1e-12, memory_limit="4MB").fit(source, Y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # All problems at once would take 3.8 MB for logits and labels alone, and the states 3.8 MB in float64.
    assert peak < 4e6
    np.testing.assert_allclose(got.coef_, expected.coef_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(got.decision_function(source), expected.decision_function(X), rtol=1e-6, atol=1e-6)


def test_without_a_penalty():
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


def test_a_separable_hypothesis_with_a_penalty_is_an_ordinary_one():
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
def test_columns_far_from_zero(dtype):
    X, Y = make_problem(800, 5, 2)
    far = (X + 3000).astype(dtype)
    probes = LogisticProbes(tol=1e-9).fit(far, Y)
    exact = far.astype(np.float64)
    for k in range(2):
        alone = fit_alone(exact - 3000, Y[:, k])
        assert_equal_coefficients(probes.coef_[k], alone.coef_[0])


def test_huge_and_tiny_scales():
    X, Y = make_problem(300, 4, 2)
    reference = LogisticProbes(C=np.inf, tol=1e-9).fit(X, Y)
    scaled = LogisticProbes(C=np.inf, tol=1e-9).fit(X * [1e-12, 1, 1e5, 1], Y)
    assert_equal_coefficients(scaled.coef_ * [1e-12, 1, 1e5, 1], reference.coef_)
    tiny = LogisticProbes(C=np.inf).fit(X * 1e-20, Y)
    np.testing.assert_allclose(tiny.coef_ * 1e-20, reference.coef_, rtol=1e-3)
    with pytest.warns(ConvergenceWarning, match="2 not_finite"):
        broken = LogisticProbes().fit(X * 1e200, Y)
    assert np.isnan(broken.coef_).all()


def test_a_single_row_and_equal_rows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = LogisticProbes().fit(np.ones((1, 3)), np.array([[True, False]]))
        equal = LogisticProbes(tol=1e-10).fit(np.ones((4, 3)), np.array([[True], [False], [True], [True]]))
    assert single.status_.tolist() == ["one_class", "one_class"]
    assert equal.status_.tolist() == ["converged"]
    np.testing.assert_allclose(equal.predict_proba(np.ones((1, 3))), [[0.75]])


def test_steps_run_out_with_one_warning_for_all():
    X, Y = make_problem(500, 10, 4)
    with pytest.warns(ConvergenceWarning) as caught:
        probes = LogisticProbes(max_iter=2).fit(X, Y)
    assert len(caught) == 1
    assert "4 of 4 probes did not converge (4 max_iter; the first is hypothesis 0): raise max_iter (now 2)" in str(
        caught[0].message
    )
    assert probes.status_.tolist() == ["max_iter"] * 4 and (probes.n_iter_ == 2).all()
    assert np.isfinite(probes.coef_).all()


def test_one_dimensional_labels_follow_scikit_learn():
    X, Y = make_problem(400, 5, 1)
    y = np.where(Y[:, 0], "b", "a")
    probes, alone = LogisticProbes(tol=1e-10).fit(X, y), fit_alone(X, y)
    assert probes.classes_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(probes.predict(X), alone.predict(X))
    np.testing.assert_allclose(probes.predict_proba(X), alone.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(probes.decision_function(X), alone.decision_function(X), rtol=1e-6, atol=1e-8)
    assert probes.score(X, y) == alone.score(X, y)
    weighted = LogisticProbes(class_weight={"b": 5.0}, tol=1e-12).fit(X, y)
    assert_same_fit(weighted, 0, fit_alone(X, y, class_weight={"b": 5.0}))


def test_labels_of_many_hypotheses_keep_their_type():
    X, Y = make_problem(300, 4, 3)
    assert LogisticProbes().fit(X, Y).predict(X).dtype == bool
    numbers = LogisticProbes().fit(X, Y.astype(np.int8)).predict(X)
    assert numbers.dtype.kind == "i" and set(np.unique(numbers)) <= {0, 1}
    np.testing.assert_array_equal(numbers, LogisticProbes().fit(X, Y.astype(float)).predict(X))


def broken(X, value, row, column):
    X = X.copy()
    X[row, column] = value
    return X


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({}, lambda X, Y: (broken(X, np.nan, 7, 2), Y), "X contains NaN at row 7, column 2"),
        ({}, lambda X, Y: (broken(X.astype(np.float16), np.inf, 99, 0), Y), "X contains inf at row 99, column 0"),
        ({}, lambda X, Y: (X[:50], Y), "X has 50 rows and Y 100"),
        ({}, lambda X, Y: (X, Y * 2), "Y is 2 at row .*expected 0 or 1"),
        ({}, lambda X, Y: (X, np.where(Y, np.nan, 0.0)), "Y contains NaN or inf"),
        ({}, lambda X, Y: (X, Y[:, :, None]), "expected labels"),
        ({}, lambda X, Y: (X, Y[:, :0]), "at least one hypothesis"),
        ({}, lambda X, Y: (X, Y, np.ones(99)), "sample_weight has the shape"),
        ({}, lambda X, Y: (X, Y, np.ones((100, 3))), "sample_weight has the shape"),
        ({}, lambda X, Y: (X, Y, broken(np.ones(Y.shape), -1, 4, 1)), "sample_weight is -1.0 at row 4, hypothesis 1"),
        ({}, lambda X, Y: (X, Y, broken(np.ones(Y.shape), np.nan, 4, 1)), "sample_weight is nan at row 4"),
        ({}, lambda X, Y: (X, Y, np.zeros(100)), "zero everywhere"),
        ({}, lambda X, Y: (X, np.arange(100) % 3), "y has 3 classes"),
        ({"C": 0.0}, lambda X, Y: (X, Y), "C is 0.0"),
        ({"C": [1.0, 2.0, 3.0]}, lambda X, Y: (X, Y), "one for each of 2 hypotheses"),
        ({"tol": 0}, lambda X, Y: (X, Y), "tol is 0"),
        ({"max_iter": 0}, lambda X, Y: (X, Y), "max_iter is 0"),
        ({"class_weight": "even"}, lambda X, Y: (X, Y), "class_weight 'even' is unknown"),
        ({"class_weight": {7: 1.0}}, lambda X, Y: (X, Y), "class_weight names the class 7"),
        ({"class_weight": {1: -1.0}}, lambda X, Y: (X, Y), "expected a finite number"),
    ],
)
def test_bad_input_is_named_in_one_line(options, change, message):
    X, Y = make_problem(100, 3, 2)
    with pytest.raises(InputError, match=message) as caught:
        LogisticProbes(**options).fit(*change(X, Y.astype(np.int64)))
    assert "\n" not in str(caught.value)


def test_prediction_checks_its_input():
    X, Y = make_problem(100, 3, 2)
    with pytest.raises(NotFittedError):
        LogisticProbes().predict(X)
    probes = LogisticProbes().fit(X, Y)
    with pytest.raises(ValueError, match="4 features"):
        probes.predict(np.ones((5, 4)))
    with pytest.raises(InputError, match="NaN at row 1, column 0"):
        probes.predict(np.array([[1.0, 2, 3], [np.nan, 2, 3]]))


def test_parameters_follow_scikit_learn():
    probes = LogisticProbes(0.5, class_weight="balanced", standardize=True)
    assert clone(probes).get_params() == probes.get_params()
    X, Y = make_problem(200, 4, 1)
    assert make_pipeline(StandardScaler(), LogisticProbes()).fit(X, Y[:, 0]).score(X, Y[:, 0]) > 0.5


def test_scikit_learn_estimator_checks():
    failed = [result for result in check_estimator(LogisticProbes(), on_fail=None) if result["status"] == "failed"]
    assert not failed


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


@pytest.mark.filterwarnings("ignore:.*probes did not converge")
def test_memory_is_six_arrays_of_rows_and_four_matrices():
    X, Y = make_problem(24_000, 256, 32)
    X = X.astype(np.float32)
    LogisticProbes(max_iter=2).fit(X[:500], Y[:500])
    tracemalloc.start()
    try:
        LogisticProbes(max_iter=8).fit(X, Y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * (6 * Y.size + 4 * 256**2)
