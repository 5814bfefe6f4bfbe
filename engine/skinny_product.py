"""Products of states [n, H] with few columns [H, W] on the CPU, compiled by Numba for the processor at hand.

The states are read where they lie, and the columns padded to whole parts of a panel (`register_tile`). A few columns
are not padded but laid down as rows, so that a vector holds units. `benchmarks/bench_skinny.py` has the times.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.extending import register_jitable

from gatescope.kernels.host import compiled
from gatescope.kernels.register_tile import PART_BYTES, add_panel, panel_width

# Rows of the states whose products with the residuals are summed at once: they lie a row of X apart, on so many pages.
DEPTH = 16
# In the compiled pass (`sweep_host`) up to so many columns lie as rows; more are padded. `products.FEWEST_COLUMNS` is
# another bound: that of a single product, where the alternative is NumPy's BLAS.
MOST_AS_ROWS = 6
# Sums in any order; a product and a sum may round once.
_reordered = functools.partial(compiled, fast={"contract", "reassoc"})


def states_times(states: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return X V, [n, W], of X [n, H] and V [H, W]: X contiguous, both of one type, float32 or float64."""
    right = padded(columns)
    out = np.zeros((len(states), right.shape[1]), states.dtype)
    add_states_times(states.reshape(-1), right, out)
    return out[:, : columns.shape[1]]


def states_with(states: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return X' R, [H, W], of X [n, H] and R [n, W]: X contiguous, both of one type, float32 or float64."""
    right = padded(columns)
    out = np.zeros((states.shape[1], right.shape[1]), states.dtype)
    add_states_with(states.reshape(-1), right, out)
    return out[:, : columns.shape[1]]


def padded(columns: np.ndarray) -> np.ndarray:
    """Return columns [m, W] with columns of zeros up to a whole part of a panel."""
    lanes, (height, width) = PART_BYTES // columns.itemsize, columns.shape
    if width % lanes == 0:
        return np.ascontiguousarray(columns)
    wider = np.zeros((height, -(-width // lanes) * lanes), columns.dtype)
    wider[:, :width] = columns
    return wider


@compiled
def add_states_times(states: Any, columns: Any, out: Any) -> None:
    """Add X V to out [n, W], of X [n, H], flat, and V [H, W] in whole parts of a panel."""
    _add(states, len(columns), 1, columns, out, len(columns))


@compiled
def add_states_with(states: Any, columns: Any, out: Any) -> None:
    """Add X' R to out [H, W], of X [n, H], flat, and R [n, W] in whole parts of a panel."""
    _add(states, 1, len(out), columns, out, DEPTH)


@register_jitable
def _add(left: Any, row: int, step: int, right: Any, out: Any, depth: int) -> None:
    """Add a product to out [m, W], W whole parts: left [m, k], flat, whose elements lie `row` and `step` apart.

    Args:
        depth: of the inner dimension k that is summed at once.
    """
    (height, width), panel = out.shape, panel_width(right.itemsize)
    columns, sums = right.reshape(-1), out.reshape(-1)
    for top in range(0, len(right), depth):
        n = min(depth, len(right) - top)
        for first in range(0, width, panel):
            at, n_columns = top * width + first, min(panel, width - first)
            add_panel(height, n_columns, n, left, top * step, row, step, columns, at, width, sums, first, width)


@compiled
def column_sums(values: Any, totals: Any) -> None:
    """Add the columns of values [n, W] to float64 totals [W]."""
    for row in range(len(values)):
        for column in range(values.shape[1]):
            totals[column] += values[row, column]


@_reordered
def add_few_times(states: Any, rows: Any, out: Any) -> None:
    """Add X V to out [n, W], of X [n, H], flat, and V as rows [W, H]."""
    n_units = rows.shape[1]
    for i in range(len(out)):
        x = states[i * n_units : (i + 1) * n_units]
        for j in range(len(rows)):
            v, total = rows[j], rows.dtype.type(0)
            for h in range(n_units):
                total += x[h] * v[h]
            out[i, j] += total


@_reordered
def add_few_with(states: Any, columns: Any, out: Any) -> None:
    """Add R' X to out [W, H], of X [n, H], flat, and R [n, W]."""
    n_units = out.shape[1]
    for i in range(len(columns)):
        x = states[i * n_units : (i + 1) * n_units]
        for j in range(len(out)):
            r, sums = columns[i, j], out[j]
            for h in range(n_units):
                sums[h] += r * x[h]
