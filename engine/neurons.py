"""Single units: what does each of H units tell about each of K hypotheses, on its own?"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from gatescope.engine.arrays import RowBlocks, as_rows, check_finite, computing_dtype, to_host
from gatescope.engine.gram import column_origin
from gatescope.engine.ranks import rank_sums
from gatescope.engine.ridge import equal_weights
from gatescope.engine.targets import BinaryTargets, Weights, as_binary, as_targets


class NeuronProbes(BaseEstimator):
    """Univariate statistics of every unit for every hypothesis.

    >>> units = NeuronProbes().fit(X, Y)
    >>> units.auroc_.argmax(axis=1)  # the most telling unit of each hypothesis

    Attributes:
        auroc_: [K, H], float64: the probability that the unit is higher at a random positive position than at a random
            negative one, ties counted half (Mann & Whitney 1947); NaN where a hypothesis has weight in one class only.
        mean_difference_: [K, H], float64: mean of the unit over the positive positions minus that over the negative
            ones (Antverg & Belinkov 2022); NaN likewise.
        status_: [K], str: "converged", or "one_class" where fewer than two classes have weight.
    """

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
        self.auroc_, self.mean_difference_ = np.full((2, n_targets, n_units), np.nan)
        with RowBlocks(X, computing_dtype(X)) as rows:
            weights = Weights(sample_weight, X.shape[0], n_targets, rows.xp)
            totals = BinaryTargets(Y, weights, None).class_totals
            self.status_ = np.where((totals > 0).all(axis=0), "converged", "one_class")
            for group in equal_weights(weights, n_targets):
                group = group[self.status_[group] == "converged"]
                if len(group):
                    self._fit_group(rows, Y, weights.column(int(group[0])), group, totals[:, group])
        return self

    def _fit_group(self, rows: RowBlocks, Y: Any, weight: Any, group: np.ndarray, totals: np.ndarray) -> None:
        """Statistics of the hypotheses that share their weights."""
        negative, positive = totals
        xp = rows.xp

        def sums(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            labels = xp.asarray(Y[start:stop][:, group]).astype(block.dtype)
            share = xp.ones(stop - start, block.dtype) if weight is None else weight[start:stop].astype(block.dtype)
            return (labels * share[:, None]).T @ block, share @ block

        positive_sums, all_sums = (to_host(value) for value in rows.totals(sums, shift=column_origin(rows)))
        if not np.isfinite(all_sums).all():
            check_finite(rows)
        negative_sums = all_sums - positive_sums
        self.mean_difference_[group] = positive_sums / positive[:, None] - negative_sums / negative[:, None]
        ranks = rank_sums(rows, Y, weight, group)
        pairs = ranks - 0.5 * positive[:, None] ** 2
        self.auroc_[group] = pairs / (positive * negative)[:, None]
