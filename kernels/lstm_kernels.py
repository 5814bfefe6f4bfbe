"""The LSTM's kernels in Triton: what `gatescope.kernels.lstm_fused` launches.

A [T, B, 4, H] holds i, f, g, o of every step, or their gradients; `states` [T + 1, B, H] begins with h0.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.dropout_kernel import dropped, incoming
from gatescope.kernels.grid import COUNTER_STRIDE, RUNTIME, arrive, wait
from gatescope.kernels.pointwise import sigmoid, tanh
from gatescope.kernels.tiles import load_columns, load_parts, product, sum_of_loaded, sum_of_products


@triton.jit
def _step(a_i, a_f, a_g, a_o, c):
    """The gates, the cell and the hidden state from the sums before the activations and the cell before."""
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
    c = f * c + i * g
    return i, f, g, o, c, o * tanh(c)


@triton.jit
def _step_back(i, f, g, o, c, before, dh, dc, own_i, own_f, own_g, own_o):
    """The gradients before the activations, and that of the cell before, from those of h, of c and of the gates."""
    squashed = tanh(c)
    dc = dc + dh * o * (1.0 - squashed * squashed)
    d_i = (dc * g + own_i) * i * (1.0 - i)
    d_f = (dc * before + own_f) * f * (1.0 - f)
    d_g = (dc * i + own_g) * (1.0 - g * g)
    d_o = (dh * squashed + own_o) * o * (1.0 - o)
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
    SAVE: tl.constexpr,
    P: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b = rows < n_rows
    own, o_own = in_b & (o_h < H), rows * H + o_h
    counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H

    # The gates of a unit stand side by side, so that their sums are split within a thread.
    o_n = tl.arange(0, 4 * BLOCK_H)[None, :]
    unit = i_h * BLOCK_H + o_n // 4
    w = load_columns(w_ptr + ((o_n % 4) * H + unit) * H, unit < H, H, 1, BLOCK_K, PARTS)

    c = tl.load(c0_ptr + o_own, mask=own & (t0 == 0), other=0.0).to(tl.float32)
    c += tl.load(c_ptr + (t0 - 1) * size + o_own, mask=own & (t0 > 0), other=0.0)
    if COLUMNS == 1:
        h = load_parts(states_ptr + t0 * size + rows * H, in_b, H, BLOCK_K, PARTS, "")

    for t in range(t0, t1):
        a_at = a_ptr + t * size * 4 + rows * (4 * H) + o_h
        a_i = tl.load(a_at, mask=own, other=0.0).to(tl.float32)
        a_f = tl.load(a_at + H, mask=own, other=0.0).to(tl.float32)
        a_g = tl.load(a_at + 2 * H, mask=own, other=0.0).to(tl.float32)
        a_o = tl.load(a_at + 3 * H, mask=own, other=0.0).to(tl.float32)
        keep = in_b
        if reset_ptr is not None:
            keep = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0) == 0
            c = tl.where(keep, c, 0.0)
        if COLUMNS > 1:
            if t > t0:
                wait(counter, (t - t0) * COLUMNS, INTERPRET)
            at_h = states_ptr + t * size + rows * H
            sums = sum_of_loaded(at_h, in_b, w, H, BLOCK_K, PARTS, 1, AHEAD, WARP_GROUPS, INTERPRET)
        else:
            sums = product(h[0], w[0], INTERPRET)
        if reset_ptr is not None:
            sums = tl.where(keep, sums, 0.0)
        even, odd = tl.split(tl.reshape(sums, (BLOCK_B, BLOCK_H, 2, 2)))
        h_i, h_g = tl.split(even)
        h_f, h_o = tl.split(odd)
        i, f, g, o, c, h_new = _step(a_i + h_i, a_f + h_f, a_g + h_g, a_o + h_o, c)
        tl.store(states_ptr + (t + 1) * size + o_own, h_new, mask=own)
        if COLUMNS > 1:
            if t + 1 < t1:
                arrive(counter)
        else:
            h = (h_new.to(states_ptr.dtype.element_ty),)
        # What no other program waits for comes after the release.
        if above_ptr is not None:
            up = h_new.to(states_ptr.dtype.element_ty).to(tl.float32)
            tl.store(above_ptr + t * size + o_own, dropped(up, seed_ptr, o_h, rows + first_row, t, layer, P), mask=own)
        tl.store(c_ptr + t * size + o_own, c, mask=own)
        if SAVE:
            tl.store(a_at, i, mask=own)
            tl.store(a_at + H, f, mask=own)
            tl.store(a_at + 2 * H, g, mask=own)
            tl.store(a_at + 3 * H, o, mask=own)


@triton.jit(do_not_specialize=RUNTIME)
def backward_kernel(
    a_ptr,
    w_ptr,
    c0_ptr,
    c_ptr,
    reset_ptr,
    dy_ptr,
    dcells_ptr,
    own_ptr,
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
    P: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    rows = (row0 + i_b * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[:, None]
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    in_b = rows < n_rows
    own, o_own, o_gate = in_b & (o_h < H), rows * H + o_h, rows * (4 * H) + o_h
    counter = counter_ptr + i_b * COUNTER_STRIDE
    size = n_rows.to(tl.int64) * H
    dtype = da_ptr.dtype.element_ty

    w = load_columns(w_ptr + o_h, o_h < H, H, H, BLOCK_K, PARTS)
    for gate in tl.static_range(1, 4):
        w += load_columns(w_ptr + gate * H * H + o_h, o_h < H, H, H, BLOCK_K, PARTS)

    dc = tl.load(dc_ptr + o_own, mask=own, other=0.0)
    if COLUMNS == 1:
        after, later = da_ptr + t1 * size * 4 + rows * (4 * H), in_b & (t1 < n_steps)
        d = load_parts(after, later, H, BLOCK_K, PARTS, "")
        for gate in tl.static_range(1, 4):
            d += load_parts(after + gate * H, later, H, BLOCK_K, PARTS, "")

    for back in range(t1 - t0):
        t = t1 - 1 - back
        a_at = a_ptr + t * size * 4 + o_gate
        i = tl.load(a_at, mask=own, other=0.0).to(tl.float32)
        f = tl.load(a_at + H, mask=own, other=0.0).to(tl.float32)
        g = tl.load(a_at + 2 * H, mask=own, other=0.0).to(tl.float32)
        o = tl.load(a_at + 3 * H, mask=own, other=0.0).to(tl.float32)
        c = tl.load(c_ptr + t * size + o_own, mask=own, other=0.0)
        before = tl.load(c_ptr + (t - 1) * size + o_own, mask=own & (t > 0), other=0.0)
        before += tl.load(c0_ptr + o_own, mask=own & (t == 0), other=0.0).to(tl.float32)
        at = t * size + o_own
        dh = incoming(dy_ptr, above_ptr, at, own, seed_ptr, o_h, rows + first_row, t, layer, P)
        own_i, own_f, own_g, own_o = 0.0, 0.0, 0.0, 0.0
        if own_ptr is not None:
            own_at = own_ptr + t * size * 4 + o_gate
            own_i = tl.load(own_at, mask=own, other=0.0).to(tl.float32)
            own_f = tl.load(own_at + H, mask=own, other=0.0).to(tl.float32)
            own_g = tl.load(own_at + 2 * H, mask=own, other=0.0).to(tl.float32)
            own_o = tl.load(own_at + 3 * H, mask=own, other=0.0).to(tl.float32)
        if dcells_ptr is not None:
            dc += tl.load(dcells_ptr + t * size + o_own, mask=own, other=0.0).to(tl.float32)
        later = in_b & (t + 1 < n_steps)
        if reset_ptr is not None:
            cut = tl.load(reset_ptr + (t + 1) * n_rows + rows, mask=later, other=0)
            here = tl.load(reset_ptr + t * n_rows + rows, mask=in_b, other=0)
        if COLUMNS > 1:
            if back > 0:
                wait(counter, back * COLUMNS, INTERPRET)
            after = da_ptr + (t + 1) * size * 4 + rows * (4 * H)
            through = sum_of_loaded(after, later, w, H, BLOCK_K, PARTS, 4, AHEAD, WARP_GROUPS, INTERPRET)
        else:
            through = sum_of_products(d, w, 4, WARP_GROUPS, INTERPRET)
        if reset_ptr is not None:
            through = tl.where(cut != 0, 0.0, through)
            here = here != 0
            before = tl.where(here, 0.0, before)
        dh += through
        s_i, s_f, s_g, s_o, dc = _step_back(i, f, g, o, c, before, dh, dc, own_i, own_f, own_g, own_o)
        if reset_ptr is not None:
            dc = tl.where(here, 0.0, dc)
        da_at = da_ptr + t * size * 4 + o_gate
        tl.store(da_at, s_i, mask=own)
        tl.store(da_at + H, s_f, mask=own)
        tl.store(da_at + 2 * H, s_g, mask=own)
        tl.store(da_at + 3 * H, s_o, mask=own)
        if COLUMNS > 1:
            if t > t0:
                arrive(counter)
        else:
            d = (s_i.to(dtype), s_f.to(dtype), s_g.to(dtype), s_o.to(dtype))
    tl.store(dc_ptr + o_own, dc, mask=own)


@triton.jit
def forward_step_kernel(a_ptr, before_ptr, reset_ptr, y_ptr, c_ptr, H: tl.constexpr, BLOCK: tl.constexpr):
    """One step of one row after the products: activations in place, cell and hidden state."""
    row, o_h = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_h = o_h < H
    at = a_ptr + row * (4 * H) + o_h
    a_i = tl.load(at, mask=in_h, other=0.0).to(tl.float32)
    a_f = tl.load(at + H, mask=in_h, other=0.0).to(tl.float32)
    a_g = tl.load(at + 2 * H, mask=in_h, other=0.0).to(tl.float32)
    a_o = tl.load(at + 3 * H, mask=in_h, other=0.0).to(tl.float32)
    c = tl.load(before_ptr + row * H + o_h, mask=in_h, other=0.0).to(tl.float32)
    if reset_ptr is not None:
        c = tl.where(tl.load(reset_ptr + row) != 0, 0.0, c)
    i, f, g, o, c, h = _step(a_i, a_f, a_g, a_o, c)
    tl.store(at, i, mask=in_h)
    tl.store(at + H, f, mask=in_h)
    tl.store(at + 2 * H, g, mask=in_h)
    tl.store(at + 3 * H, o, mask=in_h)
    tl.store(c_ptr + row * H + o_h, c, mask=in_h)
    tl.store(y_ptr + row * H + o_h, h, mask=in_h)


@triton.jit
def backward_step_kernel(
    a_ptr,
    c_ptr,
    before_ptr,
    reset_ptr,
    dh_ptr,
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
    i = tl.load(a_ptr + o_gate, mask=in_h, other=0.0).to(tl.float32)
    f = tl.load(a_ptr + o_gate + H, mask=in_h, other=0.0).to(tl.float32)
    g = tl.load(a_ptr + o_gate + 2 * H, mask=in_h, other=0.0).to(tl.float32)
    o = tl.load(a_ptr + o_gate + 3 * H, mask=in_h, other=0.0).to(tl.float32)
    c = tl.load(c_ptr + o_own, mask=in_h, other=0.0)
    before = tl.load(before_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    dh = tl.load(dh_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    dc = tl.load(dc_ptr + o_own, mask=in_h, other=0.0)
    own_i, own_f, own_g, own_o = 0.0, 0.0, 0.0, 0.0
    if own_ptr is not None:
        own_i = tl.load(own_ptr + o_gate, mask=in_h, other=0.0).to(tl.float32)
        own_f = tl.load(own_ptr + o_gate + H, mask=in_h, other=0.0).to(tl.float32)
        own_g = tl.load(own_ptr + o_gate + 2 * H, mask=in_h, other=0.0).to(tl.float32)
        own_o = tl.load(own_ptr + o_gate + 3 * H, mask=in_h, other=0.0).to(tl.float32)
    if dcells_ptr is not None:
        dc += tl.load(dcells_ptr + o_own, mask=in_h, other=0.0).to(tl.float32)
    here = False
    if reset_ptr is not None:
        here = tl.load(reset_ptr + row) != 0
        before = tl.where(here, 0.0, before)
    s_i, s_f, s_g, s_o, dc = _step_back(i, f, g, o, c, before, dh, dc, own_i, own_f, own_g, own_o)
    tl.store(da_ptr + o_gate, s_i, mask=in_h)
    tl.store(da_ptr + o_gate + H, s_f, mask=in_h)
    tl.store(da_ptr + o_gate + 2 * H, s_g, mask=in_h)
    tl.store(da_ptr + o_gate + 3 * H, s_o, mask=in_h)
    tl.store(dc_ptr + o_own, tl.where(here, 0.0, dc), mask=in_h)
