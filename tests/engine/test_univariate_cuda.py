"""The kernels that fit all pairs of units and hypotheses, against fits of one unit at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hard_units import columns, fit, labels
from scipy.stats import rankdata

from gatescope.engine import univariate_cuda
from gatescope.engine.univariate_cuda import fit_units


def fit_on(device, values, Y, weight, C=1.0, memory=10**9):
    """Fit units [U, N] to labels [N, G] with weights [N]; return coefficients, intercepts and which fits converged."""
    origin = 0.5 * (values.min(axis=1) + values.max(axis=1))
    moved = values - origin[:, None]
    order = np.argsort(moved, axis=1, kind="stable")
    ranks = np.empty_like(moved)
    for unit, row in enumerate(moved):
        below = np.concatenate([[0.0], np.cumsum(weight[order[unit]])])
        first = rankdata(row, "min").astype(int) - 1
        last = rankdata(row, "max").astype(int)
        ranks[unit] = 0.5 * (below[first] + below[last])
    with np.errstate(all="ignore"):
        mean = np.average(moved, axis=1, weights=weight)
        sd = np.sqrt(np.average((moved - mean[:, None]) ** 2, axis=1, weights=weight))
    moments = tuple(device(each) for each in (mean, sd, moved.min(axis=1), moved.max(axis=1)))
    positive = Y * weight[:, None]
    given = device(moved), device(weight), device(ranks), moments
    sums = device(positive.sum(axis=0)), device(moved @ positive)

    def positive_at(units, hypotheses):
        return device(positive)[:, hypotheses].T

    total = float(weight.sum())
    w, b, converged = (each.get() for each in fit_units(device.xp, *given, *sums, positive_at, total, C, memory))
    return w, b - w * origin[:, None], converged


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", list(columns(10)))
def test_hard_columns_are_fitted_like_on_the_cpu(device, name, weighted):
    x = columns()[name]
    Y = labels(x)
    weight = np.random.default_rng(7).uniform(0.1, 2, len(x)) if weighted else np.ones(len(x))
    w, b, converged = fit_on(device, x[None], Y, weight)
    expected_w, expected_b, finished = fit(x, Y, weight)
    assert converged.all() and finished.all()
    np.testing.assert_allclose(w[0], expected_w, rtol=1e-6, atol=1e-8 / x.std())
    for g in range(Y.shape[1]):
        assert b[0, g] == pytest.approx(expected_b[g], rel=1e-6, abs=1e-6 * abs(w[0, g]) * x.std() + 1e-7), g


@pytest.mark.parametrize("C", [1.0, 1e4])
def test_many_units_equal_single_units(device, monkeypatch, C):
    hard = columns(1200)
    names = ["t3", "bimodal", "three", "offset"]
    values = np.stack([hard[name] for name in names])
    Y = np.stack([values[0] > 4, values[1] - 0.1 * values[2] > 0, np.arange(1200) % 3 == 0], axis=1)
    weight = np.random.default_rng(8).uniform(0.1, 2, 1200)
    pairs = []
    launch = univariate_cuda.launch

    def recorded(xp, source, name, threads, arguments):
        if name.startswith("fit"):
            pairs.append((name, len(arguments[0])))
        launch(xp, source, name, threads, arguments)

    monkeypatch.setattr(univariate_cuda, "launch", recorded)
    # Room for the values of two fits at a time.
    w, b, converged = fit_on(device, values, Y, weight, C, memory=2 * 8 * 1200)
    assert converged.all()
    for unit, x in enumerate(values):
        expected = fit(x, Y, weight, C)
        np.testing.assert_allclose(w[unit], expected[0], rtol=1e-7, atol=1e-9 / x.std(), err_msg=names[unit])
        np.testing.assert_allclose(b[unit], expected[1], rtol=1e-7, atol=1e-7 * np.abs(x).max() / x.std())
    # Some fits continue on the values themselves, some do not.
    over_values = [size for name, size in pairs if name == "fit_values"]
    assert pairs[0] == ("fit_bins", 12) and max(over_values) <= 2 and 0 < sum(over_values) < 12


def test_units_without_spread_are_not_fitted(device):
    values = np.stack([columns()["bimodal"], np.full(2500, 7.0), columns()["t3"] * 1e200, columns()["t3"]])
    Y = (np.random.default_rng(0).random((2500, 2)) < 0.3) | (values[3] > 8)[:, None]
    _, _, converged = fit_on(device, values, Y, np.ones(2500))
    np.testing.assert_array_equal(converged.all(axis=1), [True, False, False, True])
