"""A pass over one block of states on the CPU, in one function that Numba compiles.

The rows of a block are worked on in parts that stay in a core's own cache between their two products, X V and X' R.
It never needs the interpreter, whose lock the threads would wait for between any two steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.log_loss_host import fill_loss
from gatescope.engine.row_blocks import cached_rows
from gatescope.engine.skinny_product import (
    MOST_AS_ROWS,
    add_few_times,
    add_few_with,
    add_states_times,
    add_states_with,
    padded,
)
from gatescope.kernels.host import compiled


def block_sums(
    block: np.ndarray,
    logits: np.ndarray,
    signed: np.ndarray,
    step: np.ndarray,
    offset: np.ndarray,
    far: np.ndarray,
    multiples: tuple[float, ...],
) -> tuple[np.ndarray, ...]:
    """Move the logits of a block of rows and return what `sweep.Sums` adds up.

    Args:
        block: X [n, H], contiguous; everything is float32 or everything is float64.
        logits: z [n, W], moved in place by X V and the offset.
        signed: s (2 y - 1), [n, W].
        step: V [H, W].
        offset: [W].
        far: the columns whose slopes at multiples of the step are wanted, integers.
        multiples: M of them.

    Returns:
        The products R' X [W, H], the sums of r [W], the losses [W], and the slopes [M, W].
    """
    (n_rows, n_units), width = block.shape, logits.shape[1]
    products = np.zeros((n_units, width))
    residuals, losses = np.zeros((2, width))
    slopes = np.zeros((len(multiples), width))
    part_rows = cached_rows(n_rows, n_units, block.itemsize)
    further = np.asarray(multiples, block.dtype) - 1
    few = width <= MOST_AS_ROWS
    columns = np.ascontiguousarray(step.T) if few else padded(step)
    _pass(
        states=block.reshape(-1),
        logits=logits,
        signed=signed,
        columns=columns,
        few=few,
        offset=offset,
        part_rows=part_rows,
        products=products,
        residuals=residuals,
        losses=losses,
        far=far,
        further=further,
        slopes=slopes,
    )
    return products.T, residuals, losses, slopes


@compiled
def _pass(
    states: Any,
    logits: Any,
    signed: Any,
    columns: Any,
    few: bool,
    offset: Any,
    part_rows: int,
    products: Any,
    residuals: Any,
    losses: Any,
    far: Any,
    further: Any,
    slopes: Any,
) -> None:
    (n_rows, width), dtype = logits.shape, columns.dtype
    # Problems that begin move by their offsets alone.
    moves = np.any(columns != 0)
    n_units, wide = columns.shape[::-1] if few else columns.shape
    change, residual = np.zeros((part_rows, wide), dtype), np.zeros((part_rows, wide), dtype)
    loss, slope = np.empty(part_rows * width, dtype), np.empty(part_rows * width, dtype)
    sums = np.empty(columns.shape, dtype)
    for first in range(0, n_rows, part_rows):
        n = min(part_rows, n_rows - first)
        part = states[first * n_units : (first + n) * n_units]
        z, s = logits[first : first + n], signed[first : first + n]
        change[:n] = 0
        if few and moves:
            add_few_times(part, columns, change[:n])
        elif moves:
            add_states_times(part, columns, change[:n])
        for i in range(n):
            for j in range(width):
                change[i, j] += offset[j]
                z[i, j] += change[i, j]
        fill_loss(z.reshape(-1), s.reshape(-1), loss[: n * width], slope[: n * width])
        for i in range(n):
            for j in range(width):
                residual[i, j] = slope[i * width + j]
                residuals[j] += slope[i * width + j]
                losses[j] += loss[i * width + j]
        sums[:] = 0
        if few:
            add_few_with(part, residual[:n], sums)
            products += sums.T
        else:
            add_states_with(part, residual[:n], sums)
            products += sums[:, :width]
        if len(far):
            # What loss and slope held is added up.
            _add_slopes(z, s, change, far, further, loss, slope, slopes)


@compiled
def _add_slopes(z: Any, signed: Any, change: Any, far: Any, further: Any, loss: Any, slope: Any, slopes: Any) -> None:
    """Add the slopes of some columns further on along their change; loss and slope are room for as many values."""
    n, n_far = len(z), len(far)
    there, weights = np.empty(n * n_far, z.dtype), np.empty(n * n_far, z.dtype)
    for m in range(len(further)):
        for i in range(n):
            for k in range(n_far):
                there[i * n_far + k] = z[i, far[k]] + further[m] * change[i, far[k]]
                weights[i * n_far + k] = signed[i, far[k]]
        fill_loss(there, weights, loss[: n * n_far], slope[: n * n_far])
        for i in range(n):
            for k in range(n_far):
                slopes[m, far[k]] += slope[i * n_far + k] * change[i, far[k]]


@compiled
def keep_columns(memory: Any, width: int, columns: Any) -> None:
    """Move some columns of an array [n, W], flat, in ascending order, to the beginning of its memory."""
    for row in range(len(memory) // width):
        for j in range(len(columns)):
            memory[row * len(columns) + j] = memory[row * width + columns[j]]
