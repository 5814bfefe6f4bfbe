"""Univariate statistics of units against scikit-learn and plain NumPy."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gatescope.engine.errors import InputError
from gatescope.engine.neurons import NeuronProbes


def problem(dtype, N=700, H=6, K=4):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, H))
    X[:, 1] = np.round(X[:, 1])  # many ties
    X[:, 2] = 0.5  # nothing but ties
    X[:, 3] = np.where(X[:, 3] > 0, 0.0, -0.0)  # two signs of one value
    return X.astype(dtype), rng.random((N, K)) < [0.5, 0.1, 0.02, 0.9]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [None, "shared", "each"])
def test_auroc_is_scikit_learns_with_ties_and_weights(dtype, weighted):
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
            # Sums of N terms of size 1 in float32, whose roundings add up like a random walk.
            rounding = float(4 * np.finfo(np.float32).eps * len(X) ** 0.5)
            assert units.mean_difference_[k, unit] == pytest.approx(difference, abs=rounding)


def test_many_rows_do_not_lose_rank_sums():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(70_000, 1)).astype(np.float16)
    Y = (X + rng.normal(size=X.shape) > 0).astype(bool)
    expected = roc_auc_score(Y[:, 0], X[:, 0].astype(np.float64))
    assert NeuronProbes().fit(X, Y).auroc_[0, 0] == pytest.approx(expected, abs=1e-12)


def test_one_class_is_a_status_and_nan():
    X, Y = problem(np.float32)
    Y[:, 1] = False
    units = NeuronProbes().fit(X, Y)
    assert list(units.status_) == ["converged", "one_class", "converged", "converged"]
    assert np.isnan(units.auroc_[1]).all() and np.isfinite(units.auroc_[[0, 2, 3]]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_states_that_are_not_finite_are_refused(dtype):
    X, Y = problem(dtype)
    X[9, 3] = np.nan
    with pytest.raises(InputError, match=r"row 9.*column 3"):
        NeuronProbes().fit(X, Y)
