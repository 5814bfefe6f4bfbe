"""Loads and stores in the layout of tensor cores' products, without staging through shared memory.

Triton gives a tile that is loaded or stored a layout of 16-byte words. To convert between that and the layout of a
product, the tile passes through shared memory, which takes two barriers and room for all of it. What is moved here
stays in the product's layout: in a product of weights [units, K] and states [K, rows], eight threads hold eight
consecutive units of a row, one sector of memory in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.grid import INTERPRETED

LOAD = tl.constexpr("ld.global.f32 $0, [$1];")
# The inline assembly must have a result.
STORE = tl.constexpr("st.global.b32 [$1], $2; mov.b32 $0, 0;")
STORE_OWN = tl.constexpr("{ .reg .pred %own; setp.ne.s32 %own, $3, 0; @%own st.global.b32 [$1], $2; mov.b32 $0, 0; }")
FIRST = tl.constexpr("shfl.sync.idx.b32 $0, $1, 0, 31, 0xffffffff;")


@triton.jit
def load_unstaged(at):
    """Load float32 that no thread changes, from pointers in whatever layout they have."""
    if INTERPRETED:
        return tl.load(at)
    else:
        return tl.inline_asm_elementwise(LOAD, "=f,l", [at.to(tl.int64)], tl.float32, is_pure=True, pack=1)


@triton.jit
def store_unstaged(at, values, mask=None):
    """Store int32 or float32 to pointers of the same layout."""
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
    """A number that all threads share, as the compiler can see: what depends on it is computed once a warp."""
    if INTERPRETED:
        return x
    else:
        return tl.inline_asm_elementwise(FIRST, "=r,r", [x], tl.int32, is_pure=True, pack=1)
