"""Statistics of single units against scikit-learn and plain NumPy."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score, roc_curve

from gatescope.engine import neurons
from gatescope.engine.errors import InputError
from gatescope.engine.neurons import STATISTICS, NeuronProbes
from gatescope.engine.row_blocks import RowBlocks


def problem(dtype, N=700, H=6, K=4):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, H))
    X[:, 1] = np.round(X[:, 1])  # many ties
    X[:, 2] = 0.5  # nothing but ties
    X[:, 3] = np.where(X[:, 3] > 0, 0.0, -0.0)  # two signs of one value
    return X.astype(dtype), rng.random((N, K)) < [0.5, 0.1, 0.02, 0.9]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [None, "shared", "each"])
def test_auroc_equals_scikit_learn_with_ties_and_weights(dtype, weighted):
    X, Y = problem(dtype)
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 2, size=Y.shape if weighted == "each" else len(Y)).astype(np.float32)
    units = NeuronProbes().fit(X, Y, sample_weight=None if weighted is None else weight)
    for k in range(Y.shape[1]):
        s = {None: np.ones(len(Y)), "shared": weight, "each": weight[:, k] if weight.ndim == 2 else None}[weighted]
        for unit in range(X.shape[1]):
            expected = roc_auc_score(Y[:, k], X[:, unit].astype(np.float64), sample_weight=s)
            assert units.auroc_[k, unit] == pytest.approx(expected, abs=1e-12)
            x, rows = X[:, unit].astype(np.float64), s > 0
            difference = x[rows & Y[:, k]].mean() - x[rows & ~Y[:, k]].mean()
            assert units.mean_difference_[k, unit] == pytest.approx(difference, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("weight", [None, "shared", "masks", "each"])
def test_only_auroc_equals_auroc_of_the_full_fit(dtype, weight):
    X, Y = problem(dtype)
    Y = np.hstack([Y, np.zeros((len(Y), 1), bool)])
    drawn = np.random.default_rng(1).uniform(0, 2, Y.shape)
    s = {None: None, "shared": drawn[:, 0], "masks": drawn > 0.5, "each": drawn}[weight]
    everything, alone = NeuronProbes().fit(X, Y, s), NeuronProbes(only_auroc=True).fit(X, Y, s)
    np.testing.assert_allclose(alone.auroc_, everything.auroc_, rtol=1e-13)
    np.testing.assert_array_equal(alone.status_, everything.status_)
    assert {"converged", "constant_feature", "one_class"} == set(alone.status_.flat)
    assert not any(hasattr(alone, name) for name in STATISTICS if name != "auroc_")


def test_only_auroc_works_on_a_gpu(device):
    X, Y = problem(np.float32)
    x, y = (device.xp.asarray(each) for each in (X, Y))
    alone = NeuronProbes(only_auroc=True).fit(x, y)
    np.testing.assert_allclose(alone.auroc_, NeuronProbes().fit(X, Y).auroc_, rtol=1e-12)
    assert not hasattr(alone, "coef_")


def test_many_rows_do_not_lose_rank_sums():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(70_000, 1)).astype(np.float16)
    Y = (X + rng.normal(size=X.shape) > 0).astype(bool)
    expected = roc_auc_score(Y[:, 0], X[:, 0].astype(np.float64))
    assert NeuronProbes().fit(X, Y).auroc_[0, 0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_targets", [1, 4])
def test_all_zero_weights_give_one_class_everywhere(n_targets):
    X, Y = problem(np.float32)
    units = NeuronProbes().fit(X, Y[:, :n_targets], sample_weight=np.zeros((len(Y), n_targets)))
    assert (units.status_ == "one_class").all()
    assert all(np.isnan(getattr(units, name)).all() for name in STATISTICS)


def test_one_class_gives_a_status_and_nan():
    X, Y = problem(np.float32)
    Y[:, 1] = False
    units = NeuronProbes().fit(X, Y)
    varies = [0, 1, 4, 5]
    for k in range(4):
        assert set(units.status_[k, varies]) == {"one_class" if k == 1 else "converged"}
        assert set(units.status_[k, 2:4]) == {"one_class" if k == 1 else "constant_feature"}
    for name in STATISTICS:
        assert np.isnan(getattr(units, name)[1]).all()
        assert np.isfinite(getattr(units, name)[[0, 2, 3]][:, varies]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("hidden", ["", "by a weight of zero", "behind one class"])
def test_states_that_are_not_finite_are_refused(dtype, hidden):
    X, Y = problem(dtype)
    X[9, 3] = np.nan
    weight = np.arange(len(X)) != 9 if hidden == "by a weight of zero" else None
    if hidden == "behind one class":
        Y[:] = False
    with pytest.raises(InputError, match=r"row 9.*column 3"):
        NeuronProbes().fit(X, Y, sample_weight=weight)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("real", [False, True])
def test_hypotheses_with_their_own_masks_equal_single_fits(dtype, real):
    X, Y = problem(dtype)
    rng = np.random.default_rng(6)
    # The first five hypotheses share their weights; the others share theirs with none.
    Y = np.column_stack([Y, Y[:, 0] ^ (rng.random(len(Y)) < 0.3), rng.random((len(Y), 3)) < 0.4])
    weight = rng.random(Y.shape) < rng.uniform(0.1, 0.9, Y.shape[1])
    weight = weight * rng.uniform(0.5, 2, Y.shape) if real else weight
    weight[:, :5] = weight[:, :1]
    together = NeuronProbes().fit(X, Y, sample_weight=weight)
    for k in range(Y.shape[1]):
        kept = weight[:, k] > 0
        alone = NeuronProbes().fit(X[kept], Y[kept, k], sample_weight=weight[kept, k])
        np.testing.assert_array_equal(alone.status_[0], together.status_[k])
        for name in STATISTICS:
            got, expected = getattr(together, name)[k], getattr(alone, name)[0]
            np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-11, err_msg=name)


class CountedRows:
    """States on a disk, as far as the solver can see; counts how many values are read."""

    def __init__(self, X):
        self.X, self.shape, self.dtype, self.values_read = X, X.shape, X.dtype, 0

    def __getitem__(self, rows):
        self.values_read += self.X[rows].size
        return self.X[rows]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_states_on_disk_are_read_only_a_few_times(dtype):
    X, Y = problem(dtype, N=2000, H=40)
    disk = CountedRows(X)
    got = NeuronProbes(memory_limit=4 * X.nbytes // 2).fit(disk, Y)
    # Half of the columns fit into the quarter of the memory that states may take; one row is read for its dtype.
    assert disk.values_read == 2 * (X.size + X.shape[1])
    whole = NeuronProbes().fit(X, Y)
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(got, name), getattr(whole, name), rtol=1e-12, atol=1e-13, err_msg=name)


def test_a_memory_map_equals_an_array(tmp_path):
    X, Y = problem(np.float16)
    np.save(tmp_path / "x.npy", X)
    got = NeuronProbes(memory_limit="10kB").fit(np.load(tmp_path / "x.npy", mmap_mode="r"), Y)
    whole = NeuronProbes().fit(X, Y)
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(got, name), getattr(whole, name), rtol=1e-12, atol=1e-13, err_msg=name)


def test_heavy_tails_are_fitted():
    rng = np.random.default_rng(5)
    X = np.column_stack([rng.standard_t(3, 4000) * 5, rng.lognormal(0, 2, 4000)]).astype(np.float16)
    middle = np.median(X.astype(np.float64), axis=0)
    Y = middle < X
    units = NeuronProbes().fit(X, Y)
    assert (units.status_ == "converged").all()
    for k in range(2):
        assert units.coef_[k, k] == pytest.approx(fit_alone(X[:, k], Y[:, k]).coef_[0, 0], rel=1e-6)


def test_a_constant_unit_has_coefficient_zero():
    X, Y = problem(np.float32)
    units = NeuronProbes().fit(X, Y)
    share = Y.mean(axis=0)
    np.testing.assert_array_equal(units.coef_[:, 2], 0)
    np.testing.assert_allclose(units.intercept_[:, 2], np.log(share / (1 - share)))
    np.testing.assert_array_equal(units.auroc_[:, 2], 0.5)
    np.testing.assert_array_equal(units.informedness_[:, 2], 0)
    np.testing.assert_array_equal(units.mean_difference_[:, 2], 0)
    assert np.isnan(units.f_statistic_[:, 2]).all()


def fit_alone(x, y, weight=None):
    model = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return model.fit(x[:, None].astype(np.float64), y, sample_weight=weight)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("weighted", [None, "mask", "real"])
def test_logistic_regressions_equal_scikit_learn(dtype, weighted):
    rng = np.random.default_rng(2)
    N = 3000
    label = rng.random(N) < 0.3
    X = np.column_stack(
        [
            rng.normal(size=N) + label,
            np.tanh(3 * rng.normal(size=N)) - 0.2 * label,
            rng.standard_cauchy(N) * 0.1 + label,  # far outliers
            np.where(label, 1.0, -1.0) * rng.uniform(0.01, 1, N),  # the classes do not overlap
            np.round(rng.normal(size=N)) + 300,  # far from zero, few values
            1e-3 * rng.normal(size=N),  # the penalty decides everything
        ]
    ).astype(dtype)
    Y = np.column_stack([label, rng.random(N) < 0.01, X[:, 0] > 2])
    weight = {None: None, "mask": rng.random(N) < 0.7, "real": rng.uniform(0.1, 2, N)}[weighted]
    units = NeuronProbes().fit(X, Y, sample_weight=weight)
    assert (units.status_ == "converged").all()
    for k in range(Y.shape[1]):
        for unit in range(X.shape[1]):
            alone = fit_alone(X[:, unit], Y[:, k], weight)
            assert units.coef_[k, unit] == pytest.approx(alone.coef_[0, 0], rel=1e-6, abs=1e-9)
            assert units.intercept_[k, unit] == pytest.approx(alone.intercept_[0], rel=1e-6, abs=1e-7)


def test_f_statistic_equals_scikit_learn():
    X, Y = problem(np.float32)
    mask = np.random.default_rng(3).random(len(X)) < 0.6
    units = NeuronProbes().fit(X, Y, sample_weight=mask)
    varies = [0, 1, 4, 5]
    for k in range(Y.shape[1]):
        expected = f_classif(X[mask][:, varies].astype(np.float64), Y[mask, k])[0]
        np.testing.assert_allclose(units.f_statistic_[k, varies], expected, rtol=1e-9)


@pytest.mark.parametrize("total", [0.5, 2.0, 2.5])
@pytest.mark.parametrize("n_targets", [1, 4])
def test_f_statistic_is_nan_for_two_rows(device, total, n_targets):
    X = np.random.default_rng(0).standard_normal((32, 3))
    X[:, 1] = np.arange(32) % 2
    Y, weight = np.repeat(X[:, 1:2] == 0, n_targets, axis=1), np.full(32, total / 32)
    for move in (lambda array: array, device):
        units = NeuronProbes().fit(move(X), move(Y), move(weight))
        assert np.isnan(units.f_statistic_).all() == (total <= 2)
        if total > 2:
            assert (units.f_statistic_[:, [0, 2]] > 0).all() and np.isinf(units.f_statistic_[:, 1]).all()


@pytest.mark.parametrize("kind", ["shared", "each"])
@pytest.mark.parametrize("size", [1e-320, 1e-200])
@pytest.mark.filterwarnings("error", "ignore:.*single units did not converge")
def test_overflowing_weights_give_a_status(kind, size):
    X, Y = problem(np.float32)
    weight = np.ones(Y.shape)
    weight[:, 1] = size
    units = NeuronProbes().fit(X, Y, weight[:, 1] if kind == "shared" else weight)
    assert (units.status_[1] == "not_finite").all() and np.isnan(units.auroc_[1]).all()
    assert (units.status_[0, [0, 1]] == ("not_finite" if kind == "shared" else "converged")).all()


def test_mutual_information_is_exact_for_few_values_and_zero_if_independent():
    rng = np.random.default_rng(4)
    N = 4000
    Y = rng.random((N, 3)) < [0.5, 0.2, 0.01]
    few = rng.integers(0, 5, N) + 2 * Y[:, 0]
    X = np.column_stack([few, rng.normal(size=N)]).astype(np.float64)
    units = NeuronProbes().fit(X, Y)
    cells = np.unique(np.column_stack([few, Y[:, 0]]), axis=0)
    correction = (len(np.unique(few)) + 2 - len(cells) - 1) / (2 * N)
    expected = (mutual_info_score(few, Y[:, 0]) + correction) / np.log(2)
    assert units.mutual_information_[0, 0] == pytest.approx(expected, rel=1e-9)
    # 31 degrees of freedom: the plug-in estimate has mean 31 / (2 N ln 2) = 0.0056 and a quarter of that as deviation.
    assert np.abs(units.mutual_information_[:2, 1]).max() < 4 * np.sqrt(31 / 2) / (N * np.log(2))


@pytest.mark.parametrize("turned", [False, True])
def test_the_best_threshold_equals_that_of_the_roc_curve(turned):
    rng = np.random.default_rng(5)
    Y = rng.random((900, 2)) < [0.4, 0.05]
    X = np.round(rng.normal(size=(900, 2)) + Y[:, :1], 2) * (-1 if turned else 1)
    units = NeuronProbes().fit(X, Y)
    for k in range(2):
        for unit in range(2):
            false_rate, true_rate, _ = roc_curve(Y[:, k], X[:, unit], drop_intermediate=False)
            best = np.abs(true_rate - false_rate).argmax()
            assert units.informedness_[k, unit] == pytest.approx(true_rate[best] - false_rate[best], abs=1e-12)
            rule = X[:, unit] >= units.threshold_[k, unit]
            rates = rule[Y[:, k]].mean() - rule[~Y[:, k]].mean()
            assert rates == pytest.approx(units.informedness_[k, unit], abs=1e-12)


@pytest.mark.parametrize("limited", [False, True])
def test_tile_size_does_not_change_results(monkeypatch, limited):
    X, Y = problem(np.float32, H=9)
    whole = NeuronProbes().fit(X, Y)
    if limited:
        rows = RowBlocks(X, np.float32, 40_000)
        assert neurons.tile_units(rows) == neurons.tile_targets(rows) == 1
    else:
        monkeypatch.setattr(neurons, "TILE_UNITS", 4)
        monkeypatch.setattr(neurons, "TILE_TARGETS", 3)
    tiled = NeuronProbes(memory_limit="40kB" if limited else None).fit(X, Y)
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(tiled, name), getattr(whole, name), rtol=1e-12, atol=1e-13, err_msg=name)


def test_bfloat16_is_read_exactly():
    X, Y = problem(np.float32)
    tensor = torch.from_numpy(X).to(torch.bfloat16)
    got, expected = NeuronProbes().fit(tensor, Y), NeuronProbes().fit(tensor.to(torch.float64).numpy(), Y)
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-12, err_msg=name)


def test_overflowing_values_give_a_status():
    X, Y = problem(np.float64)
    X[:, 4] *= 1e200
    with pytest.warns(ConvergenceWarning, match="first is unit 4, hypothesis 0"):
        units = NeuronProbes().fit(X, Y)
    assert set(units.status_[:, 4]) == {"not_finite"} and set(units.status_[:, 5]) == {"converged"}
    assert np.isfinite(units.auroc_[:, 4]).all() and np.isnan(units.coef_[:, 4]).all()


@pytest.mark.parametrize("far", [1e14, 1e20, -1e200])
@pytest.mark.parametrize("masks", [False, True], ids=["shared", "masks"])
def test_values_without_weight_do_not_change_results(far, masks):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3)) + 5
    Y = X[:, :2] + rng.normal(size=(1000, 2)) > 5
    weight = np.ones((1000, 2))
    weight[0] = weight[7] = 0
    weight = weight if masks else weight[:, 0]
    expected = NeuronProbes().fit(X, Y, weight)
    X[0] = X[7] = far
    found = NeuronProbes().fit(X, Y, weight)
    assert (found.status_ == "converged").all()
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, err_msg=name)
