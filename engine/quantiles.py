"""What the order of a unit's values tells of a label: mutual information and the best single threshold.

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


def equal_mass_bins(ranks: Any, total: float) -> Any:
    """Return the bin of each value, integers [N] from 0 to FINE_BINS - 1.

    Args:
        ranks: weighted mid-ranks, float64 [N], between 0 and `total`.
        total: the sum of the weights.
    """
    return (ranks * (FINE_BINS / total)).astype(np.int64).clip(max=FINE_BINS - 1)


def mutual_information(mass: Any, positive: Any) -> Any:
    """Return the mutual information of each unit and each label in bits, with the correction of Miller (1955).

    `sum_xy p(x, y) log2(p(x, y) / (p(x) p(y))) + (B_x + B_y - B_xy - 1) / (2 S ln 2)` over at most 32 bins of equal
    mass, where B counts the bins that are not empty and S is the sum of the weights. The plug-in estimate is too high
    by about the second term, so that independent labels give values around 0, on either side of it.

    Args:
        mass: weight in each of FINE_BINS bins, float64 [..., FINE_BINS].
        positive: weight of the positive positions in each, float64 [..., FINE_BINS, K].

    Returns:
        [..., K], float64.
    """
    xp = array_namespace(mass)
    n_targets = positive.shape[-1]
    coarse_mass = mass.reshape(*mass.shape[:-1], INFORMATION_BINS, -1).sum(axis=-1)[..., None]
    coarse = positive.reshape(*mass.shape[:-1], INFORMATION_BINS, -1, n_targets).sum(axis=-2)
    total = coarse_mass.sum(axis=-2, keepdims=True)
    joint = xp.stack([coarse_mass - coarse, coarse])  # [2, ..., INFORMATION_BINS, K]
    joint[joint < 1e-12 * total] = 0.0
    labels = joint.sum(axis=-2)[..., None, :]
    total = total[..., 0]
    bits = _entropy(coarse_mass, total) - _entropy(joint, total).sum(axis=0) + _entropy(labels, total).sum(axis=0)
    occupied = (coarse_mass > 0).sum(axis=-2) + (labels > 0).sum(axis=(0, -2)) - (joint > 0).sum(axis=(0, -2)) - 1
    return bits + occupied / (2 * total * np.log(2))


def _entropy(mass: Any, total: Any) -> Any:
    """Return the entropy over the last axis but one in bits."""
    xp = array_namespace(mass)
    share = mass / total[..., None]
    return -(share * xp.log2(xp.where(share > 0, share, 1.0))).sum(axis=-2)


def smallest_in_bins(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return the smallest value in each bin, +inf where there is none, float64 [FINE_BINS]."""
    smallest = np.full(FINE_BINS, np.inf)
    np.minimum.at(smallest, bins, values)
    return smallest


def best_threshold(smallest: Any, positive: Any, mass: Any) -> tuple[Any, Any]:
    """Return the best single threshold of each unit for each label, and how well it does.

    The rule "positive where the value is at least t" has the informedness J(t) = true minus false positive rate (Youden
    1950). t is the smallest value of a bin, so that at most 1/1024 of the mass lies between it and the best of all; J
    is negative where the rule should be turned round.

    Args:
        smallest: value in each bin, +inf where there is none, float64 [..., FINE_BINS].
        positive: weight of the positive positions in each bin, float64 [..., FINE_BINS, K].
        mass: weight in each bin, float64 [..., FINE_BINS].

    Returns:
        t and J(t) of the largest |J|, each [..., K].
    """
    xp = array_namespace(mass)
    above = xp.concatenate([mass[..., None], positive], axis=-1)[..., ::-1, :].cumsum(axis=-2)[..., ::-1, :]
    totals = above[..., :1, :]
    true_rate = above[..., 1:] / totals[..., 1:]
    false_rate = (above[..., :1] - above[..., 1:]) / (totals[..., :1] - totals[..., 1:])
    informedness = xp.where(xp.isfinite(smallest)[..., None], true_rate - false_rate, 0.0)
    best = xp.abs(informedness).argmax(axis=-2)
    chosen = xp.take_along_axis(informedness, best[..., None, :], axis=-2)[..., 0, :]
    # Where nothing separates the classes the rule is that of the smallest value: always yes.
    everything = smallest.min(axis=-1)[..., None]
    return xp.where(chosen == 0, everything, xp.take_along_axis(smallest, best, axis=-1)), chosen
