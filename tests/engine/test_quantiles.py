"""Bins of equal mass, information and thresholds, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from gatescope.engine.quantiles import (
    FINE_BINS,
    best_bin,
    bin_sums,
    equal_mass_bins,
    mutual_information,
    smallest_in_bins,
)


def histogram(values, labels):
    """Ascending values that may repeat, each with the weight of one position."""
    bins = equal_mass_bins(rankdata(values) - 0.5, len(values))[:, None]
    return bins, bin_sums(bins, np.ones((len(values), 1))), bin_sums(bins, labels.astype(float))


def best_threshold(values, bins, present, mass, positive):
    best, informedness = best_bin(mass, positive)
    return smallest_in_bins(values, bins, present, best), informedness


def test_bins_have_equal_mass_and_ties_share_one():
    generator = np.random.default_rng(0)
    bins = equal_mass_bins(rankdata(generator.normal(size=102_400)) - 0.5, 102_400)
    assert (np.bincount(bins) == 100).all() and bins.max() == FINE_BINS - 1
    assert equal_mass_bins(np.array([1.5, 1.5, 1.5]), 3.0).tolist() == [512] * 3
    assert equal_mass_bins(np.array([3.0]), 3.0).tolist() == [FINE_BINS - 1]


def test_information_equals_entropy_if_the_unit_determines_the_label():
    values = np.repeat(np.arange(4), 250)
    labels = np.stack([values >= 2, values >= 3, values % 2 == 0], axis=1)
    _, mass, positive = histogram(values, labels)
    # 4 values, 2 labels, 4 pairs: a correction of (4 + 2 - 4 - 1) / (2 N ln 2).
    entropy = np.array([1.0, 0.25 * 2 + 0.75 * np.log2(4 / 3), 1.0])
    np.testing.assert_allclose(mutual_information(mass, positive), entropy + 1 / (2000 * np.log(2)), rtol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_threshold_separates_two_classes(sign):
    values = np.sort(sign * np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    labels = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 1, 1]]).T.astype(bool)[::sign]
    bins, mass, positive = histogram(values, labels)
    threshold, informedness = best_threshold(values, bins, np.ones((6, 1), bool), mass, positive)
    expected = [0.4, 0.4] if sign == 1 else [-0.3, -0.3]
    np.testing.assert_allclose(threshold, expected)
    np.testing.assert_allclose(informedness, [sign, sign * 0.75])


def test_bins_follow_the_weights_of_each_hypothesis():
    generator = np.random.default_rng(1)
    values = np.sort(generator.normal(size=3000))
    weight = (generator.random((3000, 2)) < [0.5, 0.1]).astype(float)
    positive = weight * (generator.random((3000, 2)) < 0.3)
    ranks = np.cumsum(weight, axis=0) - weight / 2
    bins = equal_mass_bins(ranks, weight.sum(axis=0))
    mass, positive_mass = bin_sums(bins, weight), bin_sums(bins, positive)
    together = mutual_information(mass, positive_mass)
    rule = best_threshold(values, bins, weight > 0, mass, positive_mass)
    for g in range(2):
        kept = weight[:, g] > 0
        own_bins, own_mass, own_positive = histogram(values[kept], positive[kept, g : g + 1])
        assert mutual_information(own_mass, own_positive)[0] == pytest.approx(together[g], abs=1e-12)
        own = best_threshold(values[kept], own_bins, np.ones((kept.sum(), 1), bool), own_mass, own_positive)
        assert [own[0][0], own[1][0]] == [rule[0][g], pytest.approx(rule[1][g])]


def test_many_units_at_once_equal_single_units():
    generator = np.random.default_rng(2)
    labels = generator.random((500, 3)) < [0.5, 0.1, 0.9]
    units = [np.sort(np.round(generator.normal(size=500), 1)) for _ in range(4)]
    mass, positive = (np.stack(each) for each in zip(*(histogram(unit, labels)[1:] for unit in units), strict=True))
    information, (best, informedness) = mutual_information(mass, positive), best_bin(mass, positive)
    for i in range(4):
        np.testing.assert_array_equal(information[i], mutual_information(mass[i], positive[i]))
        for got, expected in zip((best, informedness), best_bin(mass[i], positive[i]), strict=True):
            np.testing.assert_array_equal(got[i], expected)
