"""Single units: what does each of H units know about each of K hypotheses, on its own?"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data

from gatescope.engine.arrays import as_rows, computing_dtype, to_host
from gatescope.engine.device_memory import torch_memory
from gatescope.engine.memory_limit import bytes_of
from gatescope.engine.neurons_cuda import device_statistics
from gatescope.engine.processes import Processes
from gatescope.engine.ranks import N_CODES, DistinctValues, as_codes, code_values
from gatescope.engine.read_ahead import read_ahead
from gatescope.engine.row_blocks import RowBlocks, check_finite
from gatescope.engine.targets import BinaryTargets, as_binary, as_targets
from gatescope.engine.unit_labels import UnitLabels, label_tiles
from gatescope.engine.unit_shares import exchanged
from gatescope.engine.weights import Weights

# Units transposed together: a cache line of 16-bit values.
TILE_UNITS = 32
# Rows of which units are copied at a time.
COPIED_ROWS = 1024
# Hypotheses counted together, so that their labels stay small.
TILE_TARGETS = 128
# Smaller sums of weights have no products in float64.
SMALLEST_TOTAL = 1e-100
# Bytes to work with where no limit is given.
DEFAULT_MEMORY = 2**31
STATUSES = ("converged", "one_class", "constant_feature", "max_iter", "not_finite")
STATISTICS = (
    "coef_",
    "intercept_",
    "auroc_",
    "mean_difference_",
    "f_statistic_",
    "mutual_information_",
    "threshold_",
    "informedness_",
)


class NeuronProbes(BaseEstimator):
    """Univariate statistics of every unit for every hypothesis.

    >>> units = NeuronProbes().fit(X, Y)
    >>> units.auroc_.argmax(axis=1)  # the most telling unit of each hypothesis

    Args:
        memory_limit: what a fit may take beside X, Y and the weights, such as "1GB", or a number of bytes; None for as
            much as is useful. Fewer units and hypotheses are then looked at together, at least one.
        only_auroc: whether to compute `auroc_` and `status_` alone, on a CPU in a quarter to a seventh of the time.
        distributed: whether X, Y and the weights are this process's rows of all that the processes of the default group
            of torch.distributed hold together; each looks at a share of the units, and all get the same results. Each
            has the labels and weights of all rows in memory.

    All are [K, H] and float64, and NaN where a hypothesis has weight in one class only. Weights count rows: a row of
    weight 2 is as good as two.

    Attributes:
        coef_, intercept_: the logistic regression on the unit alone with the objective of `LogisticProbes` at C = 1.
        auroc_: the probability that the unit is higher at a random positive position than at a random negative one,
            ties counted half (Mann & Whitney 1947).
        mean_difference_: mean of the unit over the positive positions minus that over the negative ones (Antverg &
            Belinkov 2022).
        f_statistic_: variance between the classes over that within them, `SS_between / (SS_within / (S - 2))` with S
            the sum of the weights (Fisher 1925); NaN where S is at most 2.
        mutual_information_: bits, over at most 32 bins of equal mass, with the correction of Miller (1955): about 0 for
            independent labels, on either side of it.
        threshold_, informedness_: the best rule "positive where the unit is at least t", and its true minus false
            positive rate (Youden 1950), negative where the rule should be turned round; to a 1024th of the mass, so
            that a unit that tells the classes apart without error may have a little less than 1.
        status_: [K, H], str: "converged"; "one_class": fewer than two classes have weight; "constant_feature": the unit
            does not vary, so that its coefficient is 0 and it has no F statistic; "max_iter": the logistic regression
            did not converge; "not_finite": the unit's variance, or products of the sums of weights, are beyond the
            range of float64.
    """

    def __init__(self, memory_limit: str | int | None = None, *, only_auroc: bool = False, distributed: bool = False):
        self.memory_limit = memory_limit
        self.only_auroc = only_auroc
        self.distributed = distributed

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuronProbes:
        """Compute all statistics.

        Args:
            X: states [N, H], NumPy, torch or CuPy; exact ranks come from a histogram in float16 and from sorting else.
            y: labels [N, K] or [N], bool or 0 and 1.
            sample_weight: [N], or [N, K] with one column for each hypothesis; zero leaves a position out.

        Returns:
            self; the arrays have K = 1 after a one-dimensional y.

        Raises:
            InputError: shapes that do not match, labels other than 0 and 1, NaN or infinity in X (with row and column)
                or in the weights, or weights [N] that are zero everywhere.
        """
        processes = Processes(self.distributed)
        # Labels and weights are worked on where X lies, as X is.
        with torch_memory(X):
            with processes.together():
                source, X = X, as_rows(X)
                validate_data(self, source, skip_check_array=True)
                Y = as_targets(y, X.shape[0])
                Y = as_binary(Y.reshape(len(Y), -1))
            processes.check_equal("columns of X and of Y", [X.shape[1], Y.shape[1]])
            if processes.size == 1:
                self._fit_rows(X, Y, sample_weight)
            else:
                self._fit_share(X, Y, sample_weight, processes)
        unfinished = np.isin(self.status_, ["max_iter", "not_finite"])
        if unfinished.any():
            k, unit = np.argwhere(unfinished)[0].tolist()
            warnings.warn(
                f"{unfinished.sum()} of {unfinished.size} logistic regressions on single units did not converge (the "
                f"first is unit {unit}, hypothesis {k}): rescale the units to moderate values; see status_",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _fit_rows(self, X: Any, Y: Any, sample_weight: Any) -> NeuronProbes:
        """Compute all statistics from all rows."""
        n_targets, n_units = Y.shape[1], X.shape[1]
        for name in self._names:
            setattr(self, name, np.full((n_targets, n_units), np.nan))
        self.status_ = np.full((n_targets, n_units), "one_class", dtype="<U16")
        with RowBlocks(X, computing_dtype(X), bytes_of(self.memory_limit)) as rows:
            weights = Weights(sample_weight, X.shape[0], n_targets, rows.xp)
            totals = BinaryTargets(Y, weights, None).class_totals
            two_classes = (totals > 0).all(axis=0)
            self.status_[two_classes & (totals.sum(axis=0) < SMALLEST_TOTAL)] = "not_finite"
            two_classes &= self.status_[:, 0] == "one_class"
            if rows.xp is np:
                self._fit_on_host(rows, Y, weights, two_classes)
            else:
                for found in device_statistics(rows, Y, weights, two_classes, self.only_auroc):
                    self._put(*found)
        return self

    @property
    def _names(self) -> tuple[str, ...]:
        return ("auroc_",) if self.only_auroc else STATISTICS

    def _fit_share(self, X: Any, Y: Any, sample_weight: Any, processes: Processes) -> None:
        """Compute the statistics of this process's share of the units, and get the others'."""
        weight = Weights(sample_weight, len(Y), Y.shape[1], np, processes).values
        if weight is not None:
            weight = processes.rows_of_all(to_host(weight).astype(np.float64))
        Y = processes.rows_of_all(to_host(Y))
        results = np.zeros((len(self._names) + 1, Y.shape[1], X.shape[1]))
        memory = bytes_of(self.memory_limit) or DEFAULT_MEMORY
        for units, columns in exchanged(X, processes, memory // 2):
            if processes.largest(not torch.isfinite(columns).all()):
                with RowBlocks(X, computing_dtype(X), processes=processes) as rows:
                    check_finite(rows)
            if columns.shape[1]:
                alone = NeuronProbes(memory // 2, only_auroc=self.only_auroc)
                found = alone._fit_rows(as_rows(columns), Y, weight)
                results[0][:, units] = [[STATUSES.index(status) for status in row] for row in found.status_.tolist()]
                results[1:, :, units] = [getattr(found, name) for name in self._names]
        # Each unit is 0 in all processes but one.
        status, *statistics = processes.totals([results])[0]
        self.status_ = np.array(STATUSES)[status.astype(np.int64)]
        for name, result in zip(self._names, statistics, strict=True):
            setattr(self, name, result)

    def _put(self, targets: np.ndarray, units: Any, status: np.ndarray, statistics: Iterable[np.ndarray]) -> None:
        """Keep the status and the statistics of some hypotheses and a unit [G], or a slice of units [G, U]."""
        self.status_[targets, units] = status
        for name, result in zip(self._names, statistics, strict=True):
            getattr(self, name)[targets, units] = result

    def _fit_on_host(self, rows: RowBlocks, Y: Any, weights: Weights, two_classes: np.ndarray) -> None:
        tiles = label_tiles(weights, two_classes, tile_targets(rows))
        # Each block of columns is read once, and its units are put in order once for each tile of hypotheses.
        for left, columns in unit_columns(rows):
            for targets, alike in tiles:
                self._fit_columns(rows, left, columns, UnitLabels(Y, weights, targets, alike))

    def _fit_columns(self, rows: RowBlocks, left: int, columns: Any, labels: UnitLabels) -> None:
        """Statistics of the units [W, N] from number `left` on for the hypotheses of one tile."""
        width = tile_units(rows)
        by_code = code_values(rows.source.dtype)

        def fit_tile(first: int) -> None:
            tile = columns[first : first + width]
            if not tile.flags.c_contiguous:
                tile = copied(tile, np.empty(tile.shape, tile.dtype))
            units = [DistinctValues(column, by_code) for column in tile]
            if not all(len(unit.values) for unit in units):
                check_finite(rows)
            if not len(labels.targets):
                return
            found = labels.aurocs(units) if self.only_auroc else labels.statistics(units)
            for i, (status, statistics) in enumerate(found, left + first):
                self._put(labels.targets, i, status, statistics)

        rows.each(fit_tile, range(0, len(columns), width))


def unit_columns(rows: RowBlocks) -> Iterator[tuple[int, Any]]:
    """Yield the number of a first unit and the values of units [W, N], as `as_codes` gives them.

    Columns in memory are a view of X. From a disk all rows are read for as many units as the memory holds.
    """
    source, (n_rows, n_units) = rows.source, rows.shape
    if rows.piece_rows is None:
        yield 0, as_codes(source).T
        return
    limit = DEFAULT_MEMORY if rows.memory_limit is None else rows.memory_limit
    width = min(n_units, max(1, limit // (4 * n_rows * source.dtype.itemsize)))
    for left in range(0, n_units, width):
        columns = np.empty((min(width, n_units - left), n_rows), as_codes(source[:1]).dtype)
        for first, piece in read_ahead(source, rows.piece_rows):
            copied(as_codes(piece)[:, left : left + len(columns)].T, columns[:, first : first + len(piece)])
        yield left, columns


def copied(units: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Copy units [W, n], which lie side by side in each row of states, so that each of them lies in one piece.

    A block of rows at a time stays in a core's cache: of 32 units of 640,000 float16 states, 256 in a row, that takes
    0.043 s instead of 0.22 (one core of a Xeon of family 6, model 207).
    """
    for start in range(0, units.shape[1], COPIED_ROWS):
        rows = slice(start, start + COPIED_ROWS)
        out[:, rows] = units[:, rows]
    return out


def tile_units(rows: RowBlocks) -> int:
    """Return how many units are looked at together."""
    limit = DEFAULT_MEMORY if rows.memory_limit is None else rows.memory_limit
    # On each core: the units' values, and those of one of them in order.
    n_units = (limit / (8 * rows.n_threads) - 24 * rows.shape[0]) / (rows.source.dtype.itemsize * rows.shape[0])
    return int(min(TILE_UNITS, max(1, n_units)))


def tile_targets(rows: RowBlocks) -> int:
    """Return how many hypotheses are looked at together."""
    limit, n_rows = DEFAULT_MEMORY if rows.memory_limit is None else rows.memory_limit, rows.shape[0]
    n_values = n_rows if code_values(rows.source.dtype) is None else min(n_rows, N_CODES)
    # Labels and weights in float64, and on each core a few sums for each distinct value.
    n_targets = limit / 2 / (16 * n_rows + 64 * rows.n_threads * n_values)
    return int(min(TILE_TARGETS, max(1, n_targets)))
