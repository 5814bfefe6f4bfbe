"""Linear predictions x . w + b of many hypotheses, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import computing_dtype, to_host
from gatescope.engine.row_blocks import RowBlocks, check_finite

# Where a unit's mean counts this many times as much in a prediction as what varies in any unit, single precision has
# lost a thousandth of a percent of that; of many such units, some times as much.
CANCELLING = 100.0
# Far enough from the largest number of single precision that no sum of units reaches it.
LARGE = 1e30


def prediction_dtype(X: Any, cancelling: bool) -> type:
    """Return the precision to predict in: that of the fit, but float64 where large parts cancel."""
    return np.float64 if cancelling else computing_dtype(X)


def cancels(coefficients: np.ndarray, intercepts: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> bool:
    """Whether what is the same everywhere counts far more in some prediction than what varies: a mean, or all of it.

    Args:
        coefficients: [K, H]; NaN counts as 0.
        intercepts: [K]; what is not finite counts as 0.
        mean, sd: of the units, [H].
    """
    w, b = np.nan_to_num(coefficients), np.where(np.isfinite(intercepts), intercepts, 0.0)
    with np.errstate(all="ignore"):
        same = np.maximum(np.abs(w * mean).max(axis=1), np.abs(w @ mean + b))
        varied = np.abs(w * sd).max(axis=1)
        return bool((((same > CANCELLING * varied) & (varied > 0)) | (same > LARGE) | (varied > LARGE)).any())


def linear_predictions(rows: RowBlocks, coefficients: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Return x . w + b for each row and hypothesis [N, K], in the precision of the rows.

    Args:
        rows: X [N, H].
        coefficients: [K, H]; a hypothesis with NaN has the same prediction, its intercept, at all rows.
        intercepts: [K].
    """
    w = rows.xp.asarray(np.where(np.isnan(coefficients), 0.0, coefficients).T.astype(rows.dtype))
    b = rows.xp.asarray(intercepts.astype(rows.dtype))
    predictions = rows.xp.empty((rows.shape[0], len(intercepts)), rows.dtype)

    def predict_block(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        predictions[start:stop] = block @ w + b
        return (block.sum(axis=0),)

    (sums,) = rows.totals(predict_block)
    if not rows.xp.isfinite(sums).all():
        check_finite(rows)
    return to_host(predictions)
