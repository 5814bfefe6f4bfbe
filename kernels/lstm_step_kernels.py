"""The LSTM's kernels for single steps: everything but the matrix products; arrays as in `lstm_kernels`.

The step is an argument, instead of pointers offset to it, so that the launches of all steps differ in nothing else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.grid import RUNTIME
from gatescope.kernels.lstm_kernels import step, step_back
from gatescope.kernels.pointwise import as_float32, load_blocks, passed_on, store_blocks


@triton.jit(do_not_specialize=RUNTIME)
def forward_step_kernel(a_ptr, c0_ptr, reset_ptr, states_ptr, c_ptr, t, n_rows, H: tl.constexpr, BLOCK: tl.constexpr):
    """One step of one row after the products: activations in place, cell and hidden state."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h, at = o_h < H, t * n_rows.to(tl.int64) + row
    a_at = a_ptr + at * (4 * H) + o_h
    a_i, a_f, a_g, a_o = as_float32(load_blocks(a_at, in_h, H, 4))
    c = tl.load(c0_ptr + row * H + o_h, mask=in_h & (t == 0), other=0.0).to(tl.float32)
    c += tl.load(c_ptr + (at - n_rows) * H + o_h, mask=in_h & (t > 0), other=0.0)
    if reset_ptr is not None:
        c = tl.where(tl.load(reset_ptr + at) != 0, 0.0, c)
    i, f, g, o, c, h = step(a_i, a_f, a_g, a_o, c, a_ptr.dtype.element_ty)
    store_blocks(a_at, in_h, (i, f, g, o), H)
    tl.store(c_ptr + at * H + o_h, c, mask=in_h)
    tl.store(states_ptr + (at + n_rows) * H + o_h, h, mask=in_h)


@triton.jit(do_not_specialize=RUNTIME)
def backward_step_kernel(
    a_ptr,
    c0_ptr,
    c_ptr,
    reset_ptr,
    dy_ptr,
    through_ptr,
    dcells_ptr,
    dsaved_ptr,
    da_ptr,
    dc_ptr,
    t,
    first_step,
    n_rows,
    n_steps,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One step of one row before the product: gradients before the activations, and the cell's gradient in place."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h, at = o_h < H, t * n_rows.to(tl.int64) + row
    o_own, o_gate = at * H + o_h, at * (4 * H) + o_h
    i, f, g, o = as_float32(load_blocks(a_ptr + o_gate, in_h, H, 4))
    c = tl.load(c_ptr + o_own, mask=in_h, other=0.0)
    before = tl.load(c0_ptr + row * H + o_h, mask=in_h & (t == 0), other=0.0).to(tl.float32)
    before += tl.load(c_ptr + (at - n_rows) * H + o_h, mask=in_h & (t > 0), other=0.0)
    o_read = ((t - first_step) * n_rows.to(tl.int64) + row) * H + o_h
    dh = tl.load(dy_ptr + o_read, mask=in_h, other=0.0).to(tl.float32)
    dh += passed_on(through_ptr, reset_ptr, row, at, o_h, t + 1 < n_steps, n_rows, H)
    dc = tl.load(dc_ptr + row * H + o_h, mask=in_h, other=0.0)
    given_i, given_f, given_g, given_o = 0.0, 0.0, 0.0, 0.0
    if dsaved_ptr is not None:
        given_i, given_f, given_g, given_o = as_float32(load_blocks(dsaved_ptr + o_gate, in_h, H, 4))
    if dcells_ptr is not None:
        dc += tl.load(dcells_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    here = False
    if reset_ptr is not None:
        here = tl.load(reset_ptr + at) != 0
        before = tl.where(here, 0.0, before)
    s_i, s_f, s_g, s_o, dc = step_back(
        i, f, g, o, c, before, dh, dc, given_i, given_f, given_g, given_o, a_ptr.dtype.element_ty
    )
    store_blocks(da_ptr + o_gate, in_h, (s_i, s_f, s_g, s_o), H)
    tl.store(dc_ptr + row * H + o_h, tl.where(here, 0.0, dc), mask=in_h)
