"""What the order of a unit's values tells of a label: mutual information and the best single threshold.

A unit's values are cut into bins of equal mass by their mid-ranks, so that equal values always share a bin. One
histogram of the positive positions over `FINE_BINS` of them serves both statistics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Thresholds are looked for between this many bins; information is measured in groups of them.
FINE_BINS = 1024
INFORMATION_BINS = 32


def equal_mass_bins(ranks: Any, total: Any) -> Any:
    """Return the bin of each value, integers [D, M] from 0 to FINE_BINS - 1, not descending.

    Args:
        ranks: weighted mid-ranks of ascending values, float64 [D, M], between 0 and `total`.
        total: the sum of the weights, a number or [M].
    """
    return (ranks * (FINE_BINS / total)).astype(np.int64).clip(max=FINE_BINS - 1)


def bin_sums(bins: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the sums of columns [D, G] over the values in each bin, [FINE_BINS, G].

    Args:
        bins: of each of D ascending values, [D, 1] for all columns alike or [D, G].
        columns: float64 [D, G].
    """
    if bins.shape[1] > 1:
        return np.stack([np.bincount(bins[:, g], columns[:, g], FINE_BINS) for g in range(columns.shape[1])], axis=1)
    starts = np.flatnonzero(np.diff(bins[:, 0], prepend=-1))
    sums = np.zeros((FINE_BINS, columns.shape[1]))
    sums[bins[starts, 0]] = np.add.reduceat(columns, starts, axis=0)
    return sums


def mutual_information(mass: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the mutual information of a unit and each label in bits, with the correction of Miller (1955).

    `sum_xy p(x, y) log2(p(x, y) / (p(x) p(y))) + (B_x + B_y - B_xy - 1) / (2 S ln 2)` over at most 32 bins of equal
    mass, where B counts the bins that are not empty and S is the sum of the weights. The plug-in estimate is too high
    by about the second term, so that independent labels give values around 0, on either side of it.

    Args:
        mass: weight in each of FINE_BINS bins, float64 [FINE_BINS, 1] for all labels alike or [FINE_BINS, G].
        positive: weight of the positive positions in each, float64 [FINE_BINS, G].

    Returns:
        [G], float64.
    """
    coarse_mass, coarse = (
        each.reshape(INFORMATION_BINS, FINE_BINS // INFORMATION_BINS, -1).sum(axis=1) for each in (mass, positive)
    )
    total = mass.sum(axis=0)
    joint = np.stack([coarse_mass - coarse, coarse])  # [2, INFORMATION_BINS, G]
    joint[joint < 1e-12 * total] = 0.0
    labels = joint.sum(axis=1)
    bits = (_entropy(coarse_mass, total) + _entropy(labels, total)) - _entropy(joint.reshape(-1, joint.shape[2]), total)
    occupied = (coarse_mass > 0).sum(axis=0) + (labels > 0).sum(axis=0) - (joint > 0).sum(axis=(0, 1)) - 1
    return bits + occupied / (2 * total * np.log(2))


def _entropy(mass: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the entropy of each column in bits."""
    share = mass / total
    return -(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=0)


def best_threshold(
    values: np.ndarray, bins: np.ndarray, present: np.ndarray, mass: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best single threshold of a unit for each label, and how well it does.

    The rule "positive where the value is at least t" has the informedness J(t) = true minus false positive rate (Youden
    1950). t is the smallest value of a bin, so that at most 1/1024 of the mass lies between it and the best of all; J
    is negative where the rule should be turned round.

    Args:
        values: ascending, float64 [D].
        bins: of each value, [D, M], where M is 1 for all labels alike or G.
        present: whether any position that counts has the value, bool [D, M].
        mass: weight in each bin, float64 [FINE_BINS, M].
        positive: weight of the positive positions in each bin, float64 [FINE_BINS, G].

    Returns:
        t and J(t) of the largest |J|, each [G].
    """
    above, positive_above = (np.cumsum(each[::-1], axis=0)[::-1] for each in (mass, positive))
    true_rate = positive_above / positive_above[0]
    false_rate = (above - positive_above) / (above[0] - positive_above[0])
    informedness = np.where(mass > 0, true_rate - false_rate, 0.0)
    best = np.abs(informedness).argmax(axis=0)
    chosen = informedness[best, np.arange(len(best))]
    threshold = np.empty_like(chosen)
    for g in range(len(best)):
        column = g if bins.shape[1] > 1 else 0
        # Where nothing separates the classes the rule is that of the smallest value: always yes.
        first = 0 if chosen[g] == 0 else int(np.searchsorted(bins[:, column], best[g]))
        threshold[g] = values[first + int(present[first:, column].argmax())]
    return threshold, chosen
