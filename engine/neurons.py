"""Single units: what does each of H units tell about each of K hypotheses, on its own?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data

from gatescope.engine.arrays import RowBlocks, as_rows, check_finite, computing_dtype, to_host
from gatescope.engine.quantiles import FINE_BINS, best_threshold, equal_mass_bins, mutual_information
from gatescope.engine.ranks import mid_ranks, unit_columns
from gatescope.engine.read_ahead import bytes_of
from gatescope.engine.targets import BinaryTargets, Weights, as_binary, as_targets, equal_weights
from gatescope.engine.univariate import fit_univariate

# Units transposed together: a cache line of 16-bit values.
TILE_UNITS = 32
# Hypotheses in one product, so that their labels in float64 stay small.
TILE_TARGETS = 128
# Inverse strength of the penalty on the coefficient of a unit: scikit-learn's default.
C = 1.0
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

    All are [K, H] and float64, and NaN where a hypothesis has weight in one class only. Weights count rows: a row of
    weight 2 is as good as two.

    Attributes:
        coef_, intercept_: the logistic regression on the unit alone with the objective of `LogisticProbes` at C = 1.
        auroc_: the probability that the unit is higher at a random positive position than at a random negative one,
            ties counted half (Mann & Whitney 1947).
        mean_difference_: mean of the unit over the positive positions minus that over the negative ones (Antverg &
            Belinkov 2022).
        f_statistic_: variance between the classes over that within them, `SS_between / (SS_within / (S - 2))` with S
            the sum of the weights (Fisher 1925).
        mutual_information_: bits, over at most 32 bins of equal mass, with the correction of Miller (1955): about 0 for
            independent labels, on either side of it.
        threshold_, informedness_: the best rule "positive where the unit is at least t", and its true minus false
            positive rate (Youden 1950), negative where the rule should be turned round; to a 1024th of the mass.
        status_: [K, H], str: "converged"; "one_class": fewer than two classes have weight; "constant_feature": the unit
            does not vary, so that its coefficient is 0 and it has no F statistic; "max_iter": the logistic regression
            did not converge; "not_finite": the unit's variance is beyond the range of float64.
    """

    def __init__(self, memory_limit: str | int | None = None):
        self.memory_limit = memory_limit

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuronProbes:
        """Compute all statistics.

        Args:
            X: states [N, H], NumPy, torch or CuPy; exact ranks come from a histogram in float16 and from sorting else.
            y: labels [N, K] or [N], bool or 0 and 1.
            sample_weight: [N], or [N, K] with one column for each hypothesis; zero leaves a position out.

        Returns:
            self; the arrays have K = 1 after a one-dimensional y.

        Raises:
            InputError: shapes that do not match, labels other than 0 and 1, or NaN or infinity in X (with row and
                column) or in the weights.
        """
        source, X = X, as_rows(X)
        validate_data(self, source, skip_check_array=True)
        Y = as_targets(y, X.shape[0])
        Y = as_binary(Y.reshape(len(Y), -1))
        n_units, n_targets = X.shape[1], Y.shape[1]
        for name in STATISTICS:
            setattr(self, name, np.full((n_targets, n_units), np.nan))
        self.status_ = np.full((n_targets, n_units), "one_class", dtype="<U16")
        with RowBlocks(X, computing_dtype(X), bytes_of(self.memory_limit)) as rows:
            weights = Weights(sample_weight, X.shape[0], n_targets, rows.xp)
            totals = BinaryTargets(Y, weights, None).class_totals
            two_classes = (totals > 0).all(axis=0)
            for group in equal_weights(weights, n_targets):
                group = group[two_classes[group]]
                _, width = tile_shape(rows)
                for first in range(0, len(group), width):
                    targets = group[first : first + width]
                    self._fit_group(rows, _Labels(rows, Y, weights.column(int(targets[0])), targets))
        unfinished = np.isin(self.status_, ["max_iter", "not_finite"])
        if unfinished.any():
            k, unit = np.argwhere(unfinished)[0].tolist()
            warnings.warn(
                f"{unfinished.sum()} of {unfinished.size} logistic regressions on single units did not converge (the "
                f"first is unit {unit}, hypothesis {k}): bring the units to moderate scales; see status_",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _fit_group(self, rows: RowBlocks, labels: _Labels) -> None:
        """Statistics of all units for the hypotheses of one group."""
        width, _ = tile_shape(rows)

        def fit_tile(left: int) -> None:
            columns = unit_columns(rows.source, left, min(left + width, rows.shape[1]), labels.kept)
            values = to_host(columns).astype(np.float64)
            if not np.isfinite(values.sum(axis=1)).all():
                check_finite(rows)
            ranks = np.stack([to_host(mid_ranks(column, labels.weight)) for column in columns])
            value_sums, rank_sums = values @ labels.positive, ranks @ labels.positive
            for i in range(len(columns)):
                status, statistics = labels.statistics(values[i], ranks[i], value_sums[i], rank_sums[i])
                self.status_[labels.targets, left + i] = status
                for name, result in zip(STATISTICS, statistics, strict=True):
                    getattr(self, name)[labels.targets, left + i] = result

        rows.each(fit_tile, range(0, rows.shape[1], width))


def tile_shape(rows: RowBlocks) -> tuple[int, int]:
    """Return how many units and how many hypotheses are looked at together."""
    if rows.memory_limit is None:
        return TILE_UNITS, TILE_TARGETS
    # Values and ranks of each unit and a few arrays for one of them on each core; labels in float64 and their places.
    row_bytes = rows.memory_limit / rows.shape[0]
    units = row_bytes / 2 / rows.n_threads / 24 - 4
    return int(min(TILE_UNITS, max(1, units))), int(min(TILE_TARGETS, max(1, row_bytes / 2 / 16)))


class _Labels:
    """The labels of G hypotheses that share their weights, at the rows that have any.

    Args:
        rows: X [N, H].
        Y: [N, K], bool.
        weight: [N] or None.
        targets: the hypotheses, integers [G].
    """

    def __init__(self, rows: RowBlocks, Y: Any, weight: Any, targets: np.ndarray):
        self.targets = targets
        labels = to_host(Y)[:, targets]
        self.kept, self.weight = None, None if weight is None else to_host(weight).astype(np.float64)
        if self.weight is not None and not (self.weight > 0).all():
            # Rows without weight have no rank of their own and add nothing.
            self.kept = np.flatnonzero(self.weight > 0)
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
        self.places = [np.flatnonzero(labels[:, g] != self.common[g]) for g in range(len(targets))]

    def statistics(
        self, values: np.ndarray, ranks: np.ndarray, value_sum: np.ndarray, rank_sum: np.ndarray
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return the status and the STATISTICS of one unit, each [G].

        Args:
            values, ranks: float64 [N].
            value_sum, rank_sum: over the positive positions [G].
        """
        positive, negative = self.positive_total, self.total - self.positive_total
        auroc = (rank_sum - 0.5 * positive**2) / (positive * negative)
        bins = equal_mass_bins(ranks, self.total)
        mass = np.bincount(bins, self.weight, FINE_BINS).astype(np.float64)
        counts = self._positive_counts(bins, mass)
        information = mutual_information(mass, counts)
        threshold, informedness = best_threshold(values, bins, counts, mass)
        with np.errstate(all="ignore"):
            mean = np.average(values, weights=self.weight)
            spread = np.average((values - mean) ** 2, weights=self.weight) * self.total
            difference = (value_sum / positive - mean) * self.total / negative
            between = difference**2 * positive * negative / self.total
            f = between / np.where(spread > between, (spread - between) / (self.total - 2), 0.0)
        order_statistics = (information, threshold, informedness)
        if values.min() == values.max():
            log_odds = np.log(positive / negative)
            return "constant_feature", (0.0, log_odds, auroc, 0.0 * difference, np.nan, *order_statistics)
        if not np.isfinite(spread) or spread == 0:
            return "not_finite", (np.nan, np.nan, auroc, difference, np.nan, *order_statistics)
        w, b, converged = fit_univariate(values, self.weight, positive, value_sum, C)
        status = np.where(converged, "converged", "max_iter")
        return status, (w, b, auroc, difference, f, *order_statistics)

    def _positive_counts(self, bins: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """Return the weight of the positive positions in each bin, [FINE_BINS, G]."""
        counts = np.empty((len(self.places), FINE_BINS))
        for g, places in enumerate(self.places):
            rarer = np.bincount(bins[places], None if self.weight is None else self.weight[places], FINE_BINS)
            counts[g] = mass - rarer if self.common[g] else rarer
        return counts.T
