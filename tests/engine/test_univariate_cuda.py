"""The kernel that fits all pairs of units and hypotheses against the fits of one unit at a time."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.engine.univariate import fit_univariate
from gatescope.engine.univariate_cuda import fit_units


def problem(N=3000, seed=0):
    """Units of several scales, labels from unrelated to separable, from common to rare."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((4, N)) * np.array([[1.0], [1e-3], [50.0], [1.0]]) + np.array(
        [[0], [0], [300], [2]]
    )
    values[3] = np.round(values[3])
    score = values[0] - values[3]
    columns = [score > -2, generator.random(N) < 0.004, values[0] > 1.2, values[2] + generator.normal(size=N) > 340]
    return values, np.stack(columns, axis=1), generator.uniform(0.1, 2, N)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("C", [1.0, 1e4])
def test_fits_are_those_of_one_unit_at_a_time(device, weighted, C):
    values, labels, weight = problem()
    weight = weight if weighted else np.ones(len(weight))
    positive = (labels * weight[:, None]).sum(axis=0)
    sums = values @ (labels * weight[:, None])
    mean = np.average(values, axis=1, weights=weight)
    sd = np.sqrt(np.average((values - mean[:, None]) ** 2, axis=1, weights=weight))
    ends = device(values.min(axis=1)), device(values.max(axis=1))
    arguments = (device(mean), device(sd), ends, device(positive), device(sums), float(weight.sum()), C)
    w, b, converged = (found.get() for found in fit_units(device.xp, device(values), device(weight), *arguments))
    assert converged.all()
    for unit in range(len(values)):
        expected = fit_univariate(values[unit], weight, positive, sums[unit], C)
        assert expected[2].all()
        np.testing.assert_allclose(w[unit], expected[0], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(b[unit], expected[1], rtol=1e-8, atol=1e-8)
    # Some are too steep for bins, some are not.
    steep = np.abs(w) * (values.max(axis=1) - values.min(axis=1))[:, None] / 1024 > 0.1
    assert steep.any() and not steep.all()


def test_units_without_spread_are_left_alone(device):
    values, labels, _ = problem()
    positive, sums = labels.sum(axis=0).astype(float), values @ labels
    values[1], values[2, 0] = 7.0, np.inf
    mean, sd = device(values.mean(axis=1)), device(np.array([1.0, 0.0, np.inf, 1.0]))
    ends = device(values.min(axis=1)), device(values.max(axis=1))
    shared = device(np.ones(values.shape[1])), mean, sd, ends, device(positive), device(sums), 3000.0, 1.0
    _, _, converged = fit_units(device.xp, device(values), *shared)
    np.testing.assert_array_equal(converged.get().all(axis=1), [True, False, False, True])
