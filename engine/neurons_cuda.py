"""Statistics of single units on a GPU, for a tile of units and a group of hypotheses at once.

A unit is a list of entries, values with a mass. States of 16 bits have an entry for each of their 65,536 codes, others
one for each row. Moments, bins and the logistic regressions come from the entries, and only three things from the rows:
the sums of ranks and of values over the positive positions, which are products with the labels in float64, and the
counts of the labels in the bins.

Estimate for (1e6, 1536, 32) float16, not measured: X is read twice (6 GB), ranks and values in float64 and bins are
written once and read once (55 GB in all), which is 15 to 20 ms at 4 TB/s; counting codes and labels by atomic additions
takes 0.1 to 0.3 s and is the largest part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import RowBlocks, array_namespace, as_tensor, check_finite, moved
from gatescope.engine.quantiles import best_threshold, mutual_information
from gatescope.engine.quantiles_cuda import count_labels, fill_bins, pack_labels
from gatescope.engine.ranks_cuda import code_values, count_codes, look_up_codes, sorted_ranks
from gatescope.engine.univariate_cuda import fit_units


class DeviceLabels:
    """The labels of G hypotheses that share their weights, at the rows that have any.

    Args:
        Y: [N, K], bool.
        weight: CuPy [N] or None.
        targets: the hypotheses, integers [G].
        xp: cupy.
    """

    def __init__(self, Y: Any, weight: Any, targets: np.ndarray, xp: Any):
        labels = moved(Y[:, moved(targets, array_namespace(Y))], xp)
        self.targets, self.kept = targets, None
        self.weight = None if weight is None else weight.astype(np.float64)
        if self.weight is not None and not (self.weight > 0).all():
            # Rows without weight have no rank of their own and add nothing.
            self.kept = xp.flatnonzero(self.weight > 0)
            labels, self.weight = labels[self.kept], self.weight[self.kept]
        if self.weight is not None and (self.weight == 1).all():
            self.weight = None
        self.positive = labels.astype(np.float64)
        if self.weight is not None:
            self.positive *= self.weight[:, None]
        self.total = float(len(labels) if self.weight is None else self.weight.sum())
        self.positive_total = self.positive.sum(axis=0)
        # Counting goes over the rows of the rarer label, and the other has the rest.
        self.common = labels.mean(axis=0) > 0.5
        self.words = pack_labels(xp, labels != self.common)

    def counts(self, xp: Any, bins: Any, mass: Any) -> Any:
        """Return the weight of the positive positions in each bin, [U, FINE_BINS, G]."""
        rarer = count_labels(xp, bins, self.words, self.weight, len(self.targets))
        return xp.where(self.common, mass[..., None] - rarer, rarer)


class _Units:
    """The entries of U units, and their rows.

    Attributes:
        values, mass: of the entries, float64 [U, E]; the mass [E] where it is that of all units.
        bin_mass, smallest: in each bin, [U, FINE_BINS].
        row_ranks, row_values, row_bins: of the rows, [U, N].
    """

    def __init__(self, rows: RowBlocks, left: int, right: int, labels: DeviceLabels):
        xp = self.xp = rows.xp
        columns, codes_of = _columns(rows, left, right, labels.kept)
        if codes_of is None:
            self.row_values = columns.astype(np.float64)
            self.finite = bool(xp.isfinite(self.row_values.sum(axis=1)).all())
            self.row_ranks = xp.stack([sorted_ranks(xp, column, labels.weight) for column in columns])
            self.values = self.row_values
            self.mass = xp.ones(columns.shape[1]) if labels.weight is None else labels.weight
            binned = fill_bins(xp, self.values, self.mass, self.row_ranks, labels.total)
            self.row_bins, self.bin_mass, self.smallest = binned
            return
        values = xp.asarray(code_values(codes_of))
        self.mass = count_codes(xp, columns, labels.weight)
        self.finite = not (self.mass[:, ~xp.isfinite(values)] > 0).any()
        values = xp.where(xp.isfinite(values), values, 0.0)
        self.values = xp.zeros(self.mass.shape) + values
        ranks = self.mass.cumsum(axis=1) - 0.5 * self.mass
        bins, self.bin_mass, self.smallest = fill_bins(xp, self.values, self.mass, ranks, labels.total)
        self.row_ranks, self.row_bins, self.row_values = look_up_codes(xp, columns, ranks, bins, values)

    def moments(self, total: float) -> tuple[Any, Any, Any, Any]:
        """Return mean, sum of squared deviations, smallest and largest value of each unit, [U]."""
        mean = (self.mass * self.values).sum(axis=1) / total
        spread = (self.mass * (self.values - mean[:, None]) ** 2).sum(axis=1)
        present = self.mass > 0
        low = self.xp.where(present, self.values, np.inf).min(axis=1)
        return mean, spread, low, self.xp.where(present, self.values, -np.inf).max(axis=1)


def _columns(rows: RowBlocks, left: int, right: int, kept: Any) -> tuple[Any, torch.dtype | None]:
    """Return some columns of the kept rows as contiguous rows [units, N], and the type whose codes they are, if any."""
    piece = rows.source[:, left:right]
    codes_of = None
    if isinstance(piece, torch.Tensor):
        codes_of = torch.bfloat16
        piece = rows.xp.from_dlpack(as_tensor(piece).contiguous().view(torch.uint16))
    elif piece.dtype == np.float16:
        codes_of = torch.float16
        piece = rows.xp.ascontiguousarray(piece).view(np.uint16)
    return (piece if kept is None else piece[kept]).T.copy(), codes_of


def unit_statistics(
    rows: RowBlocks, left: int, right: int, labels: DeviceLabels, C: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the status and `neurons.STATISTICS` of the units left..right, each [G, U].

    Raises:
        InputError: a value is NaN or infinite.
    """
    xp, total = rows.xp, labels.total
    units = _Units(rows, left, right, labels)
    if not units.finite:
        check_finite(rows)
    positive, negative = labels.positive_total, total - labels.positive_total
    auroc = (units.row_ranks @ labels.positive - 0.5 * positive**2) / (positive * negative)
    value_sum = units.row_values @ labels.positive
    counts = labels.counts(xp, units.row_bins, units.bin_mass)
    information = mutual_information(units.bin_mass, counts)
    threshold, informedness = best_threshold(units.smallest, counts, units.bin_mass)
    mean, spread, low, high = units.moments(total)
    difference = (value_sum / positive - mean[:, None]) * total / negative
    between = difference**2 * positive * negative / total
    within = xp.where(spread[:, None] > between, (spread[:, None] - between) / (total - 2), 0.0)
    constant = (low == high)[:, None]
    broken = ~constant & ~(xp.isfinite(spread) & (spread > 0))[:, None]
    sd = xp.where(constant[:, 0], 0.0, xp.sqrt(spread / total))
    w, b, converged = fit_units(xp, units.values, units.mass, mean, sd, (low, high), positive, value_sum, total, C)
    w, b = xp.where(constant, 0.0, w), xp.where(constant, xp.log(positive / negative), b)
    w, b = xp.where(broken, np.nan, w), xp.where(broken, np.nan, b)
    difference = xp.where(constant, 0.0, difference)
    f = xp.where(constant | broken, np.nan, between / within)
    found = (w, b, auroc, difference, f, information, threshold, informedness)
    status = np.where(converged.get(), "converged", "max_iter")
    status = np.where(constant.get(), "constant_feature", np.where(broken.get(), "not_finite", status))
    return status.T, [values.get().T for values in found]
