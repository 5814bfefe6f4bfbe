"""Products of a matrix with a few columns, whose sums stay in registers, for functions that Numba compiles.

A library packs a matrix before it multiplies it, which pays if each element is used hundreds of times. Here it is read
where it lies: the sums of a tile of rows and columns stay in registers while part of the inner dimension is processed,
one vector of the right side and one element of the left at a time.

Numba's own vectoriser does not find such a tile, so its sums are written here in LLVM's vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils, codegen
from numba.extending import intrinsic, register_jitable

# Features of the processor that Numba compiles for, such as "+avx512f".
_SETTINGS: Any = numba.config
FEATURES = (codegen.get_host_cpu_features() if _SETTINGS.CPU_FEATURES is None else _SETTINGS.CPU_FEATURES).split(",")
# Whether the processor converts float16; without that LLVM calls functions that Numba does not provide.
HALVES = "+f16c" in FEATURES
VECTOR_BYTES = 64 if "+avx512f" in FEATURES else 32
# A panel is `panel_width` columns or fewer, a multiple of this many bytes.
PART_BYTES = 32
# Rows of a tile by its width in vectors: as many sums as fit in sixteen registers beside their factors; of 32
# registers, half are enough.
ROWS = {1: 8, 2: 8, 3: 8, 4: 4} if VECTOR_BYTES == 64 else {1: 8, 2: 6, 3: 4, 4: 3}
# Whether the processor multiplies pairs of bfloat16 and adds both products to a sum in float32.
PAIRS = "+avx512f" in FEATURES and "+avx512bf16" in FEATURES
if PAIRS:
    # The instruction is given by its assembler name: the arguments of LLVM's intrinsic have changed.
    llvmlite.binding.initialize_native_asmparser()


@register_jitable
def panel_width(item_bytes: int) -> int:
    """The columns of a whole panel, four vectors of the processor."""
    return 4 * VECTOR_BYTES // item_bytes


class _Side(NamedTuple):
    """Where a matrix begins, and the distances to its next row and to the next element of its inner dimension."""

    pointer: Any
    row: Any
    step: Any

    def at(self, builder: Any, row: Any, step: Any) -> Any:
        return builder.gep(self.pointer, [builder.add(builder.mul(row, self.row), builder.mul(step, self.step))])


# It emits LLVM's instructions in its caller.
compiled_in_place: Any = intrinsic


@compiled_in_place
def add_panel(
    typingctx: Any,
    n_rows: Any,
    n_columns: Any,
    depth: Any,
    left: Any,
    start: Any,
    row: Any,
    step: Any,
    right: Any,
    top: Any,
    height: Any,
    out: Any,
    place: Any,
    width: Any,
) -> Any:
    """Add the product of rows of the left side and columns of the right side to a panel of `out`.

    All arrays are flat: float32 or float64, or pairs of bfloat16 as int32 on both sides, whose products are summed in
    float32.

    Args:
        n_rows, n_columns: of the panel; at most four vectors of columns, a multiple of PART_BYTES.
        depth: of the inner dimension.
        left, start: where the rows begin; the next row is `row` elements further, the next inner element `step`.
        right, top: where the columns begin; the next inner element is `height` elements further.
        out, place: where the panel begins; the next row is `width` elements further.
    """
    sizes = n_rows, n_columns, depth
    signature = numba.types.void(*sizes, left, start, row, step, right, top, height, out, place, width)
    bits = out.dtype.bitwidth
    lanes, part = VECTOR_BYTES * 8 // bits, PART_BYTES * 8 // bits

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def side(i: int, row: Any, step: Any) -> _Side:
            data = cgutils.create_struct_proxy(signature.args[i])(context, builder, arguments[i]).data
            return _Side(builder.gep(data, [arguments[i + 1]]), row, step)

        n_rows, n_columns, depth = arguments[:3]
        integer = n_rows.type
        one, zero = integer(1), integer(0)
        a, b, c = side(3, *arguments[5:7]), side(7, one, arguments[9]), side(10, arguments[12], one)
        for columns in range(part, 4 * lanes + 1, part):
            with builder.if_then(builder.icmp_signed("==", n_columns, integer(columns))):
                widths = [min(lanes, columns - first) for first in range(0, columns, lanes)]
                tall = ROWS[len(widths)]
                whole = builder.mul(builder.sdiv(n_rows, integer(tall)), integer(tall))
                for first, stop, n in ((zero, whole, tall), (whole, n_rows, 1)):
                    with cgutils.for_range_slice(builder, first, stop, integer(n)) as (i, _):
                        _add_tile(builder, n, widths, depth, a, b, c, i)
        return context.get_dummy_value()

    return signature, generate


def _add_tile(builder: Any, n_rows: int, widths: list[int], depth: Any, a: _Side, b: _Side, c: _Side, i: Any) -> None:
    """Add the product of n_rows rows from i on and columns in vectors of these widths."""
    rows, vectors = range(n_rows), range(len(widths))
    add_product = _add_pairs if isinstance(a.pointer.type.pointee, ir.IntType) else _add_contracted
    integer = i.type
    zero = integer(0)

    def types_of(side: _Side) -> list[Any]:
        return [ir.VectorType(side.pointer.type.pointee, n) for n in widths]

    # LLVM keeps them in registers.
    totals = [[cgutils.alloca_once_value(builder, kind([0.0] * kind.count)) for kind in types_of(c)] for _ in rows]
    with cgutils.for_range(builder, depth, intp=integer) as loop:

        def element(r: int, kind: Any) -> Any:
            return _spread(builder, a.at(builder, builder.add(i, integer(r)), loop.index), kind)

        def add(r: int, v: int, x: Any, y: Any) -> None:
            builder.store(add_product(builder, x, y, builder.load(totals[r][v])), totals[r][v])

        beside = b.at(builder, zero, loop.index)
        # The smaller side is loaded first and stays in registers: with the totals it fills them.
        if len(rows) < len(vectors):
            kept = [[element(r, kind) for kind in types_of(a)] for r in rows]
            for v, y in _vectors(builder, beside, types_of(b)):
                for r in rows:
                    add(r, v, kept[r][v], _loaded(builder, y))
        else:
            columns = [_loaded(builder, y) for _, y in _vectors(builder, beside, types_of(b))]
            for r in rows:
                for v, kind in enumerate(types_of(a)):
                    add(r, v, element(r, kind), columns[v])
    for r in rows:
        for v, at in _vectors(builder, c.at(builder, builder.add(i, integer(r)), zero), types_of(c)):
            stored = builder.store(builder.fadd(_loaded(builder, at), builder.load(totals[r][v])), at)
            stored.align = _item_bytes(at)


def _add_contracted(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Return total + x y, rounded once."""
    return builder.fadd(total, builder.fmul(x, y, flags=["contract"]), flags=["contract"])


def _add_pairs(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Return total + x[0] y[0] + x[1] y[1] of vectors of pairs of bfloat16."""
    signature = ir.FunctionType(total.type, [x.type, y.type, total.type])
    return builder.call(ir.InlineAsm(signature, "vdpbf16ps $2, $1, $0", "=v,v,v,0"), [x, y, total])


def _vectors(builder: Any, pointer: Any, kinds: list[Any]) -> list[tuple[int, Any]]:
    """Number the consecutive vectors from a pointer on, and give the address of each."""
    firsts = [sum(kind.count for kind in kinds[:v]) for v in range(len(kinds))]
    return [
        (v, builder.bitcast(builder.gep(pointer, [ir.IntType(64)(first)]), kind.as_pointer()))
        for v, (first, kind) in enumerate(zip(firsts, kinds, strict=True))
    ]


def _loaded(builder: Any, pointer: Any) -> Any:
    """Load the vector at a pointer, of which only the elements are aligned."""
    value = builder.load(pointer)
    value.align = _item_bytes(pointer)
    return value


def _item_bytes(pointer: Any) -> int:
    item = pointer.type.pointee.element
    return 8 if isinstance(item, ir.DoubleType) else 4


def _spread(builder: Any, pointer: Any, kind: Any) -> Any:
    """Broadcast the element at a pointer to a vector."""
    nothing, index = kind(ir.Undefined), ir.IntType(32)
    one = builder.insert_element(nothing, builder.load(pointer), index(0))
    return builder.shuffle_vector(one, nothing, ir.VectorType(index, kind.count)([0] * kind.count))
