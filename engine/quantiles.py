"""What the order of a unit's values reveals of a label: mutual information and the best single threshold.

A unit's values are cut into bins of equal mass by their mid-ranks, so that equal values always share a bin. One
histogram of the positive positions over `FINE_BINS` of them serves both statistics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import array_namespace

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


def mutual_information(mass: Any, positive: Any) -> Any:
    """Return the mutual information of units and labels in bits, with the correction of Miller (1955).

    `sum_xy p(x, y) log2(p(x, y) / (p(x) p(y))) + (B_x + B_y - B_xy - 1) / (2 S ln 2)` over at most 32 bins of equal
    mass, where B counts the bins that are not empty and S is the sum of the weights. The plug-in estimate is too high
    by about the second term, so that independent labels give values around 0, on either side of it.

    Args:
        mass: weight in each of FINE_BINS bins, float64 [..., FINE_BINS, 1] for all labels alike or
            [..., FINE_BINS, G].
        positive: weight of the positive positions in each, float64 [..., FINE_BINS, G].

    Returns:
        [..., G], float64.
    """
    xp = array_namespace(mass)
    coarse_mass, coarse = (
        each.reshape(*each.shape[:-2], INFORMATION_BINS, -1, each.shape[-1]).sum(axis=-2) for each in (mass, positive)
    )
    total = coarse_mass.sum(axis=-2)
    joint = xp.stack([coarse_mass - coarse, coarse])  # [2, ..., INFORMATION_BINS, G]
    joint[joint < 1e-12 * total[..., None, :]] = 0.0
    labels = joint.sum(axis=-2)[..., None, :]
    bits = _entropy(coarse_mass, total) - _entropy(joint, total).sum(axis=0) + _entropy(labels, total).sum(axis=0)
    occupied = (coarse_mass > 0).sum(axis=-2) + (labels > 0).sum(axis=(0, -2)) - (joint > 0).sum(axis=(0, -2)) - 1
    return bits + occupied / (2 * total * np.log(2))


def _entropy(mass: Any, total: Any) -> Any:
    """Return the entropy over the last axis but one in bits."""
    xp = array_namespace(mass)
    share = mass / total[..., None, :]
    return -(share * xp.log2(xp.where(share > 0, share, 1.0))).sum(axis=-2)


def best_bin(mass: Any, positive: Any) -> tuple[Any, Any]:
    """Return the bin with which the best single threshold of units for each label begins, and how well it does.

    The rule "positive where the value is at least t" has the informedness J(t) = true minus false positive rate (Youden
    1950). t is the smallest value of a bin, so that at most 1/1024 of the mass lies between it and the best of all; J
    is negative where the rule should be turned round.

    Args:
        mass, positive: as in `mutual_information`.

    Returns:
        integers and the largest |J| with its sign, each [..., G].
    """
    xp = array_namespace(mass)
    above, positive_above = (each[..., ::-1, :].cumsum(axis=-2)[..., ::-1, :] for each in (mass, positive))
    true_rate = positive_above / positive_above[..., :1, :]
    false_rate = (above - positive_above) / (above[..., :1, :] - positive_above[..., :1, :])
    informedness = xp.where(mass > 0, true_rate - false_rate, 0.0)
    best = xp.abs(informedness).argmax(axis=-2)
    chosen = xp.take_along_axis(informedness, best[..., None, :], axis=-2)[..., 0, :]
    # Where nothing separates the classes the rule is that of the smallest value: always yes.
    return xp.where(chosen == 0, (mass > 0).argmax(axis=-2), best), chosen


def smallest_in_bins(values: np.ndarray, bins: np.ndarray, present: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the smallest value that counts in one bin for each label, float64 [G].

    Args:
        values: ascending, float64 [D].
        bins: of each value, [D, M], where M is 1 for all labels alike or G.
        present: whether any position that counts has the value, bool [D, M].
        wanted: a bin for each label that is not empty, integers [G].
    """
    smallest = np.empty(len(wanted))
    for g, bin_number in enumerate(wanted.tolist()):
        column = g if bins.shape[1] > 1 else 0
        first = int(np.searchsorted(bins[:, column], bin_number))
        smallest[g] = values[first + int(present[first:, column].argmax())]
    return smallest
