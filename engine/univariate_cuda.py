"""Logistic regressions on single units on a GPU: a warp for each pair of a unit and a hypothesis, one launch for all.

The method is that of `univariate`: Newton's on moments in bins, then, for the few fits that what the bins leave out
could move, on the values themselves. A pair needs no other, so that all its steps are taken inside one kernel: 512 bins
are 16 sigmoids a thread and step. (All steps of 49,152 pairs on bins took 2.1 ms on an NVIDIA H100 80GB HBM3, torch
2.11, CuPy 14.2; a pass over a million rows would have 4.9e10 sigmoids a step.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gatescope.engine.launch_cuda import launch
from gatescope.engine.quantiles_cuda import from_keys
from gatescope.engine.univariate import BINS, ORDER
from gatescope.engine.univariate_source import SOURCE
from gatescope.engine.warp_cuda import LANES


def fit_units(
    xp: Any,
    values: Any,
    mass: Any,
    ranks: Any,
    moments: tuple[Any, Any, Any, Any],
    positive: Any,
    positive_sum: Any,
    positive_at: Callable[[Any, Any], Any],
    total: float,
    C: float,
    memory: int,
) -> tuple[Any, Any, Any]:
    """Fit U units to G hypotheses that share their weights and have both classes.

    Args:
        values: of the entries, rows or codes, float64 [U, E].
        mass: float64 [U, E], or [E] where it is that of all units.
        ranks: mid-ranks of the entries, float64 [U, E].
        moments: mean, standard deviation, smallest and largest value of each unit, float64 [U]; a unit whose deviation
            is 0 or not finite is left out.
        positive: the weight of the positive positions, float64 [G].
        positive_sum: sum_n s_n y_n x_n, float64 [U, G].
        positive_at: returns for units [P] and hypotheses [P] the weight of the positive positions of each entry,
            float64 [P, E].
        total: the sum of the weights.
        C: inverse strength of the penalty.
        memory: bytes that what `positive_at` returns may take.

    Returns:
        coefficients [U, G], intercepts [U, G], and whether each fit has converged, bool [U, G].
    """
    (n_units, n_entries), n_targets = values.shape, len(positive)
    stride = n_entries if mass.ndim == 2 else 0
    usable, (mean, sd, low, high) = _usable(xp, moments)
    share = positive / total
    start = xp.zeros((n_units, n_targets)) + xp.log(share / (1 - share))
    w, b = xp.zeros((n_units, n_targets)), start.copy()
    converged, certain = xp.zeros(w.shape, bool), xp.zeros(w.shape, bool)
    ridge = 1 / (C * sd**2 * total)
    target_w = (positive_sum / total - mean[:, None] * share) / sd[:, None]
    histogram = _histograms(xp, values, mass, stride, ranks, (mean, sd, low, high), total)
    wanted = xp.zeros(w.shape, bool) | usable[:, None]
    pairs = xp.flatnonzero(wanted)
    if len(pairs):
        targets = target_w, share, ridge
        arguments = (pairs, len(pairs), n_targets, *histogram, *targets, w, b, converged, certain)
        launch(xp, SOURCE, "fit_bins", (len(pairs) * LANES, 1), arguments)
    b = xp.where(converged, b, start)
    w = xp.where(converged, w, 0.0)
    pairs = xp.flatnonzero(wanted & ~certain)
    together = max(1, memory // (8 * n_entries))
    for first in range(0, len(pairs), together):
        part = pairs[first : first + together]
        own = xp.ascontiguousarray(positive_at(part // n_targets, part % n_targets))
        unit = values, mass, stride, own, n_entries, mean, sd
        over_values = (part, len(part), n_targets, *unit, total, ridge, w, b, converged)
        launch(xp, SOURCE, "fit_values", (len(part) * LANES, 1), over_values)
    return w / sd[:, None], b - w * (mean / sd)[:, None], converged


def _usable(xp: Any, moments: tuple[Any, Any, Any, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Return which units can be fitted, bool [U], and the moments, harmless ones for those that cannot."""
    usable = xp.isfinite(moments[1]) & (moments[1] > 0)
    harmless = zip(moments, (0.0, 1.0, 0.0, 1.0), strict=True)
    return usable, tuple(xp.where(usable, each, other) for each, other in harmless)


def _histograms(
    xp: Any, values: Any, mass: Any, stride: int, ranks: Any, moments: tuple[Any, Any, Any, Any], total: float
) -> tuple[Any, Any, Any]:
    """Return middle, half width and moments of the bins of each unit, in standard deviations from its mean.

    Returns:
        [U, BINS], [U, BINS], [U, ORDER + 1, BINS].
    """
    (n_units, n_entries), (mean, sd, low, high) = values.shape, moments
    bins = xp.empty(values.shape, np.uint16)
    lowest, highest = ~xp.zeros((n_units, BINS), np.uint64), xp.zeros((n_units, BINS), np.uint64)
    arguments = (values, mass, stride, ranks, low, high, total, n_entries, bins, lowest, highest)
    launch(xp, SOURCE, "place_in_bins", (n_entries, n_units), arguments)
    filled = lowest <= highest
    first, last = (xp.where(filled, from_keys(xp, keys), 0.0) for keys in (lowest, highest))
    middle, half = 0.5 * (first + last), 0.5 * (last - first)
    sums = xp.zeros((n_units, ORDER + 1, BINS))
    launch(xp, SOURCE, "add_moments", (n_entries, n_units), (values, mass, stride, bins, middle, half, n_entries, sums))
    middle, half = (middle - mean[:, None]) / sd[:, None], half / sd[:, None]
    scale = xp.stack([half**i for i in range(ORDER + 1)], axis=1)
    return middle, half, sums / total * scale
