"""Bins and label counts of the kernels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from gatescope.engine.quantiles import FINE_BINS, equal_mass_bins
from gatescope.engine.quantiles_cuda import count_labels, fill_bins, pack_labels


@pytest.mark.parametrize("n_rows", [40, 5000])
def test_bins_their_mass_and_smallest_values(device, n_rows):
    generator = np.random.default_rng(0)
    values = np.round(generator.normal(size=(3, n_rows)), 2) * np.array([[1.0], [-1e-300], [1e300]])
    values[0, :7], values[0, 7] = 0.0, -0.0
    ranks = np.stack([rankdata(row) - 0.5 for row in values])
    for mass in (np.ones(n_rows), np.ones((3, n_rows))):
        bins, bin_mass, smallest = fill_bins(device.xp, device(values), device(mass), device(ranks), float(n_rows))
        for unit in range(3):
            expected = equal_mass_bins(ranks[unit], float(n_rows))
            np.testing.assert_array_equal(bins[unit].get(), expected)
            np.testing.assert_array_equal(bin_mass[unit].get(), np.bincount(expected, minlength=FINE_BINS))
            least = np.full(FINE_BINS, np.inf)
            np.minimum.at(least, expected, values[unit])
            np.testing.assert_array_equal(smallest[unit].get(), least)


def test_entries_without_mass_are_in_no_bin(device):
    values, ranks, mass = np.array([[3.0, 1.0, 2.0]]), np.array([[1.5, 0.5, 1.0]]), np.array([[1.0, 0.0, 1.0]])
    _, bin_mass, smallest = fill_bins(device.xp, device(values), device(mass), device(ranks), 2.0)
    assert bin_mass.get().sum() == 2 and np.sort(smallest.get()[0])[:3].tolist() == [2.0, 3.0, np.inf]


@pytest.mark.parametrize("n_targets", [1, 32, 70])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_counted_in_bins(device, n_targets, weighted):
    generator = np.random.default_rng(1)
    bins = generator.integers(0, FINE_BINS, (2, 3000)).astype(np.uint16)
    labels = generator.random((3000, n_targets)) < generator.random(n_targets)
    weight = generator.integers(1, 5, 3000).astype(np.float64) if weighted else None
    words = pack_labels(device.xp, device(labels))
    counts = count_labels(device.xp, device(bins), words, device(weight), n_targets).get()
    assert counts.shape == (2, FINE_BINS, n_targets)
    for unit in range(2):
        for k in range(n_targets):
            given = labels[:, k] * (1.0 if weight is None else weight)
            np.testing.assert_array_equal(counts[unit, :, k], np.bincount(bins[unit], given, FINE_BINS))
