"""The LSTM's kernels of single steps, beside whose products they do everything else; arrays as in `lstm_kernels`."""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.lstm_kernels import step, step_back
from gatescope.kernels.pointwise import as_float32, load_blocks, passed_on, store_blocks


@triton.jit
def forward_step_kernel(a_ptr, before_ptr, reset_ptr, y_ptr, c_ptr, H: tl.constexpr, BLOCK: tl.constexpr):
    """One step of one row after the products: activations in place, cell and hidden state."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h = o_h < H
    at = a_ptr + row * (4 * H) + o_h
    a_i, a_f, a_g, a_o = as_float32(load_blocks(at, in_h, H, 4))
    c = tl.load(before_ptr + row * H + o_h, mask=in_h, other=0.0).to(tl.float32)
    if reset_ptr is not None:
        c = tl.where(tl.load(reset_ptr + row) != 0, 0.0, c)
    i, f, g, o, c, h = step(a_i, a_f, a_g, a_o, c)
    store_blocks(at, in_h, (i, f, g, o), H)
    tl.store(c_ptr + row * H + o_h, c, mask=in_h)
    tl.store(y_ptr + row * H + o_h, h, mask=in_h)


@triton.jit
def backward_step_kernel(
    a_ptr,
    c_ptr,
    before_ptr,
    reset_ptr,
    dy_ptr,
    through_ptr,
    cut_ptr,
    dcells_ptr,
    own_ptr,
    da_ptr,
    dc_ptr,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One step of one row before the product: gradients before the activations, and that of the cell in place."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h = o_h < H
    o_own, o_gate = row * H + o_h, row * (4 * H) + o_h
    i, f, g, o = as_float32(load_blocks(a_ptr + o_gate, in_h, H, 4))
    c = tl.load(c_ptr + o_own, mask=in_h, other=0.0)
    before = tl.load(before_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    dh = tl.load(dy_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    if through_ptr is not None:
        dh += passed_on(through_ptr + o_own, cut_ptr, row, in_h)
    dc = tl.load(dc_ptr + o_own, mask=in_h, other=0.0)
    own_i, own_f, own_g, own_o = 0.0, 0.0, 0.0, 0.0
    if own_ptr is not None:
        own_i, own_f, own_g, own_o = as_float32(load_blocks(own_ptr + o_gate, in_h, H, 4))
    if dcells_ptr is not None:
        dc += tl.load(dcells_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    here = False
    if reset_ptr is not None:
        here = tl.load(reset_ptr + row) != 0
        before = tl.where(here, 0.0, before)
    s_i, s_f, s_g, s_o, dc = step_back(i, f, g, o, c, before, dh, dc, own_i, own_f, own_g, own_o)
    store_blocks(da_ptr + o_gate, in_h, (s_i, s_f, s_g, s_o), H)
    tl.store(dc_ptr + o_own, tl.where(here, 0.0, dc), mask=in_h)
