"""Products of states [n, H] with few columns [H, W] on the CPU, compiled by Numba for the processor at hand.

A library packs a matrix before it multiplies it, which pays where each element is used hundreds of times. Here it is
used W times, and is read where it lies: the sums of a tile of rows and columns stay in registers while a
part of the inner dimension passes by, one vector of the right side and one element of the left at a time. The columns
are padded to whole vectors. `benchmarks/bench_skinny.py` has the times.

Numba's own vectoriser does not see such a tile; its sums are written in LLVM's vectors here.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from gatescope.engine.log_loss_host import compiled

VECTOR_BYTES = 32
# Rows of the states whose products with the residuals are summed at once: they lie a row of X apart, on so many pages.
DEPTH = 16

# It writes LLVM's instructions where it is called, once the integers among its arguments are known.
_compiled_in_place: Any = intrinsic(prefer_literal=True)


def states_times(states: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return X V, [n, W], of X [n, H] and V [H, W]: X contiguous, both of one type, float32 or float64."""
    (n_rows, n_units), width = states.shape, columns.shape[1]
    padded = _padded(columns)
    out = np.zeros((n_rows, padded.shape[1]), states.dtype)
    _add_product(states.reshape(-1), n_units, 1, padded, out, n_units)
    return out[:, :width]


def states_with(states: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return X' R, [H, W], of X [n, H] and R [n, W]: X contiguous, both of one type, float32 or float64."""
    n_units, width = states.shape[1], columns.shape[1]
    padded = _padded(columns)
    out = np.zeros((n_units, padded.shape[1]), states.dtype)
    _add_product(states.reshape(-1), 1, n_units, padded, out, DEPTH)
    return out[:, :width]


def _padded(columns: np.ndarray) -> np.ndarray:
    """Return columns [m, W] with columns of zeros up to whole vectors."""
    lanes, (height, width) = VECTOR_BYTES // columns.itemsize, columns.shape
    if width % lanes == 0:
        return np.ascontiguousarray(columns)
    padded = np.zeros((height, -(-width // lanes) * lanes), columns.dtype)
    padded[:, :width] = columns
    return padded


@_compiled_in_place
def _add_tile(
    typingctx: Any,
    n_rows: Any,
    n_vectors: Any,
    left: Any,
    start: Any,
    row: Any,
    step: Any,
    right: Any,
    top: Any,
    out: Any,
    place: Any,
    width: Any,
    depth: Any,
) -> Any:
    """Add to a tile of `out` the product of rows of the left side and columns of the right side.

    Args:
        n_rows, n_vectors: of the tile, integers known when it is compiled.
        left, start: where the rows begin; the next is `row` elements further, the next of the inner dimension `step`.
        right, top, width: where the columns begin, and the length of a row.
        out, place: where the tile begins; its rows are `width` long, too.
        depth: of the inner dimension.
    """
    signature = numba.types.void(n_rows, n_vectors, left, start, row, step, right, top, out, place, width, depth)
    item, rows, vectors = left.dtype, range(n_rows.literal_value), range(n_vectors.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar, size, index = context.get_value_type(item), item.bitwidth // 8, ir.IntType(32)
        lanes = VECTOR_BYTES // size
        vector = ir.VectorType(scalar, lanes)
        start, row, step, top, place, width, depth = (arguments[i] for i in (3, 4, 5, 7, 9, 10, 11))
        left, right, out = (
            cgutils.create_struct_proxy(signature.args[i])(context, builder, arguments[i]).data for i in (2, 6, 8)
        )

        def moved(pointer: Any, count: Any, distance: Any) -> Any:
            return builder.gep(pointer, [builder.mul(count, distance)])

        def vector_at(pointer: Any, number: int) -> Any:
            return builder.bitcast(builder.gep(pointer, [index(number * lanes)]), vector.as_pointer())

        def loaded(pointer: Any) -> Any:
            value = builder.load(pointer)
            value.align = size
            return value

        def spread(value: Any) -> Any:
            one = builder.insert_element(vector(ir.Undefined), value, index(0))
            return builder.shuffle_vector(one, vector(ir.Undefined), ir.VectorType(index, lanes)([0] * lanes))

        def add(total: Any, one: Any, other: Any) -> None:
            product = builder.fmul(one, other, flags=["contract"])
            builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)

        left, right, out = (builder.gep(*pair) for pair in ((left, [start]), (right, [top]), (out, [place])))
        zero = vector([0.0] * lanes)
        # LLVM keeps them in registers.
        totals = [[cgutils.alloca_once_value(builder, zero) for _ in vectors] for _ in rows]
        with cgutils.for_range(builder, depth) as loop:
            a, b = moved(left, loop.index, step), moved(right, loop.index, width)
            # What there is less of is loaded first and stays: with the totals it fills the registers.
            if len(rows) < len(vectors):
                spreads = [spread(builder.load(moved(a, row.type(r), row))) for r in rows]
                for v in vectors:
                    columns = loaded(vector_at(b, v))
                    for r in rows:
                        add(totals[r][v], spreads[r], columns)
            else:
                columns_of = [loaded(vector_at(b, v)) for v in vectors]
                for r in rows:
                    element = spread(builder.load(moved(a, row.type(r), row)))
                    for v in vectors:
                        add(totals[r][v], element, columns_of[v])
        for r in rows:
            at = moved(out, width.type(r), width)
            for v in vectors:
                before = loaded(vector_at(at, v))
                stored = builder.store(builder.fadd(before, builder.load(totals[r][v])), vector_at(at, v))
                stored.align = size
        return context.get_dummy_value()

    return signature, generate


def _add(left: Any, row: int, step: int, right: Any, out: Any, depth: int) -> None:
    """Add a product to out [m, W], W whole vectors: left [m, k], flat, whose elements lie `row` and `step` apart.

    Args:
        depth: of the inner dimension k that is summed at once.
    """
    (height, width), lanes = out.shape, VECTOR_BYTES // right.itemsize
    for top in range(0, len(right), depth):
        part = min(depth, len(right) - top)
        for column in range(0, width, 4 * lanes):
            n_vectors, i, at = min(4, (width - column) // lanes), 0, top * width + column
            # As many sums as sixteen registers hold beside what they are made of.
            n_rows = 3 if n_vectors == 4 else 4 if n_vectors == 3 else 6 if n_vectors == 2 else 8
            while i < height:
                start, place, whole = i * row + top * step, i * width + column, i + n_rows <= height
                if n_vectors == 4 and whole:
                    _add_tile(3, 4, left, start, row, step, right, at, out, place, width, part)
                elif n_vectors == 3 and whole:
                    _add_tile(4, 3, left, start, row, step, right, at, out, place, width, part)
                elif n_vectors == 2 and whole:
                    _add_tile(6, 2, left, start, row, step, right, at, out, place, width, part)
                elif whole:
                    _add_tile(8, 1, left, start, row, step, right, at, out, place, width, part)
                else:
                    for vector in range(n_vectors):
                        moved = vector * lanes
                        _add_tile(1, 1, left, start, row, step, right, at + moved, out, place + moved, width, part)
                i += n_rows if whole else 1


_add_product = compiled(_add)
