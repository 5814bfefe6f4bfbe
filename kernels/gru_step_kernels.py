"""The GRU's kernels for single steps: everything but the matrix products; arrays as in `gru_kernels`.

As in `lstm_step_kernels`, the step is an argument.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.grid import RUNTIME
from gatescope.kernels.gru_kernels import FIRST, SECOND, first_back
from gatescope.kernels.pointwise import as_float32, load_blocks, passed_on, sigmoid, sigmoid_back, tanh


@triton.jit(do_not_specialize=RUNTIME)
def forward_step_kernel(
    a_ptr,
    reset_ptr,
    states_ptr,
    t,
    n_rows,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    AFTER: tl.constexpr,
    PHASE: tl.constexpr,
):
    """One step of one row, or a part of it, after the products: activations in place, and the hidden state."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h, at = o_h < H, t * n_rows.to(tl.int64) + row
    a_at = a_ptr + at * (4 * H) + o_h
    r, z = as_float32(load_blocks(a_at + H, in_h, H, 2))
    h = tl.load(states_ptr + at * H + o_h, mask=in_h, other=0.0).to(tl.float32)
    if reset_ptr is not None:
        h = tl.where(tl.load(reset_ptr + at) != 0, 0.0, h)
    if PHASE != SECOND:
        r, z = sigmoid(r), sigmoid(z)
        tl.store(a_at + H, r, mask=in_h)
        tl.store(a_at + 2 * H, z, mask=in_h)
        if not AFTER:
            tl.store(a_at, r * h, mask=in_h)
    if PHASE != FIRST:
        n = tl.load(a_at + 3 * H, mask=in_h, other=0.0).to(tl.float32)
        if AFTER:
            n += r * tl.load(a_at, mask=in_h, other=0.0).to(tl.float32)
        n = tanh(n, a_ptr.dtype.element_ty)
        tl.store(a_at + 3 * H, n, mask=in_h)
        tl.store(states_ptr + (at + n_rows) * H + o_h, n + z * (h - n), mask=in_h)


@triton.jit(do_not_specialize=RUNTIME)
def backward_step_kernel(
    a_ptr,
    states_ptr,
    reset_ptr,
    dy_ptr,
    through_ptr,
    dq_ptr,
    dsaved_ptr,
    da_ptr,
    passed_ptr,
    t,
    first_step,
    n_rows,
    n_steps,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    AFTER: tl.constexpr,
    PHASE: tl.constexpr,
):
    """One step of one row, or a part of it, before the product: gradients before the activations."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h, at = o_h < H, t * n_rows.to(tl.int64) + row
    o_own, o_gate = row * H + o_h, at * (4 * H) + o_h
    p, r, z, n = as_float32(load_blocks(a_ptr + o_gate, in_h, H, 4))
    h = tl.load(states_ptr + at * H + o_h, mask=in_h, other=0.0).to(tl.float32)
    o_read = ((t - first_step) * n_rows.to(tl.int64) + row) * H + o_h
    dh = tl.load(dy_ptr + o_read, mask=in_h, other=0.0).to(tl.float32)
    dh += tl.load(passed_ptr + o_own, mask=in_h, other=0.0)
    dh += passed_on(through_ptr, reset_ptr, row, at, o_h, t + 1 < n_steps, n_rows, H)
    given_p, given_r, given_z, given_n = 0.0, 0.0, 0.0, 0.0
    if dsaved_ptr is not None:
        given_p, given_r, given_z, given_n = as_float32(load_blocks(dsaved_ptr + o_gate, in_h, H, 4))
    here = False
    if reset_ptr is not None:
        here = tl.load(reset_ptr + at) != 0
        h = tl.where(here, 0.0, h)
    d_n, d_z, passed = first_back(z, n, h, dh, given_z, given_n)
    if PHASE != SECOND:
        tl.store(da_ptr + o_gate + 2 * H, d_z, mask=in_h)
        tl.store(da_ptr + o_gate + 3 * H, d_n, mask=in_h)
    if PHASE != FIRST:
        if AFTER:
            d_r = sigmoid_back(d_n * p + given_r, r)
            tl.store(da_ptr + o_gate, d_n * r + given_p, mask=in_h)
        else:
            d_q = tl.load(dq_ptr + o_own, mask=in_h, other=0.0).to(tl.float32) + given_p
            d_r = sigmoid_back(d_q * h + given_r, r)
            passed += d_q * r
        tl.store(da_ptr + o_gate + H, d_r, mask=in_h)
        tl.store(passed_ptr + o_own, tl.where(here, 0.0, passed), mask=in_h)
