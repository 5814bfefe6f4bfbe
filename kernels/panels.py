"""Products with a matrix packed in panels, for walks over a sequence that Numba compiles.

A panel is as many columns as `register_tile` takes at once. Its rows lie one after another, so that a product reads it
in one stream, whatever the width of the matrix; the rows on the left are read from the cache for each panel. The last
panel is narrower, and is padded with zero columns to a multiple of PART_BYTES.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from gatescope.kernels.host import compiled
from gatescope.kernels.register_tile import PART_BYTES, add_panel, panel_width

# Terms that are summed in one running total, before it is added to the sum of such totals: longer ones are less exact.
CHAIN = 64
# Rows whose sums stay in the innermost cache meanwhile.
TALL = 16
# Rows of gradients, of several steps, whose part of the weights' gradients is summed at once.
DEPTH = 512


@register_jitable
def padded_width(n_columns: int, item_bytes: int) -> int:
    """The columns of a matrix, padded with zero columns."""
    part = PART_BYTES // item_bytes
    return (n_columns + part - 1) // part * part


@register_jitable
def apart(n_columns: int, item_bytes: int) -> int:
    """The stride of rows that are read across: at multiples of 4 KB they would compete for a few sets of the cache.

    Sums over 512 rows of 2,048 columns ran at 238 instead of 199 GFLOP/s on a core (Zen 5).
    """
    return n_columns + 64 // item_bytes


def packed(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix [K, R] in panels, flat."""
    depth, n_columns = matrix.shape
    width, panel = padded_width(n_columns, matrix.itemsize), panel_width(matrix.itemsize)
    out = np.zeros(depth * width, matrix.dtype)
    for first in range(0, n_columns, panel):
        last = min(first + panel, n_columns)
        wide = min(panel, width - first)
        place = out[first * depth : (first + wide) * depth].reshape(depth, wide)
        place[:, : last - first] = matrix[:, first:last]
    return out


# A caller slices its array to the rows that it means: Numba would compile this anew for every literal offset.
@compiled
def pack_rows(rows: Any, n_rows: int, n_columns: int, out: Any, depth: int, first: int) -> None:
    """Write rows of a matrix [depth, C] in panels.

    Args:
        rows: flat, one row after another.
        n_rows, n_columns: how many rows are written, and C.
        out, depth: the panels, flat, and their total number of rows.
        first: index of the first row within them.
    """
    width, panel = padded_width(n_columns, rows.itemsize), panel_width(rows.itemsize)
    for left in range(0, n_columns, panel):
        wide, n = min(panel, width - left), min(panel, n_columns - left)
        for row in range(n_rows):
            place, source = left * depth + (first + row) * wide, row * n_columns + left
            for j in range(n):
                out[place + j] = rows[source + j]


@compiled
def add_product(left: Any, stride: int, n_rows: int, depth: int, right: Any, out: Any) -> None:
    """Add the product of rows on the left with a packed matrix to `out`.

    Args:
        left: flat; each row begins `stride` elements after the previous one.
        n_rows, depth: of the left side, and the inner dimension K.
        right: [K, R] in panels, flat.
        out: [n_rows or more, R], R including the zero columns.
    """
    _add(left, stride, 1, n_rows, depth, right, out)


@compiled
def add_product_across(left: Any, stride: int, n_rows: int, depth: int, right: Any, out: Any) -> None:
    """Do the same with the left side transposed: K rows, each `stride` elements after the previous one."""
    _add(left, 1, stride, n_rows, depth, right, out)


@register_jitable
def write_product(
    left: Any, stride: int, n_rows: int, depth: int, right: Any, room: Any, out: Any, n_columns: int
) -> None:
    """Write a product, as `add_product` adds it, through `room` [n_rows, R] to rows of [n_columns], flat."""
    room.fill(0)
    add_product(left, stride, n_rows, depth, right, room)
    for i in range(n_rows):
        for j in range(n_columns):
            out[i * n_columns + j] = room[i, j]


@register_jitable
def _add(left: Any, row: int, step: int, n_rows: int, depth: int, right: Any, out: Any) -> None:
    width, panel = out.shape[1], panel_width(out.itemsize)
    sums = out.reshape(-1)
    for at in range(0, width, panel):
        n = min(panel, width - at)
        for top in range(0, n_rows, TALL):
            tall, place = min(TALL, n_rows - top), top * width + at
            for k in range(0, depth, CHAIN):
                deep, start, begin = min(CHAIN, depth - k), top * row + k * step, at * depth + k * n
                add_panel(tall, n, deep, left, start, row, step, right, begin, n, sums, place, width)
