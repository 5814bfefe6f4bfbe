"""One pass over the states for a tile of logistic problems.

The tile keeps the logits and the signed weights s (2 y - 1) of W problems at N rows. A pass moves the logits of every
problem by X v, its own trial step, and returns the loss and the gradient there: two skinny matrix products for each
block of rows, X V and X' R, whatever the number of problems. Logits are never recomputed, so that their rounding errors
shrink with the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.engine.arrays import array_namespace, to_host
from gatescope.engine.log_loss import log_loss, log_loss_curvature, log_loss_slope
from gatescope.engine.products import column_sums
from gatescope.engine.row_blocks import BLOCK_ROWS, RowBlocks
from gatescope.engine.split_product import SplitStep
from gatescope.engine.weights import CHUNK_ROWS

# Multiples of a step at which its slope can be looked at without another product with X.
MULTIPLES = (2.0, 4.0, 8.0)


@dataclass
class Sums:
    """What a pass adds up, float64.

    Args:
        products: X' r, where r is the derivative of the loss in the logits, [H, W].
        residuals: the sum of r, [W].
        losses: [W].
        slopes: of the loss at MULTIPLES of the step, [M, W]; 0 where they were not asked for.
    """

    products: np.ndarray
    residuals: np.ndarray
    losses: np.ndarray
    slopes: np.ndarray


def with_columns(array: Any, columns: np.ndarray, piece_rows: int = CHUNK_ROWS) -> Any:
    """Return some columns of an array [..., W], in ascending order, in the memory that it had.

    Args:
        piece_rows: rows that a GPU copies at a time.
    """
    xp, width = array_namespace(array), array.shape[-1]
    old, memory, index = array.reshape(-1, width), array.reshape(-1), xp.asarray(columns)
    # Rows get narrower, so writing never overtakes reading.
    if xp is np:
        from gatescope.engine.sweep_host import keep_columns

        keep_columns(memory, width, index)
    else:
        for start in range(0, len(old), piece_rows):
            part = old[start : start + piece_rows, index]
            memory[start * len(columns) : start * len(columns) + part.size] = part.reshape(-1)
    return memory[: len(old) * len(columns)].reshape(*array.shape[:-1], len(columns))


class SweepTile:
    """The arrays [N, W] of a tile of W problems.

    Args:
        rows: X [N, H].
        shift: [H] subtracted from the rows, in their precision, or None.
        width: W.
    """

    def __init__(self, rows: RowBlocks, shift: Any, width: int):
        self.rows, self.shift = rows, shift
        self.logits, self.signed = (rows.xp.zeros((rows.shape[0], width), rows.dtype) for _ in range(2))
        # States of 16 bits on a GPU are multiplied as they are.
        self.split = bool(rows.stored_rows) and shift is None
        self.heaviest = rows.xp.zeros(width, rows.dtype)

    def start(self, column: int, signed: Any) -> None:
        """Give a column to a new problem, whose logits are 0."""
        self.signed[:, column] = signed
        self.logits[:, column] = 0
        if self.split:
            self.heaviest[column] = abs(signed).max()

    def restart(self, column: int) -> None:
        """Have the logits of a problem be 0 again."""
        self.logits[:, column] = 0

    def keep(self, columns: np.ndarray) -> None:
        """Drop all other columns."""
        # A GPU copies as many rows at a time as a pass has in work.
        piece_rows = self.rows.stored_rows if self.split else self.rows.block_rows

        def keep(name: str) -> None:
            setattr(self, name, with_columns(getattr(self, name), columns, piece_rows))

        self.rows.each(keep, ("logits", "signed"))
        self.heaviest = self.heaviest[self.rows.xp.asarray(columns)]

    def curvature(self, column: int) -> Any:
        """Return h = s p (1 - p) of one problem, [N]."""
        if self.rows.xp is not np:
            # One kernel, which keeps nothing but the result.
            return log_loss_curvature(self.logits[:, column], self.signed[:, column])
        curvature = np.empty(self.rows.shape[0], self.rows.dtype)
        for start in range(0, len(curvature), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            curvature[part] = log_loss_curvature(self.logits[part, column], self.signed[part, column])
        return curvature

    def separates(self, column: int) -> bool:
        """Whether every row of positive weight is on the right side."""
        right = self.logits[:, column] * self.signed[:, column] > 0
        return not self.rows.processes.total(not (right | (self.signed[:, column] == 0)).all())

    def __call__(self, step: np.ndarray, offset: np.ndarray, stretching: np.ndarray) -> Sums:
        """Move the logits and pass over all rows once.

        Args:
            step: v [H, W], in the precision of the rows.
            offset: what is added to X v, [W].
            stretching: the columns whose slopes farther on are wanted, integers.
        """
        xp = self.rows.xp
        step, offset, far = xp.asarray(step), xp.asarray(offset, dtype=self.rows.dtype), xp.asarray(stretching)
        split_step = SplitStep(step, offset, self.heaviest, self.rows.stored_dtype) if self.split else None

        def host_sums(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            # Numba takes a third of a second to import, which only a fit needs.
            from gatescope.engine.sweep_host import block_sums

            z, signed = self.logits[start:stop], self.signed[start:stop]
            return block_sums(block, z, signed, step, offset, far, MULTIPLES)

        def device_sums(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            z, signed = self.logits[start:stop], self.signed[start:stop]
            if split_step is None:
                change = block @ step
                change += offset
                z += change
                loss, residual = log_loss(z, signed)
                products = _products(residual, block)
            else:
                change, loss, residual, products = split_step(block, z, signed)
            slopes = xp.zeros((len(MULTIPLES), step.shape[1]))
            if len(stretching):
                slopes[:, far] = _slopes_farther_on(z[:, far], signed[:, far], change[:, far])
            return products, column_sums(residual), column_sums(loss), slopes

        if xp is np:
            sums = self.rows.totals(host_sums, shift=self.shift)
        else:
            sums = self.rows.stored_totals(device_sums) if self.split else self.rows.totals(device_sums, self.shift)
        products, residuals, losses, slopes = (to_host(value) for value in sums)
        return Sums(products.T, residuals, losses, slopes)


def _slopes_farther_on(z: Any, signed: Any, change: Any) -> Any:
    """Return the slopes at MULTIPLES of a step [M, k], from logits, weights and the change of the logits [n, k]."""
    # CuPy's einsum is a product of matrices here: a block of threads would add up a whole column.
    return array_namespace(z).stack(
        [column_sums(log_loss_slope(z + (m - 1) * change, signed) * change) for m in MULTIPLES]
    )


def _products(residual: Any, block: Any) -> Any:
    """Return R' X of a block [W, H], float64 where the block is longer than single precision can sum."""
    whole = len(block) // BLOCK_ROWS * BLOCK_ROWS
    if block.dtype != np.float32 or not whole:
        return residual.T @ block
    left, right = (values[:whole].reshape(-1, BLOCK_ROWS, values.shape[1]) for values in (residual, block))
    total = (left.transpose(0, 2, 1) @ right).sum(axis=0, dtype=np.float64)
    return total + residual[whole:].T @ block[whole:] if whole < len(block) else total
