"""The GRU's kernels in Triton: what `gatescope.kernels.gru_fused` launches.

A [T, B, 4, H] holds p, r, z, n of every step, or their gradients; `states` [T + 1, B, H] begins with h0. A step without
reset_after has two parts, which the interpreter runs in two launches, and a kernel on a GPU in one with a barrier.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.dropout_kernel import dropped, incoming
from gatescope.kernels.grid import COUNTER_STRIDE, RUNTIME, arrive, wait
from gatescope.kernels.pointwise import sigmoid, tanh
from gatescope.kernels.tiles import (
    load_columns,
    load_part,
    load_parts,
    product,
    sum_of_loaded,
    sum_of_products,
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
    AFTER: tl.constexpr,
    SAVE: tl.constexpr,
    PHASE: tl.constexpr,
    P: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    # Pointers to its own rows, so that within them a program counts in 32 bits: 64 rows need all registers there are.
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
    counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H
    dtype = states_ptr.dtype.element_ty

    # r and z of a unit stand side by side, so that their sums are split within a thread.
    o_n = tl.arange(0, 2 * BLOCK_H)[None, :]
    unit = i_h * BLOCK_H + o_n // 2
    w_rz = load_columns(w_ptr + ((o_n % 2) * H + unit) * H, unit < H, H, 1, BLOCK_K, PARTS)
    w_n = load_columns(w_ptr + (2 * H + o_h) * H, o_h < H, H, 1, BLOCK_K, PARTS)
    bias = 0.0
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + o_h, mask=o_h < H, other=0.0).to(tl.float32)

    h = tl.load(states_ptr + t0 * size + o_own, mask=own, other=0.0).to(tl.float32)
    if COLUMNS == 1:
        before = load_parts(states_ptr + t0 * size + rows * H, in_b, H, BLOCK_K, PARTS, "")

    for t in range(t0, t1):
        a_at = a_ptr + t * size * 4 + o_gate
        x_r = tl.load(a_at + H, mask=own, other=0.0).to(tl.float32)
        x_z = tl.load(a_at + 2 * H, mask=own, other=0.0).to(tl.float32)
        x_n = tl.load(a_at + 3 * H, mask=own, other=0.0).to(tl.float32)
        if reset_ptr is not None:
            keep = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0) == 0
            h = tl.where(keep, h, 0.0)
        r, z = x_r, x_z
        if PHASE != SECOND:
            if COLUMNS > 1:
                if t > t0:
                    wait(counter, (t - t0) * COLUMNS * (1 if AFTER else 2), INTERPRET)
                at_h = states_ptr + t * size + rows * H
                before = ()
                for part in tl.static_range(AHEAD):
                    before += load_part(at_h, in_b, part, H, BLOCK_K)
            sums, sums_n = product(before[0], w_rz[0], INTERPRET), x_n
            if AFTER:
                sums_n = product(before[0], w_n[0], INTERPRET)
            # Part by part, so that no more than a part of the states stands in registers for both products.
            for part in tl.static_range(1, PARTS):
                if part + AHEAD - 1 < PARTS:
                    before += load_part(at_h, in_b, part + AHEAD - 1, H, BLOCK_K)
                sums = with_product(sums, before[part], w_rz[part], WARP_GROUPS, INTERPRET)
                if AFTER:
                    sums_n = with_product(sums_n, before[part], w_n[part], WARP_GROUPS, INTERPRET)
            h_r, h_z = tl.split(tl.reshape(sums, (BLOCK_B, BLOCK_H, 2)))
            if reset_ptr is not None:
                h_r, h_z = tl.where(keep, h_r, 0.0), tl.where(keep, h_z, 0.0)
            r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        if AFTER:
            if reset_ptr is not None:
                sums_n = tl.where(keep, sums_n, 0.0)
            p = sums_n + bias
            n = tanh(x_n + r * p)
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
                    wait(counter, (2 * (t - t0) + 1) * COLUMNS, INTERPRET)
                if PHASE != FIRST:
                    at_p = a_ptr + t * size * 4 + rows * (4 * H)
                    n = tanh(x_n + sum_of_loaded(at_p, in_b, w_n, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS, INTERPRET))
            else:
                n = tanh(x_n + product(p.to(dtype), w_n[0], INTERPRET))
        if PHASE != FIRST:
            h = (n + z * (h - n)).to(dtype).to(tl.float32)
            tl.store(states_ptr + (t + 1) * size + o_own, h, mask=own)
            if COLUMNS > 1:
                if t + 1 < t1:
                    arrive(counter)
            else:
                before = (h.to(dtype),)
            # What no other program waits for comes after the release.
            if above_ptr is not None:
                up = dropped(h, seed_ptr, o_h, rows + (row + first_row), t, layer, P)
                tl.store(above_ptr + t * size + o_own, up, mask=own)
            if SAVE:
                tl.store(a_at, p, mask=own)
                tl.store(a_at + H, r, mask=own)
                tl.store(a_at + 2 * H, z, mask=own)
                tl.store(a_at + 3 * H, n, mask=own)


@triton.jit
def _first_back(r, z, n, p, h, dh, own_r, own_z, own_n):
    """The gradients before the activations of n and z, and the part of h's that needs no product."""
    d_n = (dh * (1.0 - z) + own_n) * (1.0 - n * n)
    d_z = (dh * (h - n) + own_z) * z * (1.0 - z)
    return d_n, d_z, dh * z


@triton.jit(do_not_specialize=RUNTIME)
def backward_kernel(
    a_ptr,
    w_ptr,
    states_ptr,
    reset_ptr,
    dy_ptr,
    own_ptr,
    da_ptr,
    dh_ptr,
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
    AFTER: tl.constexpr,
    PHASE: tl.constexpr,
    P: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b, in_h = rows < n_rows, o_h < H
    own, o_own, o_gate = in_b & in_h, rows * H + o_h, rows * (4 * H) + o_h
    counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H
    dtype = da_ptr.dtype.element_ty

    # In the order of the blocks of A that they multiply: n (of p, with reset_after), r, z.
    w_n = load_columns(w_ptr + 2 * H * H + o_h, in_h, H, H, BLOCK_K, PARTS)
    w = load_columns(w_ptr + o_h, in_h, H, H, BLOCK_K, PARTS)
    w += load_columns(w_ptr + H * H + o_h, in_h, H, H, BLOCK_K, PARTS)
    if AFTER:
        w = w_n + w
    FIRST_BLOCK: tl.constexpr = 0 if AFTER else 1
    BLOCKS: tl.constexpr = 3 if AFTER else 2

    carried = tl.load(dh_ptr + o_own, mask=own, other=0.0)
    if COLUMNS == 1:
        after, later = da_ptr + t1 * size * 4 + FIRST_BLOCK * H + rows * (4 * H), in_b & (t1 < n_steps)
        d = load_parts(after, later, H, BLOCK_K, PARTS, "")
        for block in tl.static_range(1, BLOCKS):
            d += load_parts(after + block * H, later, H, BLOCK_K, PARTS, "")

    for back in range(t1 - t0):
        t = t1 - 1 - back
        a_at, da_at = a_ptr + t * size * 4 + o_gate, da_ptr + t * size * 4 + o_gate
        p = tl.load(a_at, mask=own, other=0.0).to(tl.float32)
        r = tl.load(a_at + H, mask=own, other=0.0).to(tl.float32)
        z = tl.load(a_at + 2 * H, mask=own, other=0.0).to(tl.float32)
        n = tl.load(a_at + 3 * H, mask=own, other=0.0).to(tl.float32)
        h = tl.load(states_ptr + t * size + o_own, mask=own, other=0.0).to(tl.float32)
        at = t * size + o_own
        dh = incoming(dy_ptr, above_ptr, at, own, seed_ptr, o_h, rows + first_row, t, layer, P) + carried
        own_p, own_r, own_z, own_n = 0.0, 0.0, 0.0, 0.0
        if own_ptr is not None:
            own_at = own_ptr + t * size * 4 + o_gate
            own_p = tl.load(own_at, mask=own, other=0.0).to(tl.float32)
            own_r = tl.load(own_at + H, mask=own, other=0.0).to(tl.float32)
            own_z = tl.load(own_at + 2 * H, mask=own, other=0.0).to(tl.float32)
            own_n = tl.load(own_at + 3 * H, mask=own, other=0.0).to(tl.float32)
        here = False
        if reset_ptr is not None:
            here = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0) != 0
            h = tl.where(here, 0.0, h)
        later = in_b & (t + 1 < n_steps)
        if reset_ptr is not None:
            cut = tl.load(reset_ptr + (t + 1) * n_rows + rows, mask=later, other=0) != 0
        if COLUMNS > 1:
            if back > 0:
                wait(counter, back * COLUMNS * (1 if AFTER else 2), INTERPRET)
            after = da_ptr + (t + 1) * size * 4 + FIRST_BLOCK * H + rows * (4 * H)
            through = sum_of_loaded(after, later, w, H, BLOCK_K, PARTS, BLOCKS, AHEAD, WARP_GROUPS, INTERPRET)
        else:
            through = sum_of_products(d, w, BLOCKS, WARP_GROUPS, INTERPRET)
        if reset_ptr is not None:
            through = tl.where(cut, 0.0, through)
        dh += through
        s_n, s_z, passed = _first_back(r, z, n, p, h, dh, own_r, own_z, own_n)
        tl.store(da_at + 3 * H, s_n, mask=own)
        if AFTER:
            s_r = (s_n * p + own_r) * r * (1.0 - r)
            s_p = s_n * r + own_p
            tl.store(da_at, s_p, mask=own)
        else:
            if PHASE == WHOLE and COLUMNS > 1:
                arrive(counter)
                wait(counter, (2 * back + 1) * COLUMNS, INTERPRET)
            if PHASE != FIRST:
                if COLUMNS > 1:
                    at_n = da_ptr + t * size * 4 + 3 * H + rows * (4 * H)
                    s_p = sum_of_loaded(at_n, in_b, w_n, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS, INTERPRET) + own_p
                else:
                    s_p = product(s_n.to(dtype), w_n[0], INTERPRET) + own_p
                s_r = (s_p * h + own_r) * r * (1.0 - r)
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
        tl.store(dh_ptr + o_own, carried, mask=own)


@triton.jit
def forward_step_kernel(
    a_ptr, h_ptr, reset_ptr, y_ptr, H: tl.constexpr, BLOCK: tl.constexpr, AFTER: tl.constexpr, PHASE: tl.constexpr
):
    """One step of one row, or a part of it, after the products: activations in place, and the hidden state."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h = o_h < H
    at = a_ptr + row * (4 * H) + o_h
    r = tl.load(at + H, mask=in_h, other=0.0).to(tl.float32)
    z = tl.load(at + 2 * H, mask=in_h, other=0.0).to(tl.float32)
    h = tl.load(h_ptr + row * H + o_h, mask=in_h, other=0.0).to(tl.float32)
    if reset_ptr is not None:
        h = tl.where(tl.load(reset_ptr + row) != 0, 0.0, h)
    if PHASE != SECOND:
        r, z = sigmoid(r), sigmoid(z)
        tl.store(at + H, r, mask=in_h)
        tl.store(at + 2 * H, z, mask=in_h)
        if not AFTER:
            tl.store(at, r * h, mask=in_h)
    if PHASE != FIRST:
        n = tl.load(at + 3 * H, mask=in_h, other=0.0).to(tl.float32)
        if AFTER:
            n += r * tl.load(at, mask=in_h, other=0.0).to(tl.float32)
        n = tanh(n)
        tl.store(at + 3 * H, n, mask=in_h)
        tl.store(y_ptr + row * H + o_h, n + z * (h - n), mask=in_h)


@triton.jit
def backward_step_kernel(
    a_ptr,
    h_ptr,
    reset_ptr,
    dh_ptr,
    dq_ptr,
    own_ptr,
    da_ptr,
    passed_ptr,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
    AFTER: tl.constexpr,
    PHASE: tl.constexpr,
):
    """One step of one row, or a part of it, before the product: gradients before the activations."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h = o_h < H
    o_own, o_gate = row * H + o_h, row * (4 * H) + o_h
    p = tl.load(a_ptr + o_gate, mask=in_h, other=0.0).to(tl.float32)
    r = tl.load(a_ptr + o_gate + H, mask=in_h, other=0.0).to(tl.float32)
    z = tl.load(a_ptr + o_gate + 2 * H, mask=in_h, other=0.0).to(tl.float32)
    n = tl.load(a_ptr + o_gate + 3 * H, mask=in_h, other=0.0).to(tl.float32)
    h = tl.load(h_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    dh = tl.load(dh_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    own_p, own_r, own_z, own_n = 0.0, 0.0, 0.0, 0.0
    if own_ptr is not None:
        own_p = tl.load(own_ptr + o_gate, mask=in_h, other=0.0).to(tl.float32)
        own_r = tl.load(own_ptr + o_gate + H, mask=in_h, other=0.0).to(tl.float32)
        own_z = tl.load(own_ptr + o_gate + 2 * H, mask=in_h, other=0.0).to(tl.float32)
        own_n = tl.load(own_ptr + o_gate + 3 * H, mask=in_h, other=0.0).to(tl.float32)
    here = False
    if reset_ptr is not None:
        here = tl.load(reset_ptr + row) != 0
        h = tl.where(here, 0.0, h)
    d_n, d_z, passed = _first_back(r, z, n, p, h, dh, own_r, own_z, own_n)
    if PHASE != SECOND:
        tl.store(da_ptr + o_gate + 2 * H, d_z, mask=in_h)
        tl.store(da_ptr + o_gate + 3 * H, d_n, mask=in_h)
    if PHASE != FIRST:
        if AFTER:
            d_r = (d_n * p + own_r) * r * (1.0 - r)
            tl.store(da_ptr + o_gate, d_n * r + own_p, mask=in_h)
        else:
            d_q = tl.load(dq_ptr + o_own, mask=in_h, other=0.0).to(tl.float32) + own_p
            d_r = (d_q * h + own_r) * r * (1.0 - r)
            passed += d_q * r
        tl.store(da_ptr + o_gate + H, d_r, mask=in_h)
        tl.store(passed_ptr + o_own, tl.where(here, 0.0, passed), mask=in_h)
