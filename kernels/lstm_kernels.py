"""The LSTM's kernels in Triton, which `gatescope.kernels.lstm_launch` binds to tensors.

A [T, B, 4, H] holds i, f, g, o of every step, or their gradients; `states` [T + 1, B, H] begins with h0.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.dropout_kernel import dropped, incoming, load_readers
from gatescope.kernels.grid import COUNTER_STRIDE, RUNTIME, arrive, wait
from gatescope.kernels.pointwise import as_float32, load_blocks, sigmoid, sigmoid_back, store_blocks, tanh, tanh_back
from gatescope.kernels.resident import load_resident, resident_columns, sum_alone, sum_of_resident
from gatescope.kernels.slices import load_slices, slices_ahead, sum_of_slices
from gatescope.kernels.tiles import load_ahead, load_columns, load_parts, sum_of_loaded


@triton.jit
def step(a_i, a_f, a_g, a_o, c, dtype: tl.constexpr):
    """The gates, the cell and the hidden state from the sums before the activations and the previous cell."""
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g, dtype), sigmoid(a_o)
    c = f * c + i * g
    return i, f, g, o, c, o * tanh(c, dtype)


@triton.jit
def step_back(i, f, g, o, c, before, dh, dc, given_i, given_f, given_g, given_o, dtype: tl.constexpr):
    """The gradients before the activations and of the previous cell, from those of h, of c and of the gates."""
    squashed = tanh(c, dtype)
    dc = dc + tanh_back(dh * o, squashed)
    d_i, d_f = sigmoid_back(dc * g + given_i, i), sigmoid_back(dc * before + given_f, f)
    d_g, d_o = tanh_back(dc * i + given_g, g), sigmoid_back(dh * squashed + given_o, o)
    return d_i, d_f, d_g, d_o, dc * f


@triton.jit(do_not_specialize=RUNTIME)
def forward_kernel(
    a_ptr,
    w_ptr,
    c0_ptr,
    reset_ptr,
    states_ptr,
    c_ptr,
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
    SAVE: tl.constexpr,
    P: tl.constexpr,
):
    """Walk forward: compute h_t and c_t of the program's rows and units at every step of the launch.

    Args:
        a_ptr: input products with biases [T, B, 4, H]; overwritten with the gates if SAVE.
        w_ptr, c0_ptr, reset_ptr: W_hh [4H, H], c0 [B, H], bool [T, B] or None.
        states_ptr, c_ptr: [T + 1, B, H], h0 followed by h, and c, float32 [T, B, H]; h and c are written.
        above_ptr, seed_ptr: input of the layer above [T, B, H], written, and the seed of its dropout, or None.
        counter_ptr: counters of the groups, zeroed; None with one column.
    """
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b = rows < n_rows
    own, o_own = in_b & (o_h < H), rows * H + o_h
    if COLUMNS > 1:
        counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H
    dtype = states_ptr.dtype.element_ty

    # The gates of a unit are adjacent, so that their sums are split within a thread.
    o_n = tl.arange(0, 4 * BLOCK_H)[None, :]
    unit = i_h * BLOCK_H + o_n // 4
    at_w, in_w = w_ptr + ((o_n % 4) * H + unit) * H, unit < H
    if RESIDENT > 0:
        w = load_resident(tl.trans(at_w), tl.trans(in_w), H, RESIDENT, BLOCK_K, PARTS)
    else:
        w = load_columns(at_w, in_w, H, 1, BLOCK_K, PARTS)

    c = tl.load(c0_ptr + o_own, mask=own & (t0 == 0), other=0.0).to(tl.float32)
    c += tl.load(c_ptr + (t0 - 1) * size + o_own, mask=own & (t0 > 0), other=0.0)
    if COLUMNS == 1:
        h = load_parts(states_ptr + t0 * size + rows * H, in_b, H, BLOCK_K, PARTS, "")

    # A step's own inputs are loaded before the barrier, and converted once the loads that wait for it are in flight.
    a_at = a_ptr + t0 * size * 4 + rows * (4 * H) + o_h
    a = load_blocks(a_at, own, H, 4)
    for t in range(t0, t1):
        if COLUMNS > 1:
            if t > t0:
                wait(counter, (t - t0) * COLUMNS)
            at_h = states_ptr + t * size + rows * H
            h = load_ahead(at_h, in_b, H, BLOCK_K, PARTS, 0, AHEAD)
        a_i, a_f, a_g, a_o = as_float32(a)
        keep = in_b
        if reset_ptr is not None:
            keep = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0) == 0
            c = tl.where(keep, c, 0.0)
        if COLUMNS == 1:
            sums = sum_alone(h, w, RESIDENT, WARP_GROUPS)
        elif RESIDENT > 0:
            sums = sum_of_resident(h, w, False)
        else:
            sums = sum_of_loaded(h, at_h, in_b, w, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS)
        a = load_blocks(a_at + size * 4, own & (t + 1 < t1), H, 4)
        if reset_ptr is not None:
            sums = tl.where(keep, sums, 0.0)
        even, odd = tl.split(tl.reshape(sums, (BLOCK_B, BLOCK_H, 2, 2)))
        h_i, h_g = tl.split(even)
        h_f, h_o = tl.split(odd)
        i, f, g, o, c, h_new = step(a_i + h_i, a_f + h_f, a_g + h_g, a_o + h_o, c, dtype)
        tl.store(states_ptr + (t + 1) * size + o_own, h_new, mask=own)
        if COLUMNS > 1:
            if t + 1 < t1:
                arrive(counter)
        else:
            h = (h_new.to(dtype),)
        # Stores that no other program waits for come after the release.
        if above_ptr is not None:
            up = h_new.to(dtype).to(tl.float32)
            tl.store(above_ptr + t * size + o_own, dropped(up, seed_ptr, o_h, rows + first_row, t, layer, P), mask=own)
        tl.store(c_ptr + t * size + o_own, c, mask=own)
        if SAVE:
            store_blocks(a_at, own, (i, f, g, o), H)
        a_at += size * 4


@triton.jit(do_not_specialize=RUNTIME)
def backward_kernel(
    a_ptr,
    w_ptr,
    c0_ptr,
    c_ptr,
    reset_ptr,
    dy_ptr,
    dcells_ptr,
    dsaved_ptr,
    da_ptr,
    dc_ptr,
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
    SLICES: tl.constexpr,
    P: tl.constexpr,
):
    """Walk back: compute the gradients before the activations from those of the next step.

    Args:
        a_ptr, c_ptr: gates [T, B, 4, H] and cells [T, B, H], as forward saved them.
        w_ptr, c0_ptr, reset_ptr: as in forward.
        dcells_ptr, dsaved_ptr: gradients of captured cells [T, B, H] and gates [T, B, 4, H], or None.
        da_ptr, dc_ptr: the gradients [T, B, 4, H], written, and that of the cell before the last step done, [B, H].
        dy_ptr: the caller's gradients of the states, [T, B, H], or None.
        above_ptr, seed_ptr: gradients of the input of the layer above, and the seed of its dropout, or None.
        counter_ptr: counters of the groups, zeroed; None with one column.
    """
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b = rows < n_rows
    own, o_own, o_gate = in_b & (o_h < H), rows * H + o_h, rows * (4 * H) + o_h
    if COLUMNS > 1:
        counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H
    dtype = da_ptr.dtype.element_ty

    if SLICES > 0:
        at_w, in_w = (w_ptr + o_h)[None, :, :], (o_h < H)[None, :, :]
        w = load_slices(at_w, in_w, 4 * H, 4 * H, H, 0, BLOCK_K, PARTS, SLICES)
    else:
        w = load_columns(w_ptr + o_h, o_h < H, H, H, BLOCK_K, PARTS)
        for gate in tl.static_range(1, 4):
            w += load_columns(w_ptr + gate * H * H + o_h, o_h < H, H, H, BLOCK_K, PARTS)

    dc = tl.load(dc_ptr + o_own, mask=own, other=0.0)
    if COLUMNS == 1:
        if RESIDENT > 0:
            w = resident_columns(w)
        after, later = da_ptr + t1 * size * 4 + rows * (4 * H), in_b & (t1 < n_steps)
        d = load_parts(after, later, H, BLOCK_K, PARTS, "")
        for gate in tl.static_range(1, 4):
            d += load_parts(after + gate * H, later, H, BLOCK_K, PARTS, "")

    # A step's own inputs are loaded before the barrier, and converted once the loads that wait for it are in flight.
    at = (t1 - 1) * size + o_own
    a = load_blocks(a_ptr + (t1 - 1) * size * 4 + o_gate, own, H, 4)
    read = load_readers(dy_ptr, above_ptr, at, own)
    c = tl.load(c_ptr + at, mask=own, other=0.0)
    before = tl.load(c_ptr + at - size, mask=own & (t1 > 1), other=0.0)
    for back in range(t1 - t0):
        t = t1 - 1 - back
        later = in_b & (t + 1 < n_steps)
        if COLUMNS > 1:
            if back > 0:
                wait(counter, back * COLUMNS)
            after = da_ptr + (t + 1) * size * 4 + rows * (4 * H)
            if SLICES > 0:
                after, each = after[None, :, :], later[None, :, :]
                d = slices_ahead(after, each, 4 * H, BLOCK_K, PARTS, SLICES, 0, AHEAD)
            else:
                d = load_ahead(after, later, H, BLOCK_K, PARTS, 0, AHEAD)
        i, f, g, o = as_float32(a)
        dh = incoming(read, above_ptr, seed_ptr, o_h, rows + first_row, t, layer, P)
        # An operation, which makes the compiler convert the tile here.
        c_t = c + 0.0
        c_before = before + tl.load(c0_ptr + o_own, mask=own & (t == 0), other=0.0).to(tl.float32)
        if reset_ptr is not None:
            cut = tl.load(reset_ptr + (t + 1) * n_rows + rows, mask=later, other=0)
            here = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0)
        if SLICES > 0:
            through = sum_of_slices(d, after, each, w, 4 * H, BLOCK_K, PARTS, SLICES, AHEAD)
        elif COLUMNS > 1:
            through = sum_of_loaded(d, after, later, w, H, BLOCK_K, PARTS, 4, AHEAD, WARP_GROUPS)
        else:
            through = sum_alone(d, w, RESIDENT, WARP_GROUPS)
        earlier = own & (t > t0)
        a = load_blocks(a_ptr + (t - 1) * size * 4 + o_gate, earlier, H, 4)
        read = load_readers(dy_ptr, above_ptr, (t - 1) * size + o_own, earlier)
        c, before = before, tl.load(c_ptr + (t - 2) * size + o_own, mask=earlier & (t > 1), other=0.0)
        if reset_ptr is not None:
            through = tl.where(cut != 0, 0.0, through)
            here = here != 0
            c_before = tl.where(here, 0.0, c_before)
        dh += through
        # Loaded only here: gradients of captured cells and gates are rare, and the products need the registers.
        if dcells_ptr is not None:
            dc += tl.load(dcells_ptr + t * size + o_own, mask=own, other=0.0).to(tl.float32)
        given_i, given_f, given_g, given_o = 0.0, 0.0, 0.0, 0.0
        if dsaved_ptr is not None:
            given_i, given_f, given_g, given_o = as_float32(load_blocks(dsaved_ptr + t * size * 4 + o_gate, own, H, 4))
        s_i, s_f, s_g, s_o, dc = step_back(i, f, g, o, c_t, c_before, dh, dc, given_i, given_f, given_g, given_o, dtype)
        if reset_ptr is not None:
            dc = tl.where(here, 0.0, dc)
        store_blocks(da_ptr + t * size * 4 + o_gate, own, (s_i, s_f, s_g, s_o), H)
        if COLUMNS > 1:
            if t > t0:
                arrive(counter)
        else:
            d = (s_i.to(dtype), s_f.to(dtype), s_g.to(dtype), s_o.to(dtype))
    tl.store(dc_ptr + o_own, dc, mask=own)
