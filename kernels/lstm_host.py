"""The LSTM over a whole sequence on the CPU, forward and backward, in functions that Numba compiles.

The rows of a batch do not depend on each other: each core takes a share of them through all steps, in one call without
synchronisation. A step's gates are summed in the core's own cache, first the input product and then the recurrent one,
pass through their activations there, and leave it once, if they are kept at all. Weights lie in panels
(`gatescope.kernels.panels`), to which a library would have to copy them at every step for a product of so few rows.

Backward keeps the gradients before the activations of several steps, from which two products add their part of the
weights' gradients. The gradients are sums over the shares, so their last bits depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.kernels.host import NO_TOKENS, array, by_shares, compiled, empty, flat
from gatescope.kernels.panels import (
    DEPTH,
    add_product,
    add_product_across,
    apart,
    pack_rows,
    packed,
    padded_width,
    write_product,
)
from gatescope.kernels.products import joint_bias
from gatescope.kernels.steps_host import add_bias_gradient, add_row, fill_row, lstm_row, lstm_row_back


def lstm_forward(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    reset: Tensor | None,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `gatescope.kernels.lstm_loop.lstm_forward` does, in float32 or float64."""
    (n_steps, n_rows, width), hidden = x.shape, h0.shape[1]
    y, cells = (empty(x.dtype, x.device, n_steps, n_rows, hidden) for _ in range(2))
    gates = empty(x.dtype, x.device, n_steps, n_rows, 4, hidden) if save else x.new_empty(0)
    bias = joint_bias(b_ih, b_hh)
    starts = x.new_zeros(1, 4 * hidden) if bias is None else bias.unsqueeze(0)
    weights = packed(array(w_ih).T), packed(array(w_hh).T)
    given, outputs = (flat(x), *weights, array(starts), NO_TOKENS, flat(reset)), (flat(gates), flat(y), flat(cells))
    h_begin, c_begin = array(h0), array(c0)

    def run(first: int, last: int) -> None:
        h, c = h_begin[first:last].copy(), c_begin[first:last].copy()
        lstm_walk(*given, h, c, *outputs, n_steps, n_rows, first, width)

    by_shares(run, n_rows)
    return y, cells, gates


def lstm_backward(
    dy: Tensor | None,
    dcells: Tensor | None,
    dsaved: Tensor | None,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    y: Tensor,
    cells: Tensor,
    a: Tensor,
    reset: Tensor | None,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Do what `gatescope.kernels.lstm_loop.lstm_backward` does, in float32 or float64."""
    (n_steps, n_rows, width), hidden = x.shape, h0.shape[1]
    dx = empty(x.dtype, x.device, *x.shape) if needs[0] else x.new_empty(0)
    gradients, saved = (flat(dy, x), flat(dcells, x), flat(dsaved, x)), (flat(a), flat(y), flat(cells))
    begin = flat(h0), flat(c0)
    inputs = flat(x if needs[3] else None, x)
    given = inputs, *begin, packed(array(w_ih)), packed(array(w_hh)), flat(reset)
    itemsize = x.element_size()

    def run(first: int, last: int) -> tuple[np.ndarray, ...]:
        dtype, rows = begin[0].dtype, 4 * hidden
        dh = np.zeros((last - first, padded_width(hidden, itemsize)), dtype)
        dc = np.zeros((last - first, hidden), dtype)
        dw_ih = np.zeros((rows if needs[3] else 0, padded_width(width, itemsize)), dtype)
        dw_hh = np.zeros((rows if needs[4] else 0, padded_width(hidden, itemsize)), dtype)
        db = np.zeros(rows if needs[5] or needs[6] else 0)
        sums = dh, dc, dw_ih, dw_hh, db
        lstm_walk_back(*gradients, *given, *saved, *sums, flat(dx), n_steps, n_rows, first, width)
        return sums

    shares = by_shares(run, n_rows)
    states = [torch.from_numpy(np.concatenate(each)) for each in zip(*(share[:2] for share in shares), strict=True)]
    parts = [torch.from_numpy(sum(each)) for each in zip(*(share[2:] for share in shares), strict=True)]
    db = parts[2].to(x.dtype)
    found = dx, states[0][:, :hidden], states[1], parts[0][:, :width], parts[1][:, :hidden], db, db.clone()
    # Without the zero columns: compiled programs rely on the strides that the operator declares.
    return tuple(each.contiguous() if need else None for each, need in zip(found, needs, strict=True))


@compiled
def lstm_walk(
    x: Any,
    w_ih: Any,
    w_hh: Any,
    starts: Any,
    tokens: Any,
    reset: Any,
    h: Any,
    c: Any,
    gates: Any,
    y: Any,
    cells: Any,
    n_steps: int,
    n_rows: int,
    first: int,
    width: int,
) -> None:
    """Take some rows of a batch through all steps.

    Args:
        x: [T, B, I], flat, as are all arrays whose shapes are in brackets below; or empty, with I = 0.
        w_ih, w_hh: W_ih' [I, 4H] and W_hh' [H, 4H] in panels.
        starts, tokens: initial values of a step's gates by character, [V, 4H] (not flat), and the characters [T, B];
            without characters every step starts with the first row, the bias.
        reset: [T, B] or empty.
        h, c: the states of the rows [n, H] (not flat), overwritten with those after the last step.
        gates: [T, B, 4H], or empty if they are not kept.
        y, cells: [T, B, H].
        n_steps, n_rows: T and B.
        first: batch index of the first of these rows.
        width: I.
    """
    (n, hidden), rows = h.shape, starts.shape[1]
    a = np.zeros((n, padded_width(rows, x.itemsize)), x.dtype)
    nothing, states = np.zeros(hidden, x.dtype), h.reshape(-1)
    for t in range(n_steps):
        top = t * n_rows + first
        for i in range(n):
            fill_row(a[i, :rows], starts[tokens[top + i] if len(tokens) else 0])
            if len(reset) and reset[top + i]:
                fill_row(h[i], nothing)
                fill_row(c[i], nothing)
        add_product(x[top * width :], width, n, width, w_ih, a)
        add_product(states, hidden, n, hidden, w_hh, a)
        for i in range(n):
            at = (top + i) * hidden
            cell, activated = cells[at : at + hidden], a[i, :rows]
            lstm_row(activated, c[i], cell, h[i])
            fill_row(c[i], cell)
            fill_row(y[at : at + hidden], h[i])
            if len(gates):
                fill_row(gates[4 * at : 4 * (at + hidden)], activated)


@compiled
def lstm_walk_back(
    dy: Any,
    dcells: Any,
    dsaved: Any,
    x: Any,
    h0: Any,
    c0: Any,
    w_ih: Any,
    w_hh: Any,
    reset: Any,
    gates: Any,
    y: Any,
    cells: Any,
    dh: Any,
    dc: Any,
    dw_ih: Any,
    dw_hh: Any,
    db: Any,
    dx: Any,
    n_steps: int,
    n_rows: int,
    first: int,
    width: int,
) -> None:
    """Take the gradients of some rows of a batch back through all steps.

    Args:
        dy, dcells: [T, B, H], flat, as are all arrays whose shapes are in brackets below, or empty.
        dsaved: of the gates, [T, B, 4H], or empty.
        x: [T, B, I], or empty without dw_ih.
        h0, c0: [B, H].
        w_ih, w_hh: [4H, I] and [4H, H] in panels.
        reset: [T, B] or empty.
        gates, y, cells: as forward kept them.
        dh, dc: of the states after the last step, [n, H] (not flat, dh with a panel's zero columns), overwritten with
            those before the first step.
        dw_ih, dw_hh, db: totals to add to, [4H, I] and [4H, H] (not flat, with the zero columns), and [4H] in float64;
            empty if not wanted.
        dx: [T, B, I], or empty.
        n_steps, n_rows: T and B.
        first: batch index of the first of these rows.
        width: I.
    """
    (n, hidden), rows, dtype = dc.shape, 4 * dc.shape[1], x.dtype
    size, stride = min(max(DEPTH // max(n, 1), 1), n_steps), apart(rows, x.itemsize)
    g, before = np.empty(size * n * stride, dtype), np.empty((n, hidden), dtype)
    inputs = np.zeros(size * n * dw_ih.shape[1] if len(dw_ih) else 0, dtype)
    states = np.zeros(size * n * dw_hh.shape[1] if len(dw_hh) else 0, dtype)
    below = np.empty((n if len(dx) else 0, padded_width(width, x.itemsize)), dtype)
    nothing, squashed, sums = np.zeros(hidden, dtype), np.empty(hidden, dtype), np.empty(rows, dtype)
    for stop in range(n_steps, 0, -size):
        start = max(stop - size, 0)
        depth = (stop - start) * n
        for t in range(stop - 1, start - 1, -1):
            top, place = t * n_rows + first, (t - start) * n
            before_h, before_c = (h0, c0) if t == 0 else (y, cells)
            top_before = first if t == 0 else top - n_rows
            for i in range(n):
                at, behind = (top + i) * hidden, (top_before + i) * hidden
                new = len(reset) > 0 and reset[top + i]
                old = nothing if new else before_c[behind : behind + hidden]
                if len(dy):
                    add_row(dh[i, :hidden], dy[at : at + hidden])
                if len(dcells):
                    add_row(dc[i], dcells[at : at + hidden])
                given = dsaved[4 * at : 4 * (at + hidden)] if len(dsaved) else sums[:0]
                out = g[(place + i) * stride : (place + i) * stride + rows]
                kept, cell = gates[4 * at : 4 * (at + hidden)], cells[at : at + hidden]
                lstm_row_back(kept, cell, old, dh[i, :hidden], dc[i], given, out, squashed)
                fill_row(before[i], nothing if new else before_h[behind : behind + hidden])
            if len(db):
                add_bias_gradient(db, g[place * stride :], stride, n, sums)
            dh.fill(0)
            add_product(g[place * stride :], stride, n, rows, w_hh, dh)
            if len(dx):
                write_product(g[place * stride :], stride, n, rows, w_ih, below, dx[top * width :], width)
            if len(inputs):
                pack_rows(x[top * width :], n, width, inputs, depth, place)
            if len(states):
                pack_rows(before.reshape(-1), n, hidden, states, depth, place)
            if len(reset):
                for i in range(n):
                    if reset[top + i]:
                        dh[i].fill(0)
                        dc[i].fill(0)
        if len(inputs):
            add_product_across(g, stride, rows, depth, inputs, dw_ih)
        if len(states):
            add_product_across(g, stride, rows, depth, states, dw_hh)
