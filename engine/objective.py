"""Objectives and gradients at the end of a fit, with logits anew and sums in float64.

A fit moves its logits from step to step: what a step far too long has rounded away of them does not come back. In
single precision a logit is off by about 1e-6. A rare label's loss is that of a few rows: their sum may be off by more
than the distance to the minimum. And where units are large and nearly constant the errors of all rows agree, and what a
gradient of single precision says of itself is too small.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import to_host
from gatescope.engine.log_loss import log_loss
from gatescope.engine.problems import Solution
from gatescope.engine.products import column_sums, states_times, states_with
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.targets import BinaryTargets

# Hypotheses in a pass where there are fewer units.
FEWEST = 64


def recompute(
    rows: RowBlocks,
    targets: BinaryTargets,
    solution: Solution,
    selected: np.ndarray,
    ridge: np.ndarray,
    origin: np.ndarray,
    scale: np.ndarray,
    fit_intercept: bool,
) -> None:
    """Replace the objectives and the largest gradients of a solution; one pass over X for up to H hypotheses.

    Args:
        rows: X [N, H] in float64.
        targets: labels and weights.
        solution: on the scale of X.
        selected: the hypotheses, bool [K].
        ridge: that of `Problems`.
        origin, scale: of the coordinates (x - origin) / scale whose gradient is wanted.
        fit_intercept: whether the gradient has a part of the intercept.
    """
    found = np.flatnonzero(selected)
    # Then the results of a block take about as much memory as the block.
    tile = max(FEWEST, rows.shape[1])
    for k in np.split(found, range(tile, len(found), tile)):
        losses, slopes, residuals = _sums(rows, targets, solution, k)
        total, w = targets.class_totals[:, k].sum(axis=0), solution.coefficients[:, k] * scale[:, None]
        solution.objective[k] = losses + 0.5 * total * (ridge[:, k] * w**2).sum(axis=0)
        gradient = (slopes - np.outer(origin, residuals)) / scale[:, None] / total + ridge[:, k] * w
        solution.gradient[k] = np.abs(gradient).max(axis=0)
        if fit_intercept:
            solution.gradient[k] = np.maximum(solution.gradient[k], np.abs(residuals) / total)
    solution.n_passes[found] += 1


def _sums(
    rows: RowBlocks, targets: BinaryTargets, solution: Solution, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `sum_n s_n log(1 + exp(-(2 y_n - 1)(w . x_n + b)))` [columns], and its derivatives in w and in b."""
    w, b = (rows.xp.asarray(each[..., columns]) for each in (solution.coefficients, solution.intercepts))

    def block_sums(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        logits = states_times(block, w)
        logits += b
        loss, residual = log_loss(logits, targets.signed_rows(start, stop, columns))
        return column_sums(loss), states_with(block, residual), column_sums(residual)

    losses, slopes, residuals = (to_host(value) * targets.unit[columns] for value in rows.totals(block_sums))
    return losses, slopes, residuals
