"""Linear predictions x . w + b of many hypotheses, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import to_host
from gatescope.engine.row_blocks import RowBlocks, check_finite


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
