"""Loads and stores where the products of tensor cores have left their sums, without a way through shared memory.

Triton lays a tile that is loaded or stored out for words of 16 bytes. Between that and the layout of products the tile
passes through shared memory, with two barriers and room for all of it. What is moved here stays in its layout: in a
product of weights [units, K] and states [K, rows] eight threads have eight units of a row that follow each other, a
sector of memory in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.grid import INTERPRETED

LOAD = tl.constexpr("ld.global.f32 $0, [$1];")
# The assembler is owed a result.
STORE = tl.constexpr("st.global.b32 [$1], $2; mov.b32 $0, 0;")
STORE_OWN = tl.constexpr("{ .reg .pred %own; setp.ne.s32 %own, $3, 0; @%own st.global.b32 [$1], $2; mov.b32 $0, 0; }")
FIRST = tl.constexpr("shfl.sync.idx.b32 $0, $1, 0, 31, 0xffffffff;")


@triton.jit
def load_unstaged(at):
    """Float32 that no thread changes, from pointers in whatever layout they have."""
    if INTERPRETED:
        return tl.load(at)
    else:
        return tl.inline_asm_elementwise(LOAD, "=f,l", [at.to(tl.int64)], tl.float32, is_pure=True, pack=1)


@triton.jit
def store_unstaged(at, values, mask=None):
    """Store int32 or float32 where pointers of the same layout point to."""
    if INTERPRETED:
        tl.store(at, values, mask=mask)
    elif mask is None:
        given = [at.to(tl.int64), values.to(tl.int32, bitcast=True)]
        tl.inline_asm_elementwise(STORE, "=r,l,r", given, tl.int32, is_pure=False, pack=1)
    else:
        given = [at.to(tl.int64), values.to(tl.int32, bitcast=True), mask.to(tl.int32)]
        tl.inline_asm_elementwise(STORE_OWN, "=r,l,r,r", given, tl.int32, is_pure=False, pack=1)


@triton.jit
def known_alike(x):
    """A number that all threads have, as the compiler can see: what depends on it is computed once a warp."""
    if INTERPRETED:
        return x
    else:
        return tl.inline_asm_elementwise(FIRST, "=r,r", [x], tl.int32, is_pure=True, pack=1)
