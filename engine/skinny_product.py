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

from gatescope.kernels.host import compiled

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
        scalar, size = context.get_value_type(item), item.bitwidth // 8
        vector = ir.VectorType(scalar, VECTOR_BYTES // size)
        row, step, width, depth = (arguments[i] for i in (4, 5, 10, 11))
        # Where the sides and the tile begin.
        a, b, c = (
            builder.gep(cgutils.create_struct_proxy(signature.args[i])(context, builder, arguments[i]).data, [first])
            for i, first in ((2, arguments[3]), (6, arguments[7]), (8, arguments[9]))
        )
        # LLVM keeps them in registers.
        zero = vector([0.0] * vector.count)
        totals = [[cgutils.alloca_once_value(builder, zero) for _ in vectors] for _ in rows]
        with cgutils.for_range(builder, depth) as loop:
            elements, columns = (builder.gep(p, [builder.mul(loop.index, by)]) for p, by in ((a, step), (b, width)))

            def element(r: int) -> Any:
                return _spread(builder, _moved(builder, elements, r, row), vector)

            def some_columns(v: int) -> Any:
                return _loaded(builder, _vector_at(builder, columns, v, vector), size)

            def add(r: int, v: int, x: Any, y: Any) -> None:
                product = builder.fmul(x, y, flags=["contract"])
                total = builder.fadd(builder.load(totals[r][v]), product, flags=["contract"])
                builder.store(total, totals[r][v])

            # What there is less of is loaded first and stays: with the totals it fills the registers.
            if len(rows) < len(vectors):
                kept = [element(r) for r in rows]
                for v in vectors:
                    y = some_columns(v)
                    for r in rows:
                        add(r, v, kept[r], y)
            else:
                kept = [some_columns(v) for v in vectors]
                for r in rows:
                    x = element(r)
                    for v in vectors:
                        add(r, v, x, kept[v])
        for r in rows:
            for v in vectors:
                place = _vector_at(builder, _moved(builder, c, r, width), v, vector)
                stored = builder.store(builder.fadd(_loaded(builder, place, size), builder.load(totals[r][v])), place)
                stored.align = size
        return context.get_dummy_value()

    return signature, generate


def _moved(builder: Any, pointer: Any, count: int, distance: Any) -> Any:
    return builder.gep(pointer, [builder.mul(distance.type(count), distance)])


def _vector_at(builder: Any, pointer: Any, number: int, vector: Any) -> Any:
    """Where a vector of those that lie one after another begins."""
    return builder.bitcast(builder.gep(pointer, [ir.IntType(64)(number * vector.count)]), vector.as_pointer())


def _loaded(builder: Any, pointer: Any, size: int) -> Any:
    value = builder.load(pointer)
    value.align = size
    return value


def _spread(builder: Any, pointer: Any, vector: Any) -> Any:
    """A vector of the element that a pointer points to."""
    nothing, index = vector(ir.Undefined), ir.IntType(32)
    one = builder.insert_element(nothing, builder.load(pointer), index(0))
    return builder.shuffle_vector(one, nothing, ir.VectorType(index, vector.count)([0] * vector.count))


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
