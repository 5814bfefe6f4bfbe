"""Products of weights that stand in registers, which are multiplied by the states rather than the states by them."""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.tiles import add_product, product


@triton.jit
def load_resident(
    at,
    in_row,
    N: tl.constexpr,
    RESIDENT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Rows of a matrix as a tuple of tiles [n, BLOCK_K], of which the first stay in registers.

    The compiler puts a factor into shared memory unless it is a product itself, and the product with one is that.

    Args:
        at: pointers to the first column of each row, [n, 1].
        in_row: which rows there are, [n, 1].
        N: columns.
        RESIDENT: tiles that stay in registers.
        BLOCK_K, PARTS: columns of a tile, tiles.
    """
    o_k = tl.arange(0, BLOCK_K)
    one = (o_k[:, None] == o_k[None, :]).to(at.dtype.element_ty)
    tiles = ()
    for part in tl.static_range(PARTS):
        o = part * BLOCK_K + o_k[None, :]
        tile = tl.load(at + o, mask=in_row & (o < N), other=0.0)
        if part < RESIDENT:
            tile = product(tile, one).to(tile.dtype)
        tiles += (tile,)  # type: ignore[assignment]
    return tiles


@triton.jit
def sum_of_resident(tiles, rows, PARTS: tl.constexpr):
    """The product of tiles of states [rows, BLOCK_K] and what `load_resident` loaded, [rows, n] in float32."""
    total = product(rows[0], tl.trans(tiles[0]))
    for part in tl.static_range(1, PARTS):
        total = add_product(total, rows[part], tl.trans(tiles[part]))
    return tl.trans(total)
