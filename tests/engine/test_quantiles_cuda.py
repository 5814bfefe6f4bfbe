"""Bins and label counts of the kernels, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from gatescope.engine import launch_cuda
from gatescope.engine.quantiles import FINE_BINS, equal_mass_bins
from gatescope.engine.quantiles_cuda import count_labels, fill_bins, pack_labels


@pytest.mark.parametrize("n_rows", [40, 5000])
def test_bins_have_the_right_mass_and_smallest_values(device, n_rows):
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


def test_entries_without_mass_do_not_enter_any_bin(device):
    values, ranks, mass = np.array([[3.0, 1.0, 2.0]]), np.array([[1.5, 0.5, 1.0]]), np.array([[1.0, 0.0, 1.0]])
    _, bin_mass, smallest = fill_bins(device.xp, device(values), device(mass), device(ranks), 2.0)
    assert bin_mass.get().sum() == 2 and np.sort(smallest.get()[0])[:3].tolist() == [2.0, 3.0, np.inf]


def assert_counted(device, bins, labels, weight):
    words = pack_labels(device.xp, device(labels))
    counts = count_labels(device.xp, device(bins), words, device(weight), labels.shape[1]).get()
    assert counts.shape == (len(bins), FINE_BINS, labels.shape[1])
    for unit in range(len(bins)):
        for k in range(labels.shape[1]):
            given = labels[:, k] * (1.0 if weight is None else weight)
            np.testing.assert_array_equal(counts[unit, :, k], np.bincount(bins[unit], given, FINE_BINS))


@pytest.mark.parametrize("n_targets", [1, 32, 70])
@pytest.mark.parametrize("n_rows", [1, 32, 3005])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_counted_in_bins(device, n_targets, n_rows, weighted):
    generator = np.random.default_rng(1)
    bins = generator.integers(0, FINE_BINS, (2, n_rows)).astype(np.uint16)
    labels = generator.random((n_rows, n_targets)) < generator.random(n_targets)
    # A long run of rows has no label.
    labels[n_rows // 2 :] &= generator.random(n_targets) < 0.3
    weight = generator.integers(1, 5, n_rows).astype(np.float64) if weighted else None
    assert_counted(device, bins, labels, weight)


@pytest.mark.parametrize("shared_bytes", [0, 99 * 2**10, 227 * 2**10])
@pytest.mark.parametrize("n_multiprocessors", [1, 100])
def test_labels_are_counted_in_any_parts_by_any_number_of_blocks(device, monkeypatch, shared_bytes, n_multiprocessors):
    monkeypatch.setattr(launch_cuda, "limits", lambda xp: (n_multiprocessors, shared_bytes))
    generator = np.random.default_rng(2)
    bins = generator.integers(0, FINE_BINS, (3, 2500)).astype(np.uint16)
    # Units with few distinct values use few bins, the last among them.
    bins[1], bins[2] = FINE_BINS - 1, 255 + generator.integers(0, 2, 2500)
    assert_counted(device, bins, generator.random((2500, 33)) < 0.4, None)


def test_labels_are_packed_by_rows(device):
    labels = np.random.default_rng(3).random((75, 40)) < 0.5
    words = pack_labels(device.xp, device(labels)).get()
    bits = np.unpackbits(words.view(np.uint8).reshape(3, 64, 4), axis=2, bitorder="little")
    expected = np.zeros((96, 64), bool)
    expected[:75, :40] = labels
    np.testing.assert_array_equal(bits.transpose(0, 2, 1).reshape(96, 64), expected)
