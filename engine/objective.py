"""The losses of fitted hypotheses, with logits and sums in float64.

In single precision a logit is off by about 1e-6, and a rare label's loss is that of a few rows: their sum may be off by
more than the distance to the minimum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import RowBlocks, to_host
from gatescope.engine.log_loss import log_loss
from gatescope.engine.targets import BinaryTargets


def total_losses(
    rows: RowBlocks, targets: BinaryTargets, coefficients: np.ndarray, intercepts: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return `sum_n s_n log(1 + exp(-(2 y_n - 1)(w . x_n + b)))` in nats, float64 [columns]; one pass over X.

    Args:
        rows: X [N, H] in float64.
        targets: labels and weights.
        coefficients, intercepts: [H, K] and [K].
        columns: the hypotheses, integers.
    """
    w, b = rows.xp.asarray(coefficients[:, columns]), rows.xp.asarray(intercepts[columns])

    def block_losses(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        logits = block @ w
        logits += b
        return (log_loss(logits, targets.signed_rows(start, stop, columns))[0].sum(axis=0),)

    return to_host(rows.totals(block_losses)[0]) * targets.unit[columns]
