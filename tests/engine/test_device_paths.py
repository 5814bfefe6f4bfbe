"""The solver on GPU arrays (or arrays as strict), against the same fits on NumPy arrays."""

from __future__ import annotations

import gc
from contextlib import contextmanager

import numpy as np
import pytest
import strict_arrays
import torch
from sklearn.exceptions import ConvergenceWarning

from gatescope.engine import neurons_cuda
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.neurons import STATISTICS, NeuronProbes
from gatescope.engine.ridge import RidgeProbes
from gatescope.engine.row_blocks import RowBlocks

DTYPES = [np.float16, "bfloat16", np.float32, np.float64]
ids = [str(getattr(dtype, "__name__", dtype)) for dtype in DTYPES]


def problem(dtype, N=1500, H=12, K=5, seed=0):
    generator = np.random.default_rng(seed)
    X = np.tanh(generator.normal(size=(N, H)) @ generator.normal(size=(H, H)) / 2)
    logits = X @ generator.normal(size=(H, K)) + generator.logistic(size=(N, K))
    Y = logits > np.linspace(0, 3, K)
    if dtype == "bfloat16":
        X = torch.from_numpy(X).to(torch.bfloat16)
        return X, X.to(torch.float64).numpy(), Y
    return X.astype(dtype), X.astype(dtype).astype(np.float64), Y


def assert_close(got, expected, relative):
    np.testing.assert_allclose(got, expected, rtol=0, atol=relative * np.abs(expected).max())


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@pytest.mark.parametrize("weighted", [None, "shared", "each"])
def test_logistic_probes_equal_the_cpu(device, dtype, weighted):
    X, exact, Y = problem(dtype)
    weight = {
        None: None,
        "shared": np.random.default_rng(1).uniform(0, 2, len(Y)),
        "each": np.random.default_rng(1).integers(0, 3, Y.shape).astype(np.float32),
    }[weighted]
    options = {"class_weight": "balanced" if weighted == "shared" else None, "standardize": weighted == "each"}
    expected = LogisticProbes(tol=1e-10, **options).fit(exact, Y, weight)
    given = device(X)
    probes = LogisticProbes(**options).fit(given, device(Y), device(weight))
    assert (probes.status_ == "converged").all() and isinstance(probes.coef_, np.ndarray)
    assert_close(probes.coef_, expected.coef_, 1e-4)
    assert_close(probes.intercept_, expected.intercept_, 1e-4)
    np.testing.assert_allclose(probes.objective_, expected.objective_, rtol=1e-7)
    np.testing.assert_allclose(probes.decision_function(given), probes.decision_function(X), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(probes.predict(given), probes.predict(X))


def test_labels_and_weights_may_be_on_another_device_than_states(device):
    X, _, Y = problem(np.float32)
    weight = np.random.default_rng(1).uniform(0, 2, Y.shape)
    expected = LogisticProbes().fit(X, Y, weight)
    tensors = device(torch.from_numpy(Y)), device(torch.from_numpy(weight))
    for states, labels, weights in ((device(X), Y, weight), (X, device(Y), device(weight)), (device(X), *tensors)):
        assert_close(LogisticProbes().fit(states, labels, weights).coef_, expected.coef_, 1e-4)
        assert_close(RidgeProbes().fit(states, labels, weights).coef_, RidgeProbes().fit(X, Y, weight).coef_, 1e-10)
    flat = LogisticProbes().fit(device(X), device(Y[:, 0].astype(np.int64)), device(weight[:, 0]))
    assert_close(flat.coef_[0], expected.coef_[0], 1e-4)
    assert flat.score(device(X), Y[:, 0]) == LogisticProbes().fit(X, Y[:, 0], weight[:, 0]).score(X, Y[:, 0])


@pytest.mark.parametrize("grouped", [None, np.asarray, torch.from_numpy], ids=["alone", "array", "tensor"])
def test_standard_errors_equal_the_cpu(device, grouped):
    X, _, Y = problem(np.float32)
    groups = None if grouped is None else grouped(np.arange(len(Y)) // 50)
    probes = LogisticProbes(C=np.inf, tol=1e-8).fit(X, Y)
    expected = probes.standard_errors(X, Y, groups=groups)
    got = probes.standard_errors(device(X), device(Y), groups=device(groups))
    np.testing.assert_allclose(got.coef, expected.coef, rtol=1e-10)
    np.testing.assert_allclose(got.p_values, expected.p_values, rtol=1e-6)


@pytest.mark.parametrize("weighted", [None, "shared", "each"])
def test_standardized_probes_equal_the_cpu(device, weighted):
    X, _, Y = problem(np.float64)
    weight = {
        None: None,
        "shared": np.random.default_rng(1).uniform(0, 2, len(Y)),
        # Each hypothesis may have weights on a scale of its own.
        "each": np.random.default_rng(1).uniform(0, 2, Y.shape) * [1e-3, 1, 1e3, 1, 1] * (X[:, :5] > -0.5),
    }[weighted]
    expected = LogisticProbes(standardize=True, tol=1e-10).fit(X, Y, weight)
    probes = LogisticProbes(standardize=True, tol=1e-10).fit(device(X), device(Y), device(weight))
    assert (probes.status_ == "converged").all()
    np.testing.assert_allclose(probes.coef_, expected.coef_, rtol=1e-5, atol=1e-8)
    got = probes.standard_errors(device(X), device(Y), device(weight))
    np.testing.assert_allclose(got.coef, expected.standard_errors(X, Y, weight).coef, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linearly_dependent_units_have_no_coefficient(device, dtype):
    X, _, Y = problem(dtype)
    X = np.column_stack([X, X[:, 3], X[:, 0] - X[:, 1]])
    expected = LogisticProbes(C=np.inf).fit(X, Y)
    probes = LogisticProbes(C=np.inf).fit(device(X), device(Y))
    assert (probes.status_ == "converged").all() and not probes.coef_[:, -2:].any()
    assert_close(probes.coef_, expected.coef_, 1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_probes_equal_the_cpu(device, dtype, weighted):
    X, exact, Y = problem(dtype)
    targets = Y * np.arange(1.0, 6.0) + exact[:, :5]
    weight = np.random.default_rng(1).integers(0, 2, Y.shape).astype(np.float32) if weighted else None
    expected = RidgeProbes(C=np.array([0.1, 1, 10, np.inf, 3])).fit(exact, targets, weight)
    probes = RidgeProbes(C=np.array([0.1, 1, 10, np.inf, 3]))
    probes.fit(device(X), device(targets), device(weight))
    assert_close(probes.coef_, expected.coef_, 1e-9)
    np.testing.assert_allclose(probes.predict(device(X)), expected.predict(exact), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@pytest.mark.parametrize("weighted", [None, "shared", "each", "mask"])
def test_neuron_probes_equal_the_cpu(device, monkeypatch, dtype, weighted):
    monkeypatch.setattr(neurons_cuda, "TILE_UNITS", 5)
    monkeypatch.setattr(neurons_cuda, "TILE_TARGETS", 34)
    X, exact, Y = problem(dtype, N=700, H=7)
    X[:, 1], X[:, 2] = X[:, 1] > 0, 0.5
    X[:, 3] = X[:, 3] * 0.01 + torch.as_tensor(Y[:, 0]) if dtype == "bfloat16" else X[:, 3] * 0.01 + Y[:, 0]
    exact = X.to(torch.float64).numpy() if dtype == "bfloat16" else X.astype(np.float64)
    Y = np.column_stack([Y] * 7 + [np.ones(len(Y), bool)])
    generator = np.random.default_rng(1)
    weight = {
        None: None,
        "shared": generator.uniform(0.1, 2, len(Y)),
        "each": np.repeat(generator.integers(0, 3, (len(Y), 4)), 9, axis=1).astype(np.float32),
        "mask": generator.random(len(Y)) < 0.6,
    }[weighted]
    expected = NeuronProbes().fit(exact, Y, weight)
    got = NeuronProbes().fit(device(X), device(Y), device(weight))
    np.testing.assert_array_equal(got.status_, expected.status_)
    assert set(got.status_.flat) == {"converged", "constant_feature", "one_class"}
    for name in STATISTICS:
        values, references = getattr(got, name), getattr(expected, name)
        loose = {"coef_": 1e-7, "intercept_": 1e-7}.get(name, 1e-10)
        np.testing.assert_allclose(values, references, rtol=loose, atol=1e-12, err_msg=name)
    # AUROC alone needs neither bins nor regressions.
    monkeypatch.setattr(neurons_cuda, "fill_bins", None)
    alone = NeuronProbes(only_auroc=True).fit(device(X), device(Y), device(weight))
    np.testing.assert_array_equal(alone.status_, NeuronProbes(only_auroc=True).fit(exact, Y, weight).status_)
    np.testing.assert_array_equal(alone.auroc_, got.auroc_)
    assert not hasattr(alone, "coef_")


def test_neuron_probes_give_overflowing_units_a_status(device):
    X, _, Y = problem(np.float64)
    X[:, 4] *= 1e200
    with pytest.warns(ConvergenceWarning, match="first is unit 4, hypothesis 0"):
        units = NeuronProbes().fit(device(X), Y)
    assert set(units.status_[:, 4]) == {"not_finite"} and set(units.status_[:, 5]) == {"converged"}
    assert np.isfinite(units.auroc_[:, 4]).all() and np.isnan(units.coef_[:, 4]).all()
    alone = NeuronProbes(only_auroc=True).fit(device(X), Y)
    assert set(alone.status_.flat) == {"converged"}
    np.testing.assert_array_equal(alone.auroc_, units.auroc_)


def test_states_far_from_zero_and_warm_starts_equal_the_cpu(device):
    X, _, Y = problem(np.float64)
    far = X + 1e4
    expected = LogisticProbes().fit(far, Y)
    probes = LogisticProbes(warm_start=True).fit(device(far), Y)
    assert_close(probes.coef_, expected.coef_, 1e-4)
    assert_close(probes.fit(device(far), Y).coef_, expected.coef_, 1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_a_memory_limit_does_not_change_results(device, dtype):
    X, _, Y = problem(dtype)
    with RowBlocks(device(X), np.float32, 2_000_000) as rows:
        assert rows.block_rows < len(X) / 2 and rows.stored_rows < len(X) / 2
    whole, limited = (LogisticProbes(tol=1e-7, memory_limit=limit).fit(device(X), Y) for limit in (None, "2MB"))
    assert_close(limited.coef_, whole.coef_, 1e-5)
    whole, limited = (NeuronProbes(memory_limit=limit).fit(device(X), Y) for limit in (None, "200kB"))
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(limited, name), getattr(whole, name), rtol=1e-9, atol=1e-12)


def test_a_large_memory_limit_makes_no_block_larger(device):
    X = device(np.zeros((400_000, 1), np.float16))
    plain, limited = (RowBlocks(X, np.float32, limit) for limit in (None, 10**11))
    assert plain.stored_rows == limited.stored_rows < len(X) and plain.block_rows == limited.block_rows


def test_unpenalised_fits_report_separable_hypotheses(device):
    X, _, Y = problem(np.float32)
    Y = np.column_stack([Y[:, 0], X[:, 0] > 0.3, np.ones(len(Y), bool)])
    with pytest.warns(ConvergenceWarning):
        probes = LogisticProbes(C=np.inf).fit(device(X), device(Y))
    assert probes.status_.tolist() == ["converged", "separable", "one_class"]


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@pytest.mark.parametrize("make", [LogisticProbes, RidgeProbes, NeuronProbes])
def test_states_that_are_not_finite_are_refused(device, dtype, make):
    X, _, Y = problem(dtype)
    X[9, 3] = np.nan
    with pytest.raises(InputError, match=r"row 9.*column 3"):
        make().fit(device(X), device(Y))


@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@pytest.mark.parametrize("hidden", ["by a weight of zero", "behind one class"])
def test_nonfinite_units_are_refused_anywhere_in_the_data(device, dtype, hidden):
    X, _, Y = problem(dtype)
    X[9, 3] = np.inf
    weight = np.arange(len(Y)) != 9 if hidden == "by a weight of zero" else None
    if hidden == "behind one class":
        Y[:] = False
    with pytest.raises(InputError, match=r"inf at row 9, column 3"):
        NeuronProbes().fit(device(X), device(Y), device(weight))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_heavy_tails_equal_the_cpu(device, dtype):
    generator = np.random.default_rng(5)
    X = np.column_stack([generator.standard_t(3, 4000) * 5, generator.lognormal(0, 2, 4000)]).astype(dtype)
    Y = np.median(X.astype(np.float64), axis=0) < X
    expected, got = NeuronProbes().fit(X, Y), NeuronProbes().fit(device(X), Y)
    assert (got.status_ == "converged").all()
    for name in ("coef_", "intercept_"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-6, err_msg=name)


def test_units_far_from_zero_equal_the_cpu(device):
    generator = np.random.default_rng(6)
    X = 2.0**20 + 1e-3 * generator.standard_normal((3000, 2))
    Y = X - 2.0**20 + 1e-3 * generator.logistic(size=X.shape) > 0
    expected, got = NeuronProbes().fit(X, Y), NeuronProbes().fit(device(X), Y)
    assert (got.status_ == "converged").all()
    for name in ("coef_", "mean_difference_", "f_statistic_"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-9, err_msg=name)


def test_invalid_labels_and_weights_are_named(device):
    X, _, Y = problem(np.float32)
    labels, weight = Y.astype(np.float32), np.ones(Y.shape)
    labels[7, 2], weight[4, 1] = 0.5, -1.0
    with pytest.raises(InputError, match=r"Y is 0.5 at row 7, hypothesis 2"):
        LogisticProbes().fit(device(X), device(labels))
    with pytest.raises(InputError, match=r"sample_weight is -1.0 at row 4, hypothesis 1"):
        LogisticProbes().fit(device(X), device(Y), device(weight))
    labels[7, 2] = np.nan
    with pytest.raises(InputError, match=r"Y contains NaN or inf at \(7, 2\)"):
        LogisticProbes().fit(device(X), device(labels))


@pytest.mark.parametrize("probes", [LogisticProbes, RidgeProbes, NeuronProbes])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_fit_creates_no_reference_cycles(device, probes, dtype):
    # A reference cycle would hold all states until Python looks for one.
    X, _, Y = problem(dtype, N=300)
    given = device(X), device(Y)
    probes().fit(*given)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        probes().fit(*given)
        gc.collect()
        assert [each for each in gc.garbage if type(each).__module__.startswith("gatescope")] == []
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()


@pytest.mark.parametrize("make", [LogisticProbes, RidgeProbes, NeuronProbes])
def test_all_device_work_uses_torchs_memory_and_stream(monkeypatch, make):
    inside, outside, called = [], [], strict_arrays.called

    @contextmanager
    def using_allocator(_):
        inside.append(True)
        yield
        inside.pop()

    def noted(function, *arguments):
        if not inside:
            outside.append(function.__name__)
        return called(function, *arguments)

    module = strict_arrays.stand_in(monkeypatch)
    monkeypatch.setattr(module.cuda, "using_allocator", using_allocator)
    monkeypatch.setattr(strict_arrays, "called", noted)
    X, _, Y = problem(np.float32)
    weight = np.random.default_rng(1).uniform(0, 2, Y.shape)
    given = [module.asarray(each) for each in (X, Y.astype(np.float32), weight)]
    probes = make().fit(*given)
    if make is LogisticProbes:
        probes.standard_errors(*given, groups=module.asarray(np.arange(len(Y)) // 50))
    if make is not NeuronProbes:
        probes.predict(given[0])
    assert outside == []
