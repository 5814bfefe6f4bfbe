"""Units that hardly vary in a sample of the rows, though they do in others.

A unit that is constant in a sample, but not 0, leaves rounding errors of its values in the sample's matrix. Once a
matrix is scaled they are as large as what any other unit has there, and a step divides by them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import to_host
from gatescope.engine.gram import CANCELLED, DOUBLE_EPS
from gatescope.engine.row_blocks import RowBlocks

# A unit varies in a sample by this share at least of what it varies in all rows: otherwise the sample has missed it.
LEAST_VARIANCE = 0.01


class UnseenUnits:
    """Puts into a sample's matrix what all rows tell of units that the sample has missed.

    Args:
        rows: X [N, H].
        shift: [H] subtracted from the rows, or None.
        scale: [H], the matrix is that of X / scale.
        sd: standard deviation of each unit of X over all rows, float64 [H]; 0 for a constant.
        fit_intercept: whether the matrix is that of centred rows.
    """

    def __init__(self, rows: RowBlocks, shift: Any, scale: np.ndarray, sd: np.ndarray, fit_intercept: bool):
        self.rows, self.shift, self.scale, self.fit_intercept = rows, shift, scale, fit_intercept
        self.sd = sd / scale
        self.constant = np.flatnonzero(sd == 0) if fit_intercept else np.arange(0)

    def put_right(self, matrix: Any, weight: Any, curved: float, mean: np.ndarray) -> None:
        """Replace the rows and columns of units that a sample has missed by their variances, and of constants by 0.

        Args:
            matrix: `curved` times the covariance of the sample [H, H]; changed in place.
            weight: of all rows, [N].
            curved: what variances are multiplied by.
            mean: [H], near the weighted mean of X / scale; 0 without an intercept.
        """
        diagonal = to_host(matrix.diagonal()).astype(np.float64)
        missed = np.flatnonzero(diagonal < LEAST_VARIANCE * curved * self.sd**2)
        variance = np.zeros(len(diagonal))
        if len(missed):
            # The weights may leave out the rows in which the unit varies.
            variance[missed] = curved * self._variance(missed, weight, mean[missed])
            missed = missed[(diagonal[missed] < LEAST_VARIANCE * variance[missed]) | (variance[missed] == 0)]
        missed = np.union1d(missed, self.constant)
        if len(missed):
            index = self.rows.xp.asarray(missed)
            matrix[index] = 0
            matrix[:, index] = 0
            matrix[index, index] = self.rows.xp.asarray(variance[missed].astype(matrix.dtype))

    def _variance(self, units: np.ndarray, weight: Any, mean: np.ndarray) -> np.ndarray:
        """Return the weighted variance of some units over all rows, or their mean square without an intercept."""
        xp = self.rows.xp
        index, scale, center = (xp.asarray(each) for each in (units, self.scale[units], mean))

        def sums(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            share, values = weight[start:stop].astype(np.float64), block[:, index] / scale - center
            return share @ values, share @ values**2, share.sum()

        first, second, total = (to_host(value) for value in self.rows.totals(sums, shift=self.shift))
        square = second / total
        if not self.fit_intercept:
            return square
        offset = first / total
        variance = square - offset**2
        noise = np.maximum(CANCELLED * DOUBLE_EPS * square, (8 * DOUBLE_EPS * (mean + offset)) ** 2)
        return np.where(variance <= noise, 0.0, variance)
