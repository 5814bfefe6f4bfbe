"""Bins of equal mass, information and thresholds by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from gatescope.engine.quantiles import (
    FINE_BINS,
    best_threshold,
    equal_mass_bins,
    mutual_information,
    smallest_in_bins,
)


def histogram(values, labels):
    bins = equal_mass_bins(rankdata(values) - 0.5, len(values))
    mass = np.bincount(bins, minlength=FINE_BINS).astype(float)
    return bins, mass, np.stack([np.bincount(bins, y, FINE_BINS) for y in labels.T], axis=1)


def test_bins_have_equal_mass_and_ties_share_one():
    generator = np.random.default_rng(0)
    bins = equal_mass_bins(rankdata(generator.normal(size=102_400)) - 0.5, 102_400)
    assert (np.bincount(bins) == 100).all() and bins.max() == FINE_BINS - 1
    assert equal_mass_bins(np.array([1.5, 1.5, 1.5]), 3.0).tolist() == [512] * 3
    assert equal_mass_bins(np.array([3.0]), 3.0).tolist() == [FINE_BINS - 1]


def test_a_label_that_is_a_function_of_the_unit_tells_its_entropy():
    values = np.repeat(np.arange(4), 250)
    labels = np.stack([values >= 2, values >= 3, values % 2 == 0], axis=1)
    _, mass, positive = histogram(values, labels)
    # 4 values, 2 labels, 4 pairs: a correction of (4 + 2 - 4 - 1) / (2 N ln 2).
    entropy = np.array([1.0, 0.25 * 2 + 0.75 * np.log2(4 / 3), 1.0])
    np.testing.assert_allclose(mutual_information(mass, positive), entropy + 1 / (2000 * np.log(2)), rtol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_threshold_between_two_classes(sign):
    values = sign * np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    labels = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 1, 1]]).T.astype(bool)
    bins, mass, positive = histogram(values, labels)
    threshold, informedness = best_threshold(smallest_in_bins(values, bins), positive, mass)
    expected = [0.4, 0.4] if sign == 1 else [-0.3, -0.3]
    np.testing.assert_allclose(threshold, expected)
    np.testing.assert_allclose(informedness, [sign, sign * 0.75])


def test_many_units_at_once_are_as_each_alone():
    generator = np.random.default_rng(1)
    labels = generator.random((500, 3)) < [0.5, 0.1, 0.9]
    units = [np.round(generator.normal(size=500) + labels[:, i], 1) for i in range(3)]
    found = [histogram(values, labels) for values in units]
    smallest = [smallest_in_bins(values, bins) for values, (bins, _, _) in zip(units, found, strict=True)]
    mass, positive = np.stack([each[1] for each in found]), np.stack([each[2] for each in found])
    information, best = mutual_information(mass, positive), best_threshold(np.stack(smallest), positive, mass)
    for i in range(3):
        np.testing.assert_array_equal(information[i], mutual_information(mass[i], positive[i]))
        for got, expected in zip(best, best_threshold(smallest[i], positive[i], mass[i]), strict=True):
            np.testing.assert_array_equal(got[i], expected)
