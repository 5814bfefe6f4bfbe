"""Statistics of single units on a GPU, for a tile of units and a group of hypotheses at once.

A unit is a list of entries, values with a mass. States of 16 bits have an entry for each of their 65,536 codes, others
one for each row. Moments, bins and the logistic regressions come from the entries, and only three things from the rows:
the sums of ranks and of values over the positive positions, which are products with the labels in float64, and the
counts of the labels in the bins.

X is read twice, and ranks and values in float64 and bins are written once and read once: 6 and 55 GB for float16 states
(1e6, 1536) and 32 labels. These take 0.141 s on an NVIDIA H200 (torch 2.11, CuPy 14.2). With labels and codes counted
by additions of float64 in the GPU's memory, 0.74 and 0.09 s of it, they took 1.33 s on an NVIDIA H100 80GB HBM3.

Hypotheses of other weights or masks are another group, and all of this is done for each. What is added up in float64 in
the GPU's memory, moments and weights that are no whole numbers, is added in any order: its last bits differ from run to
run, and so do those of coefficients.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import array_namespace, as_tensor, moved
from gatescope.engine.quantiles import best_bin, mutual_information
from gatescope.engine.quantiles_cuda import count_labels, fill_bins, pack_labels
from gatescope.engine.ranks import N_CODES, ascending_codes, code_values
from gatescope.engine.ranks_cuda import count_codes, look_up_codes, look_up_ranks, sorted_ranks, transposed_codes
from gatescope.engine.row_blocks import RowBlocks, check_finite
from gatescope.engine.unit_labels import C
from gatescope.engine.univariate import compare_means
from gatescope.engine.univariate_cuda import fit_units
from gatescope.engine.weights import Weights, equal_weights

# Units and hypotheses looked at together: each tile is hundreds of small operations, which take the host milliseconds.
TILE_UNITS = 128
TILE_TARGETS = 128
# Fewer units where their rows would take more bytes than this, but not fewer than make use of the whole GPU.
TILE_BYTES = 2**33
FEWEST_UNITS = 32
# Values, ranks and bins of a row, and what is computed from them.
ROW_BYTES = 48
# Bytes of the labels' weights at each value, for the logistic regressions that go on over values together.
FIT_BYTES = 2**28


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
        # CuPy sums the columns of a tall array on few multiprocessors.
        self.positive_total = xp.from_dlpack(as_tensor(self.positive).sum(dim=0))
        # Counting goes over the rows of the rarer label, and the other has the rest.
        self.common = self.positive_total > 0.5 * self.total
        self.words = pack_labels(xp, labels != self.common)

    def counts(self, xp: Any, bins: Any, mass: Any) -> Any:
        """Return the weight of the positive positions in each bin, [U, FINE_BINS, G]."""
        rarer = count_labels(xp, bins, self.words, self.weight, len(self.targets))
        return xp.where(self.common, mass[..., None] - rarer, rarer)


class _Units:
    """The entries of U units, and their rows; for AUROC alone without what that does not need: values and bins.

    Attributes:
        values, mass, ranks: of the entries, float64 [U, E]; the mass [E] where it is that of all units. The values are
            moved by `origin` [U]: the mean of a unit may be far larger than what it varies by.
        bin_mass, smallest: in each bin, [U, FINE_BINS].
        low, high: the smallest and the largest value of each unit, moved, [U].
        row_ranks, row_values, row_bins: of the rows, [U, N].
        codes: of the rows, uint16 [U, N], where the entries are codes, else None.
    """

    def __init__(self, rows: RowBlocks, left: int, right: int, labels: DeviceLabels, only_auroc: bool):
        xp = self.xp = rows.xp
        by_code = code_values(rows.source.dtype)
        columns = _columns(rows, left, right, labels.kept)
        if by_code is None:
            self.codes = None
            values = columns.astype(np.float64)
            self.mass = xp.ones(columns.shape[1]) if labels.weight is None else labels.weight
            self.ranks = xp.stack([sorted_ranks(xp, column, labels.weight) for column in columns])
        else:
            self.codes, table = columns, by_code[ascending_codes()]
            # No row has a code that is not finite.
            values = xp.zeros((len(columns), N_CODES)) + xp.asarray(np.where(np.isfinite(table), table, 0.0))
            self.mass = count_codes(xp, columns, labels.weight)
            self.ranks = self.mass.cumsum(axis=1) - 0.5 * self.mass
        present = self.mass > 0
        low = self.low = xp.where(present, values, np.inf).min(axis=1)
        high = self.high = xp.where(present, values, -np.inf).max(axis=1)
        if only_auroc:
            self.row_ranks = self.ranks if self.codes is None else look_up_ranks(xp, columns, self.ranks)
            return
        bins, self.bin_mass, self.smallest = fill_bins(xp, values, self.mass, self.ranks, labels.total)
        self.origin = 0.5 * low + 0.5 * high
        self.low, self.high, self.values = low - self.origin, high - self.origin, values - self.origin[:, None]
        if self.codes is None:
            self.row_ranks, self.row_bins, self.row_values = self.ranks, bins, self.values
        else:
            looked_up = look_up_codes(xp, columns, self.ranks, bins, self.values)
            self.row_ranks, self.row_bins, self.row_values = looked_up

    def moments(self, total: float) -> tuple[Any, Any]:
        """Return mean and sum of squared deviations of each unit, [U]."""
        mean = (self.mass * self.values).sum(axis=1) / total
        return mean, (self.mass * (self.values - mean[:, None]) ** 2).sum(axis=1)

    def sums_of(self, positive: Any, units: Any, hypotheses: Any) -> Any:
        """Return the sums of some columns [N, G] over the rows of each entry of some units, float64 [P, E].

        Args:
            positive: float64 [N, G].
            units, hypotheses: integers [P].
        """
        if self.codes is None:
            return positive[:, hypotheses].T
        sums = self.xp.empty((len(units), N_CODES))
        for g in self.xp.unique(hypotheses).get().tolist():
            chosen = self.xp.flatnonzero(hypotheses == g)
            sums[chosen] = count_codes(self.xp, self.codes[units[chosen]], self.xp.ascontiguousarray(positive[:, g]))
        return sums


def _columns(rows: RowBlocks, left: int, right: int, kept: Any) -> Any:
    """Return some columns of the kept rows as contiguous rows [units, N], 16-bit numbers as their codes."""
    xp, piece = rows.xp, rows.source[:, left:right]
    if isinstance(piece, torch.Tensor):
        piece = xp.from_dlpack(as_tensor(piece).contiguous().view(torch.uint16))
    elif piece.dtype == np.float16:
        piece = xp.ascontiguousarray(piece).view(np.uint16)
    else:
        return (piece if kept is None else piece[kept]).T.copy()
    return transposed_codes(xp, piece if kept is None else piece[kept])


def device_statistics(
    rows: RowBlocks, Y: Any, weights: Weights, wanted: np.ndarray, only_auroc: bool
) -> Iterator[tuple[np.ndarray, slice, np.ndarray, list[np.ndarray]]]:
    """Yield some hypotheses, some units, and their status and statistics, each [G, U], until all are done.

    Args:
        rows: X [N, H], CuPy or a tensor on a GPU.
        Y: [N, K], bool.
        weights: of the rows.
        wanted: which hypotheses to look at, bool [K].
        only_auroc: whether AUROC is the only statistic, and not all `neurons.STATISTICS`.

    Raises:
        InputError: a value is NaN or infinite.
    """
    check_finite(rows)
    n_units, n_targets = tile_shape(rows)
    for group in equal_weights(weights):
        group = group[wanted[group]]
        for first in range(0, len(group), n_targets):
            targets = group[first : first + n_targets]
            labels = DeviceLabels(Y, weights.column(int(targets[0])), targets, rows.xp)
            for left in range(0, rows.shape[1], n_units):
                units = slice(left, min(left + n_units, rows.shape[1]))
                entries = _Units(rows, units.start, units.stop, labels, only_auroc)
                found = _aurocs(entries, labels) if only_auroc else _statistics(entries, labels, rows.memory_limit)
                yield targets, units, *found


def tile_shape(rows: RowBlocks) -> tuple[int, int]:
    """Return how many units and how many hypotheses are looked at together."""
    if rows.memory_limit is None:
        return min(TILE_UNITS, max(FEWEST_UNITS, TILE_BYTES // (ROW_BYTES * rows.shape[0]))), TILE_TARGETS
    # A few arrays for one of the units as well; labels in float64 and their places.
    row_bytes = rows.memory_limit / rows.shape[0]
    return int(min(TILE_UNITS, max(1, row_bytes / ROW_BYTES - 4))), int(min(TILE_TARGETS, max(1, row_bytes / 32)))


def _auroc(units: _Units, labels: DeviceLabels) -> Any:
    """Return the AUROC of some units, [U, G]."""
    positive, negative = labels.positive_total, labels.total - labels.positive_total
    return (units.row_ranks @ labels.positive - 0.5 * positive**2) / (positive * negative)


def _aurocs(units: _Units, labels: DeviceLabels) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the status and the AUROC of some units, each [G, U]."""
    auroc = _auroc(units, labels).get().T
    status = np.where((units.low == units.high).get(), "constant_feature", "converged")
    return np.broadcast_to(status, auroc.shape), [auroc]


def _statistics(units: _Units, labels: DeviceLabels, memory_limit: int | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the status and `neurons.STATISTICS` of some units, each [G, U]."""
    xp, total = units.xp, labels.total
    positive, negative = labels.positive_total, total - labels.positive_total
    auroc = _auroc(units, labels)
    value_sum = units.row_values @ labels.positive
    counts = labels.counts(xp, units.row_bins, units.bin_mass)
    information = mutual_information(units.bin_mass[..., None], counts)
    best, informedness = best_bin(units.bin_mass[..., None], counts)
    threshold = xp.take_along_axis(units.smallest, best, axis=1)
    mean, spread = units.moments(total)
    freedom = total - 2 if total > 2 else np.nan
    difference, f = compare_means(value_sum, positive, mean[:, None], spread[:, None], total, freedom)
    constant = (units.low == units.high)[:, None]
    broken = ~constant & ~(xp.isfinite(spread) & (spread > 0))[:, None]
    sd = xp.where(constant[:, 0], 0.0, xp.sqrt(spread / total))
    sums = value_sum, functools.partial(units.sums_of, labels.positive)
    memory = FIT_BYTES if memory_limit is None else memory_limit // 4
    moments = mean, sd, units.low, units.high
    w, b, converged = fit_units(xp, units.values, units.mass, units.ranks, moments, positive, *sums, total, C, memory)
    b = b - w * units.origin[:, None]
    w, b = xp.where(constant, 0.0, w), xp.where(constant, xp.log(positive / negative), b)
    w, b = xp.where(broken, np.nan, w), xp.where(broken, np.nan, b)
    difference = xp.where(constant, 0.0, difference)
    f = xp.where(constant | broken, np.nan, f)
    found = (w, b, auroc, difference, f, information, threshold, informedness)
    status = np.where(converged.get(), "converged", "max_iter")
    status = np.where(constant.get(), "constant_feature", np.where(broken.get(), "not_finite", status))
    return status.T, [values.get().T for values in found]
