"""Matrix products inside a persistent kernel: weights that stay on chip, states that come from memory.

The inner dimension is processed in parts of BLOCK_K, so that registers hold no more of a tile of states than the tensor
cores need, and H = 768 takes three parts of 256 rather than one of 1024.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.grid import INTERPRETED


@triton.jit
def as_factor(x):
    """A tile as tensor cores multiply it: float32 is rounded to TF32, with its 10 bits of fraction.

    Tensor cores would truncate the other bits, which brings every factor nearer to zero, and with it every sum. The
    assembly is not declared pure: the compiler would move a pure operation to where warps read the factor, and repeat
    it for each warp.
    """
    # The interpreter multiplies all bits.
    if INTERPRETED or x.dtype != tl.float32:
        return x
    else:
        return tl.inline_asm_elementwise("cvt.rna.tf32.f32 $0, $1;", "=r,r", [x], tl.float32, is_pure=False, pack=1)


@triton.jit
def load_parts(at, in_row, N: tl.constexpr, BLOCK_K: tl.constexpr, PARTS: tl.constexpr, CACHE: tl.constexpr):
    """Rows of a matrix as a tuple of tiles [rows, BLOCK_K].

    Args:
        at: pointers to the first column of each row, [rows, 1].
        in_row: mask of the rows that exist, [rows, 1].
        N: columns.
        BLOCK_K, PARTS: columns of a tile, number of tiles.
        CACHE: cache modifier; ".cg" bypasses the first-level cache, which does not see other programs' stores.
    """
    o_k = tl.arange(0, BLOCK_K)[None, :]
    tiles = ()
    for part in tl.static_range(PARTS):
        o = part * BLOCK_K + o_k
        tiles += (tl.load(at + o, mask=in_row & (o < N), other=0.0, cache_modifier=CACHE),)  # type: ignore[assignment]
    return tiles


@triton.jit
def load_ahead(
    at,
    in_row,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    FIRST: tl.constexpr,
    COUNT: tl.constexpr,
):
    """Some of the tiles of consecutive blocks [rows, N], from memory that other programs store to.

    Args:
        at: pointers to the first column of each row in the first block, [rows, 1]; the others follow, N apart.
        in_row: mask of the rows that exist, [rows, 1].
        N: columns of a block.
        BLOCK_K, PARTS: columns of a tile, tiles of a block.
        FIRST, COUNT: the first tile and the number of tiles, over all blocks.
    """
    tiles = ()
    for k in tl.static_range(FIRST, FIRST + COUNT):
        o = (k % PARTS) * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        tiles += (  # type: ignore[assignment]
            tl.load(at + (k // PARTS) * N + o, mask=in_row & (o < N), other=0.0, cache_modifier=".cg"),
        )
    return tiles


@triton.jit
def load_columns(
    at,
    in_column,
    N: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Columns of a matrix as a tuple of tiles [BLOCK_K, columns], factors of products.

    Args:
        at: pointers to the first row of each column, [1, columns].
        in_column: mask of the columns that exist, [1, columns].
        N: rows.
        STRIDE: entries from a row to the next.
        BLOCK_K, PARTS: rows of a tile, number of tiles.
    """
    o_k = tl.arange(0, BLOCK_K)[:, None]
    tiles = ()
    for part in tl.static_range(PARTS):
        o = part * BLOCK_K + o_k
        tile = tl.load(at + o * STRIDE, mask=in_column & (o < N), other=0.0)
        tiles += (as_factor(tile),)  # type: ignore[assignment]
    return tiles


@triton.jit
def product(a, b):
    """The product of two tiles in float32; the factors have 16 bits, or are float32 and multiplied in TF32.

    `max_num_imprecise_acc`, which only 8-bit products heed, keeps the compiler from accumulating one product into the
    next: it would lay them out as a chain, each a factor of the next, and spill.
    """
    # The interpreter multiplies the bit patterns of bfloat16.
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:
        return tl.dot(a, b, input_precision="tf32", max_num_imprecise_acc=1 << 20)


@triton.jit
def add_product(total, a, b):
    """A total in float32 plus the product of two tiles, accumulated by the product itself."""
    # The interpreter multiplies the bit patterns of bfloat16.
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
    else:
        return tl.dot(a, b, total, input_precision="tf32")


@triton.jit
def with_product(total, a, b, WARP_GROUPS: tl.constexpr):
    """A total in float32 plus one more product of two tiles.

    Where each warp multiplies by itself (mma.sync), the product accumulates into the total. For separate products the
    compiler would load the tiles of several at once, using all registers, and spill the rest. Warp groups (wgmma) keep
    their products separate, for the reason that `product` gives.
    """
    if WARP_GROUPS:
        return total + product(a, b)
    else:
        return add_product(total, a, b)


@triton.jit
def sum_of_loaded(
    tiles,
    at,
    in_row,
    columns,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCKS: tl.constexpr,
    AHEAD: tl.constexpr,
    WARP_GROUPS: tl.constexpr,
):
    """The sum over blocks [rows, N] in memory times tiles [BLOCK_K, columns], in float32.

    A tile is loaded when the one AHEAD places before it is multiplied: shared memory holds that many at once, however
    many blocks there are.

    Args:
        tiles: the first AHEAD of them, loaded by `load_ahead`.
        at, in_row, N, BLOCK_K, PARTS: as in `load_ahead`.
        columns: a tuple of BLOCKS * PARTS tiles, block after block.
        BLOCKS: number of blocks.
        AHEAD: tiles in flight at once.
        WARP_GROUPS: whether warp groups multiply.
    """
    total = product(as_factor(tiles[0]), columns[0])
    for k in tl.static_range(1, BLOCKS * PARTS):
        if k + AHEAD - 1 < BLOCKS * PARTS:
            tiles += load_ahead(at, in_row, N, BLOCK_K, PARTS, k + AHEAD - 1, 1)
        total = with_product(total, as_factor(tiles[k]), columns[k], WARP_GROUPS)
    return total


@triton.jit
def sum_of_products(rows, columns, PARTS: tl.constexpr, WARP_GROUPS: tl.constexpr):
    """The product of tuples of tiles, [rows, BLOCK_K] and [BLOCK_K, columns], summed over the parts in float32."""
    total = product(as_factor(rows[0]), columns[0])
    for part in tl.static_range(1, PARTS):
        total = with_product(total, as_factor(rows[part]), columns[part], WARP_GROUPS)
    return total
