"""Sums with few rows and many terms inside a persistent kernel: each warp multiplies a slice of the inner dimension.

The slices are the batch of a batched product, whose entries the compiler assigns to one warp each.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.tiles import add_product, as_factor, product


@triton.jit
def slices_ahead(
    at,
    in_row,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    SLICES: tl.constexpr,
    FIRST: tl.constexpr,
    COUNT: tl.constexpr,
):
    """Some of the tiles [SLICES, rows, BLOCK_K] of rows [rows, N], from memory that other programs store to."""
    tiles = ()
    for k in tl.static_range(FIRST, FIRST + COUNT):
        o = (tl.arange(0, SLICES)[:, None, None] * PARTS + k) * BLOCK_K + tl.arange(0, BLOCK_K)[None, None, :]
        tiles += (tl.load(at + o, mask=in_row & (o < N), other=0.0, cache_modifier=".cg"),)  # type: ignore[assignment]
    return tiles


@triton.jit
def load_slices(
    at,
    in_column,
    ROWS: tl.constexpr,
    N: tl.constexpr,
    STRIDE: tl.constexpr,
    FIRST: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    SLICES: tl.constexpr,
):
    """Columns of a matrix as a tuple of tiles [SLICES, BLOCK_K, columns], which `sum_of_slices` multiplies.

    Args:
        at: pointers to the first row of each column, [1, 1, columns].
        in_column: mask of the columns that exist, [1, 1, columns].
        ROWS: rows of the matrix.
        N: number of rows to take, from FIRST on, wrapping around at the end.
        STRIDE: entries from a row to the next.
        BLOCK_K, PARTS, SLICES: rows of a tile, tiles of a slice, number of slices.
    """
    o_k = tl.arange(0, SLICES)[:, None, None] * (PARTS * BLOCK_K) + tl.arange(0, BLOCK_K)[None, :, None]
    tiles = ()
    for part in tl.static_range(PARTS):
        o = part * BLOCK_K + o_k
        row = (o + FIRST) % ROWS
        tile = tl.load(at + row * STRIDE, mask=in_column & (o < N), other=0.0)
        tiles += (as_factor(tile),)  # type: ignore[assignment]
    return tiles


@triton.jit
def sum_of_slices(
    tiles,
    at,
    in_row,
    columns,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    SLICES: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """Rows in memory [rows, N] times a matrix loaded by `load_slices`, in float32: one slice for each warp."""
    total = product(as_factor(tiles[0]), columns[0])
    for part in tl.static_range(1, PARTS):
        if part + AHEAD - 1 < PARTS:
            tiles += slices_ahead(at, in_row, N, BLOCK_K, PARTS, SLICES, part + AHEAD - 1, 1)
        total = add_product(total, as_factor(tiles[part]), columns[part])
    return tl.sum(total, axis=0)
