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


def equal_mass_bins(ranks: Any, total: float) -> Any:
    """Return the bin of each value, integers [N] from 0 to FINE_BINS - 1.

    Args:
        ranks: weighted mid-ranks, float64 [N], between 0 and `total`.
        total: the sum of the weights.
    """
    return (ranks * (FINE_BINS / total)).astype(np.int64).clip(max=FINE_BINS - 1)


def mutual_information(mass: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the mutual information of a unit and each label in bits, with the correction of Miller (1955).

    `sum_xy p(x, y) log2(p(x, y) / (p(x) p(y))) + (B_x + B_y - B_xy - 1) / (2 S ln 2)` over at most 32 bins of equal
    mass, where B counts the bins that are not empty and S is the sum of the weights. The plug-in estimate is too high
    by about the second term, so that independent labels give values around 0, on either side of it.

    Args:
        mass: weight in each of FINE_BINS bins, float64.
        positive: weight of the positive positions in each, float64 [FINE_BINS, K].

    Returns:
        [K], float64.
    """
    coarse_mass = mass.reshape(INFORMATION_BINS, -1).sum(axis=1)
    coarse = positive.reshape(INFORMATION_BINS, FINE_BINS // INFORMATION_BINS, -1).sum(axis=1)
    total = mass.sum()
    joint = np.stack([coarse_mass[:, None] - coarse, coarse])  # [2, INFORMATION_BINS, K]
    joint[joint < 1e-12 * total] = 0.0
    labels = joint.sum(axis=1)
    bits = (_entropy(coarse_mass, total) + _entropy(labels, total)) - _entropy(joint.reshape(-1, joint.shape[2]), total)
    occupied = (coarse_mass > 0).sum() + (labels > 0).sum(axis=0) - (joint > 0).sum(axis=(0, 1)) - 1
    return bits + occupied / (2 * total * np.log(2))


def _entropy(mass: np.ndarray, total: float) -> np.ndarray:
    """Return the entropy of each column in bits."""
    share = mass / total
    return -(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=0)


def best_threshold(values: np.ndarray, bins: np.ndarray, positive: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return the best single threshold of a unit for each label, and how well it does.

    The rule "positive where the value is at least t" has the informedness J(t) = true minus false positive rate (Youden
    1950). t is the smallest value of a bin, so that at most 1/1024 of the mass lies between it and the best of all; J
    is negative where the rule should be turned round.

    Args:
        values: [N], float64.
        bins: of each value [N].
        positive: weight of the positive positions in each bin, float64 [FINE_BINS, K].
        mass: weight in each bin, float64 [FINE_BINS].

    Returns:
        t and J(t) of the largest |J|, [2, K].
    """
    smallest = np.full(FINE_BINS, np.inf)
    np.minimum.at(smallest, bins, values)
    above = np.cumsum(np.column_stack([mass, positive])[::-1], axis=0)[::-1]
    totals = above[0]
    true_rate = above[:, 1:] / totals[1:]
    false_rate = (above[:, :1] - above[:, 1:]) / (totals[0] - totals[1:])
    informedness = np.where(np.isfinite(smallest)[:, None], true_rate - false_rate, 0.0)
    best = np.abs(informedness).argmax(axis=0)
    chosen = informedness[best, np.arange(len(best))]
    # Where nothing separates the classes the rule is that of the smallest value: always yes.
    return np.stack([np.where(chosen == 0, smallest[np.isfinite(smallest)][0], smallest[best]), chosen])
