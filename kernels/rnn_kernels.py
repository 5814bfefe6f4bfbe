"""The Elman network's kernels in Triton, which `gatescope.kernels.rnn_launch` binds to tensors.

`states` [T + 1, B, H] begins with h0; each later state takes the place of its input product.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.dropout_kernel import dropped, incoming, load_readers
from gatescope.kernels.grid import COUNTER_STRIDE, RUNTIME, arrive, wait
from gatescope.kernels.pointwise import tanh
from gatescope.kernels.resident import resident_columns, sum_alone
from gatescope.kernels.tiles import load_ahead, load_columns, load_parts, sum_of_loaded


@triton.jit
def activate(a, dtype: tl.constexpr, RELU: tl.constexpr):
    """The hidden state from the sum before the activation."""
    if RELU:
        # A NaN is passed on, as in torch.
        return tl.where(a < 0.0, 0.0, a)
    else:
        return tanh(a, dtype)


@triton.jit
def _slope(h, RELU: tl.constexpr):
    if RELU:
        return tl.where(h > 0.0, 1.0, 0.0)
    else:
        return 1.0 - h * h


@triton.jit(do_not_specialize=RUNTIME)
def forward_kernel(
    w_ptr,
    reset_ptr,
    states_ptr,
    above_ptr,
    seed_ptr,
    counter_ptr,
    t0,
    t1,
    row0,
    n_rows,
    first_row,
    layer,
    H: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    AHEAD: tl.constexpr,
    WARP_GROUPS: tl.constexpr,
    RESIDENT: tl.constexpr,
    RELU: tl.constexpr,
    P: tl.constexpr,
):
    """Walk forward: compute h_t of the program's rows and units from the previous states, at every step of the launch.

    Args:
        w_ptr, reset_ptr: W_hh [H, H], bool [T, B] or None.
        states_ptr: [T + 1, B, H], h0 and the input products with biases, which are overwritten with h.
        above_ptr, seed_ptr: input of the layer above [T, B, H], written, and the seed of its dropout, or None.
        counter_ptr: counters of the groups, zeroed; None with one column.
        RELU: whether the activation is ReLU rather than tanh.
    """
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b = rows < n_rows
    own, o_own = in_b & (o_h < H), rows * H + o_h
    if COLUMNS > 1:
        counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H

    w = load_columns(w_ptr + o_h * H, o_h < H, H, 1, BLOCK_K, PARTS)
    if COLUMNS == 1:
        if RESIDENT > 0:
            w = resident_columns(w)
        before = load_parts(states_ptr + t0 * size + rows * H, in_b, H, BLOCK_K, PARTS, "")
    # A step's own inputs are loaded before the barrier, and converted once the loads that wait for it are in flight.
    at = states_ptr + (t0 + 1) * size + o_own
    a = tl.load(at, mask=own, other=0.0)
    for t in range(t0, t1):
        if COLUMNS > 1:
            if t > t0:
                wait(counter, (t - t0) * COLUMNS)
            at_h = states_ptr + t * size + rows * H
            before = load_ahead(at_h, in_b, H, BLOCK_K, PARTS, 0, AHEAD)
        x = a.to(tl.float32)
        if reset_ptr is not None:
            clear = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0) != 0
        if COLUMNS > 1:
            sums = sum_of_loaded(before, at_h, in_b, w, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS)
        else:
            sums = sum_alone(before, w, RESIDENT, WARP_GROUPS)
        a = tl.load(at + size, mask=own & (t + 1 < t1), other=0.0)
        if reset_ptr is not None:
            sums = tl.where(clear, 0.0, sums)
        h = activate(x + sums, states_ptr.dtype.element_ty, RELU)
        tl.store(at, h, mask=own)
        if COLUMNS > 1:
            if t + 1 < t1:
                arrive(counter)
        else:
            before = (h.to(states_ptr.dtype.element_ty),)
        # Stores that no other program waits for come after the release.
        if above_ptr is not None:
            up = h.to(states_ptr.dtype.element_ty).to(tl.float32)
            tl.store(above_ptr + t * size + o_own, dropped(up, seed_ptr, o_h, rows + first_row, t, layer, P), mask=own)
        at += size


@triton.jit(do_not_specialize=RUNTIME)
def backward_kernel(
    w_ptr,
    y_ptr,
    reset_ptr,
    dy_ptr,
    da_ptr,
    above_ptr,
    seed_ptr,
    counter_ptr,
    t0,
    t1,
    row0,
    n_rows,
    n_steps,
    first_row,
    layer,
    H: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    AHEAD: tl.constexpr,
    WARP_GROUPS: tl.constexpr,
    RESIDENT: tl.constexpr,
    RELU: tl.constexpr,
    P: tl.constexpr,
):
    """Walk back: compute the gradients before the activations from those of the next step.

    Args:
        w_ptr, y_ptr, reset_ptr: W_hh [H, H], h [T, B, H], bool [T, B] or None.
        da_ptr: the gradients [T, B, H], written.
        dy_ptr: the caller's gradients of the states, [T, B, H], or None.
        above_ptr, seed_ptr: gradients of the input of the layer above, and the seed of its dropout, or None.
        counter_ptr: counters of the groups, zeroed; None with one column.
        RELU: whether the activation is ReLU rather than tanh.
    """
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b = rows < n_rows
    own, o_own = in_b & (o_h < H), rows * H + o_h
    if COLUMNS > 1:
        counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H

    w = load_columns(w_ptr + o_h, o_h < H, H, H, BLOCK_K, PARTS)
    if COLUMNS == 1:
        if RESIDENT > 0:
            w = resident_columns(w)
        after = load_parts(da_ptr + t1 * size + rows * H, in_b & (t1 < n_steps), H, BLOCK_K, PARTS, "")
    # A step's own inputs are loaded before the barrier, and converted once the loads that wait for it are in flight.
    state = tl.load(y_ptr + (t1 - 1) * size + o_own, mask=own, other=0.0)
    read = load_readers(dy_ptr, above_ptr, (t1 - 1) * size + o_own, own)
    for back in range(t1 - t0):
        t = t1 - 1 - back
        crossed = in_b & (t + 1 < n_steps)
        if COLUMNS > 1:
            if back > 0:
                wait(counter, back * COLUMNS)
            at_d = da_ptr + (t + 1) * size + rows * H
            after = load_ahead(at_d, crossed, H, BLOCK_K, PARTS, 0, AHEAD)
        h = state.to(tl.float32)
        dh = incoming(read, above_ptr, seed_ptr, o_h, rows + first_row, t, layer, P)
        if reset_ptr is not None:
            cut = tl.load(reset_ptr + (t + 1) * n_rows + rows, mask=crossed, other=0) != 0
        if COLUMNS > 1:
            through = sum_of_loaded(after, at_d, crossed, w, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS)
        else:
            through = sum_alone(after, w, RESIDENT, WARP_GROUPS)
        earlier = own & (t > t0)
        state = tl.load(y_ptr + (t - 1) * size + o_own, mask=earlier, other=0.0)
        read = load_readers(dy_ptr, above_ptr, (t - 1) * size + o_own, earlier)
        if reset_ptr is not None:
            through = tl.where(cut, 0.0, through)
        da = (dh + through) * _slope(h, RELU)
        tl.store(da_ptr + t * size + o_own, da, mask=own)
        if COLUMNS > 1:
            if t > t0:
                arrive(counter)
        else:
            after = (da.to(da_ptr.dtype.element_ty),)
