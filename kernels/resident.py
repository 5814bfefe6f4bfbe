"""Products with weights that stay in registers: the weights stand on the left, the states on the right."""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.tiles import add_product, product, sum_of_products

MIN_COLUMNS = tl.constexpr(8)  # of a tensor core's product


@triton.jit
def in_registers(tile, sums: tl.constexpr):
    """A factor [n, K] that stays in registers.

    The compiler moves a factor to shared memory unless it is itself a product, so it is multiplied by the identity.
    With sums in float16 it takes half the registers: each sum is a single weight, whose bits pass as a float16 even if
    they stand for a bfloat16. Bits that are no number in float16, from 2^121 on in bfloat16, make a row NaN.
    """
    o_k = tl.arange(0, tile.shape[1])
    one = o_k[:, None] == o_k[None, :]
    if sums == tl.float16 and tile.dtype != tl.float32:
        bits = tile.to(tl.float16, bitcast=True)
        return tl.dot(bits, one.to(tl.float16), out_dtype=sums).to(tile.dtype, bitcast=True)
    else:
        return product(tile, one.to(tile.dtype)).to(tile.dtype)


@triton.jit
def load_resident(
    at,
    in_row,
    N: tl.constexpr,
    RESIDENT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Rows of a matrix as a tuple of tiles [n, BLOCK_K], the first of which stay in registers.

    Args:
        at: pointers to the first column of each row, [n, 1].
        in_row: mask of the rows that exist, [n, 1].
        N: columns.
        RESIDENT: number of tiles that stay in registers.
        BLOCK_K, PARTS: columns of a tile, number of tiles.
    """
    o_k = tl.arange(0, BLOCK_K)
    tiles = ()
    for part in tl.static_range(PARTS):
        o = part * BLOCK_K + o_k[None, :]
        tile = tl.load(at + o, mask=in_row & (o < N), other=0.0)
        if part < RESIDENT:
            # With 16-bit sums the compiler would make the products of several parts wait for each other.
            tile = in_registers(tile, tl.float32 if PARTS > 1 else tl.float16)
        tiles += (tile,)  # type: ignore[assignment]
    return tiles


@triton.jit
def resident_columns(tiles):
    """Tiles [BLOCK_K, n] of a matrix as factors [n, BLOCK_K] that stay in registers."""
    factors = ()
    for k in tl.static_range(len(tiles)):
        factors += (in_registers(tl.trans(tiles[k]), tl.float16),)  # type: ignore[assignment]
    return factors


@triton.jit
def sum_of_resident(states, weights, APART: tl.constexpr):
    """The sum of products of tiles of states [rows, BLOCK_K] and of weights [n, BLOCK_K], [rows, n] in float32.

    Args:
        states, weights: tuples of tiles.
        APART: whether to make all products before adding them, so that none waits for another, or to accumulate as
            they are made, which takes fewer registers.
    """
    total = product(weights[0], _as_columns(states[0]))
    for part in tl.static_range(1, len(weights)):
        if APART:
            total += product(weights[part], _as_columns(states[part]))
        else:
            total = add_product(total, weights[part], _as_columns(states[part]))
    rows: tl.constexpr = states[0].shape[0]
    if rows < MIN_COLUMNS:
        total, _ = tl.split(tl.reshape(total, (total.shape[0], rows, MIN_COLUMNS // rows)))
    return tl.trans(total)


@triton.jit
def sum_alone(states, weights, RESIDENT: tl.constexpr, WARP_GROUPS: tl.constexpr):
    """The sum of products in a program of all units: states in registers, weights there or in shared memory.

    Args:
        states: a tuple of tiles [rows, BLOCK_K].
        weights: a tuple of tiles [BLOCK_K, n], or the result of `resident_columns`.
        RESIDENT: whether it is the latter.
        WARP_GROUPS: see `gatescope.kernels.tiles.with_product`.
    """
    if RESIDENT > 0:
        return sum_of_resident(states, weights, True)
    else:
        return sum_of_products(states, weights, len(weights), WARP_GROUPS)


@triton.jit
def _as_columns(states):
    """States [rows, K] as columns of a product; fewer than eight rows are repeated."""
    rows: tl.constexpr = states.shape[0]
    if rows < MIN_COLUMNS:
        times: tl.constexpr = MIN_COLUMNS // rows
        states = tl.broadcast_to(states[:, None, :], (rows, times, states.shape[1]))
        states = tl.reshape(states, (MIN_COLUMNS, states.shape[2]))
    return tl.trans(states)
