"""The GRU's kernels in Triton, which `gatescope.kernels.gru_launch` binds to tensors.

A [T, B, 4, H] holds p, r, z, n of every step, or their gradients; `states` [T + 1, B, H] begins with h0. Without
reset_after a step has two parts, which the interpreter runs in two launches, and a GPU in one kernel with a barrier
between them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.dropout_kernel import dropped, incoming, load_readers
from gatescope.kernels.grid import COUNTER_STRIDE, RUNTIME, arrive, wait
from gatescope.kernels.pointwise import as_float32, load_blocks, sigmoid, sigmoid_back, store_blocks, tanh, tanh_back
from gatescope.kernels.resident import load_resident, resident_columns, sum_alone, sum_of_resident
from gatescope.kernels.slices import load_slices, slices_ahead, sum_of_slices
from gatescope.kernels.tiles import (
    as_factor,
    load_ahead,
    load_columns,
    load_parts,
    product,
    sum_of_loaded,
    with_product,
)

WHOLE, FIRST, SECOND = tl.constexpr(-1), tl.constexpr(0), tl.constexpr(1)  # parts of a step


@triton.jit(do_not_specialize=RUNTIME)
def forward_kernel(
    a_ptr,
    w_ptr,
    bias_ptr,
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
    AFTER: tl.constexpr,
    SAVE: tl.constexpr,
    PHASE: tl.constexpr,
    P: tl.constexpr,
):
    """Walk forward: compute h_t of the program's rows and units from the previous states, at every step of the launch.

    Args:
        a_ptr: [T, B, 4, H], input products with biases in the places of r, z, n; overwritten with p, r, z, n if SAVE.
        w_ptr, bias_ptr, reset_ptr: W_hh [3H, H], b_hn [H] with reset_after or None, bool [T, B] or None.
        states_ptr: [T + 1, B, H], h0 followed by h, which is written.
        above_ptr, seed_ptr: input of the layer above [T, B, H], written, and the seed of its dropout, or None.
        counter_ptr: counters of the groups, zeroed; None with one column.
        AFTER, PHASE: reset_after, and the part of a step.
    """
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    # Pointers to the program's own rows, so that it indexes within them in 32 bits: 64 rows need all the registers.
    row = row0 + i_b * BLOCK_B
    a_ptr += row.to(tl.int64) * (4 * H)
    states_ptr += row.to(tl.int64) * H
    if reset_ptr is not None:
        reset_ptr += row
    if above_ptr is not None:
        above_ptr += row.to(tl.int64) * H
    rows = tl.arange(0, BLOCK_B)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b = rows < n_rows - row
    own, o_own, o_gate = in_b & (o_h < H), rows * H + o_h, rows * (4 * H) + o_h
    if COLUMNS > 1:
        counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H
    dtype = states_ptr.dtype.element_ty

    # The gates of a unit are adjacent, so that their sums are split within a thread. With reset_after one product gives
    # all of them, if there are few rows, which leave registers for an empty fourth place.
    JOINED: tl.constexpr = AFTER and COLUMNS > 1 and BLOCK_B == 16
    GATES: tl.constexpr = 4 if JOINED else 2
    o_n = tl.arange(0, GATES * BLOCK_H)[None, :]
    unit, gate = i_h * BLOCK_H + o_n // GATES, o_n % GATES
    at_w, in_w = w_ptr + (gate * H + unit) * H, (unit < H) & (gate < 3)
    if RESIDENT > 0:
        w = load_resident(tl.trans(at_w), tl.trans(in_w), H, RESIDENT, BLOCK_K, PARTS)
    else:
        w = load_columns(at_w, in_w, H, 1, BLOCK_K, PARTS)
    if not JOINED:
        w_n = load_columns(w_ptr + (2 * H + o_h) * H, o_h < H, H, 1, BLOCK_K, PARTS)
        if RESIDENT > 0:
            w_n = resident_columns(w_n)
    bias = 0.0
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + o_h, mask=o_h < H, other=0.0).to(tl.float32)

    h = tl.load(states_ptr + t0 * size + o_own, mask=own, other=0.0).to(tl.float32)
    if COLUMNS == 1:
        before = load_parts(states_ptr + t0 * size + rows * H, in_b, H, BLOCK_K, PARTS, "")

    # A step's own inputs are loaded before the barrier, and converted once the loads that wait for it are in flight.
    a_at = a_ptr + t0 * size * 4 + o_gate
    a = load_blocks(a_at + H, own, H, 3)
    for t in range(t0, t1):
        if PHASE != SECOND and COLUMNS > 1:
            if t > t0:
                wait(counter, (t - t0) * COLUMNS * (1 if AFTER else 2))
            at_h = states_ptr + t * size + rows * H
            before = load_ahead(at_h, in_b, H, BLOCK_K, PARTS, 0, AHEAD)
        x_r, x_z, x_n = as_float32(a)
        if reset_ptr is not None:
            keep = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0) == 0
            h = tl.where(keep, h, 0.0)
        r, z = x_r, x_z
        if PHASE != SECOND:
            if JOINED:
                if RESIDENT > 0:
                    sums = sum_of_resident(before, w, False)
                else:
                    sums = sum_of_loaded(before, at_h, in_b, w, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS)
                even, odd = tl.split(tl.reshape(sums, (BLOCK_B, BLOCK_H, 2, 2)))
                h_r, sums_n = tl.split(even)
                h_z, _ = tl.split(odd)
            elif COLUMNS == 1:
                sums, sums_n = sum_alone(before, w, RESIDENT, WARP_GROUPS), x_n
                if AFTER:
                    sums_n = sum_alone(before, w_n, RESIDENT, WARP_GROUPS)
                h_r, h_z = tl.split(tl.reshape(sums, (BLOCK_B, BLOCK_H, 2)))
            else:
                each = as_factor(before[0])
                sums, sums_n = product(each, w[0]), x_n
                if AFTER:
                    sums_n = product(each, w_n[0])
                # Part by part, so that registers hold no more than one part of the states for both products.
                for part in tl.static_range(1, PARTS):
                    if part + AHEAD - 1 < PARTS:
                        before += load_ahead(at_h, in_b, H, BLOCK_K, PARTS, part + AHEAD - 1, 1)
                    each = as_factor(before[part])
                    sums = with_product(sums, each, w[part], WARP_GROUPS)
                    if AFTER:
                        sums_n = with_product(sums_n, each, w_n[part], WARP_GROUPS)
                h_r, h_z = tl.split(tl.reshape(sums, (BLOCK_B, BLOCK_H, 2)))
            if reset_ptr is not None:
                h_r, h_z = tl.where(keep, h_r, 0.0), tl.where(keep, h_z, 0.0)
            r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        a = load_blocks(a_at + size * 4 + H, own & (t + 1 < t1), H, 3)
        if AFTER:
            if reset_ptr is not None:
                sums_n = tl.where(keep, sums_n, 0.0)
            p = sums_n + bias
            n = tanh(x_n + r * p, dtype)
        else:
            p = r * h
            if COLUMNS > 1:
                if PHASE != SECOND:
                    tl.store(a_at, p, mask=own)
                if PHASE == FIRST:
                    tl.store(a_at + H, r, mask=own)
                    tl.store(a_at + 2 * H, z, mask=own)
                if PHASE == WHOLE:
                    arrive(counter)
                    wait(counter, (2 * (t - t0) + 1) * COLUMNS)
                if PHASE != FIRST:
                    at_p = a_ptr + t * size * 4 + rows * (4 * H)
                    kept = load_ahead(at_p, in_b, H, BLOCK_K, PARTS, 0, AHEAD)
                    n = x_n + sum_of_loaded(kept, at_p, in_b, w_n, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS)
                    n = tanh(n, dtype)
            else:
                n = tanh(x_n + sum_alone((p.to(dtype),), w_n, RESIDENT, WARP_GROUPS), dtype)
        if PHASE != FIRST:
            h = (n + z * (h - n)).to(dtype).to(tl.float32)
            tl.store(states_ptr + (t + 1) * size + o_own, h, mask=own)
            if COLUMNS > 1:
                if t + 1 < t1:
                    arrive(counter)
            else:
                before = (h.to(dtype),)
            # Stores that no other program waits for come after the release.
            if above_ptr is not None:
                up = dropped(h, seed_ptr, o_h, rows + (row + first_row), t, layer, P)
                tl.store(above_ptr + t * size + o_own, up, mask=own)
            if SAVE:
                store_blocks(a_at, own, (p, r, z, n), H)
        a_at += size * 4


@triton.jit
def first_back(z, n, h, dh, given_z, given_n):
    """The gradients before the activations of n and z, and the part of h's gradient that needs no product."""
    return tanh_back(dh * (1.0 - z) + given_n, n), sigmoid_back(dh * (h - n) + given_z, z), dh * z


@triton.jit(do_not_specialize=RUNTIME)
def backward_kernel(
    a_ptr,
    w_ptr,
    states_ptr,
    reset_ptr,
    dy_ptr,
    dsaved_ptr,
    da_ptr,
    passed_ptr,
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
    AFTER: tl.constexpr,
    PHASE: tl.constexpr,
    P: tl.constexpr,
):
    """Walk back: compute the gradients before the activations from those of the next step.

    Args:
        a_ptr, states_ptr: p, r, z, n [T, B, 4, H] and h [T + 1, B, H], as forward saved them.
        w_ptr, reset_ptr: as in forward.
        dsaved_ptr: gradients of captured p and gates [T, B, 4, H], or None.
        da_ptr, passed_ptr: the gradients [T, B, 4, H], written, and the part of h's gradient that bypasses W_hh,
            [B, H].
        dy_ptr: the caller's gradients of the states, [T, B, H], or None.
        above_ptr, seed_ptr: gradients of the input of the layer above, and the seed of its dropout, or None.
        counter_ptr: counters of the groups, zeroed; None with one column.
        AFTER, PHASE: reset_after, and the part of a step.
    """
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b, in_h = rows < n_rows, o_h < H
    own, o_own, o_gate = in_b & in_h, rows * H + o_h, rows * (4 * H) + o_h
    if COLUMNS > 1:
        counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H
    dtype = da_ptr.dtype.element_ty

    FIRST_BLOCK: tl.constexpr = 0 if AFTER else 1
    BLOCKS: tl.constexpr = 3 if AFTER else 2
    # With slices, the parts of the inner dimensions: H in one product, BLOCKS * H in the other.
    PART: tl.constexpr = max(SLICES, 1) * BLOCK_K
    PARTS_N: tl.constexpr = (H + PART - 1) // PART
    PARTS_D: tl.constexpr = (BLOCKS * H + PART - 1) // PART
    FEW: tl.constexpr = min(AHEAD, PARTS_N)
    # In the order of the blocks of A that they multiply: n (p with reset_after), r, z.
    if SLICES > 0:
        at_w, in_w = (w_ptr + o_h)[None, :, :], in_h[None, :, :]
        w = load_slices(at_w, in_w, 3 * H, BLOCKS * H, H, 2 * H if AFTER else 0, BLOCK_K, PARTS_D, SLICES)
        if not AFTER:
            w_n = load_slices(at_w, in_w, 3 * H, H, H, 2 * H, BLOCK_K, PARTS_N, SLICES)
    else:
        w_n = load_columns(w_ptr + 2 * H * H + o_h, in_h, H, H, BLOCK_K, PARTS)
        w = load_columns(w_ptr + o_h, in_h, H, H, BLOCK_K, PARTS)
        w += load_columns(w_ptr + H * H + o_h, in_h, H, H, BLOCK_K, PARTS)
        if AFTER:
            w = w_n + w

    carried = tl.load(passed_ptr + o_own, mask=own, other=0.0)
    if COLUMNS == 1:
        if RESIDENT > 0:
            w, w_n = resident_columns(w), resident_columns(w_n)
        after, later = da_ptr + t1 * size * 4 + FIRST_BLOCK * H + rows * (4 * H), in_b & (t1 < n_steps)
        d = load_parts(after, later, H, BLOCK_K, PARTS, "")
        for block in tl.static_range(1, BLOCKS):
            d += load_parts(after + block * H, later, H, BLOCK_K, PARTS, "")

    # A step's own inputs are loaded before the barrier, and converted once the loads that wait for it are in flight.
    a = load_blocks(a_ptr + (t1 - 1) * size * 4 + o_gate, own, H, 4)
    state = tl.load(states_ptr + (t1 - 1) * size + o_own, mask=own, other=0.0)
    read = load_readers(dy_ptr, above_ptr, (t1 - 1) * size + o_own, own)
    for back in range(t1 - t0):
        t = t1 - 1 - back
        da_at = da_ptr + t * size * 4 + o_gate
        later = in_b & (t + 1 < n_steps)
        if COLUMNS > 1:
            if back > 0:
                wait(counter, back * COLUMNS * (1 if AFTER else 2))
            after = da_ptr + (t + 1) * size * 4 + FIRST_BLOCK * H + rows * (4 * H)
            if SLICES > 0:
                after, each = after[None, :, :], later[None, :, :]
                d = slices_ahead(after, each, BLOCKS * H, BLOCK_K, PARTS_D, SLICES, 0, min(AHEAD, PARTS_D))
            else:
                d = load_ahead(after, later, H, BLOCK_K, PARTS, 0, AHEAD)
        p, r, z, n = as_float32(a)
        h = state.to(tl.float32)
        dh = incoming(read, above_ptr, seed_ptr, o_h, rows + first_row, t, layer, P) + carried
        given_p, given_r, given_z, given_n = 0.0, 0.0, 0.0, 0.0
        if dsaved_ptr is not None:
            given_p, given_r, given_z, given_n = as_float32(load_blocks(dsaved_ptr + t * size * 4 + o_gate, own, H, 4))
        here = False
        if reset_ptr is not None:
            here = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0) != 0
            h = tl.where(here, 0.0, h)
            cut = tl.load(reset_ptr + (t + 1) * n_rows + rows, mask=later, other=0) != 0
        if SLICES > 0:
            through = sum_of_slices(d, after, each, w, BLOCKS * H, BLOCK_K, PARTS_D, SLICES, AHEAD)
        elif COLUMNS > 1:
            through = sum_of_loaded(d, after, later, w, H, BLOCK_K, PARTS, BLOCKS, AHEAD, WARP_GROUPS)
        else:
            through = sum_alone(d, w, RESIDENT, WARP_GROUPS)
        earlier = own & (t > t0)
        a = load_blocks(a_ptr + (t - 1) * size * 4 + o_gate, earlier, H, 4)
        state = tl.load(states_ptr + (t - 1) * size + o_own, mask=earlier, other=0.0)
        read = load_readers(dy_ptr, above_ptr, (t - 1) * size + o_own, earlier)
        if reset_ptr is not None:
            through = tl.where(cut, 0.0, through)
        dh += through
        s_n, s_z, passed = first_back(z, n, h, dh, given_z, given_n)
        tl.store(da_at + 3 * H, s_n, mask=own)
        if AFTER:
            s_r = sigmoid_back(s_n * p + given_r, r)
            s_p = s_n * r + given_p
            tl.store(da_at, s_p, mask=own)
        else:
            if PHASE == WHOLE and COLUMNS > 1:
                arrive(counter)
                wait(counter, (2 * back + 1) * COLUMNS)
            if PHASE != FIRST:
                if COLUMNS > 1:
                    at_n = da_ptr + t * size * 4 + 3 * H + rows * (4 * H)
                    if SLICES > 0:
                        at_n, each = at_n[None, :, :], in_b[None, :, :]
                        tiles = slices_ahead(at_n, each, H, BLOCK_K, PARTS_N, SLICES, 0, FEW)
                        s_p = sum_of_slices(tiles, at_n, each, w_n, H, BLOCK_K, PARTS_N, SLICES, FEW)
                    else:
                        tiles = load_ahead(at_n, in_b, H, BLOCK_K, PARTS, 0, FEW)
                        s_p = sum_of_loaded(tiles, at_n, in_b, w_n, H, BLOCK_K, PARTS, 1, FEW, WARP_GROUPS)
                    s_p += given_p
                else:
                    s_p = sum_alone((s_n.to(dtype),), w_n, RESIDENT, WARP_GROUPS) + given_p
                s_r = sigmoid_back(s_p * h + given_r, r)
                passed += s_p * r
        carried = tl.where(here, 0.0, passed)
        if PHASE != FIRST:
            tl.store(da_at + H, s_r, mask=own)
            tl.store(da_at + 2 * H, s_z, mask=own)
            if COLUMNS > 1:
                if t > t0:
                    arrive(counter)
            else:
                d = (s_r.to(dtype), s_z.to(dtype))
                if AFTER:
                    d = (s_p.to(dtype), s_r.to(dtype), s_z.to(dtype))
    if PHASE != FIRST:
        tl.store(passed_ptr + o_own, carried, mask=own)
