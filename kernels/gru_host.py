"""The GRU over a whole sequence on the CPU, forward and backward, in functions that Numba compiles.

As for the LSTM (`gatescope.kernels.lstm_host`), each core takes a share of the rows, weights lie in panels, and a
step's sums stay in the core's own cache. The recurrent product is split in two: first that of r and z, then that of n,
whose left side is h with reset_after and r * h without. Backward they come in the opposite order.
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
from gatescope.kernels.steps_host import (
    add_bias_gradient,
    add_row,
    fill_row,
    gru_reset_row_back,
    gru_row,
    gru_row_back,
    sigmoid_row,
)


def gru_forward(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    reset: Tensor | None,
    reset_after: bool,
    save: bool,
) -> tuple[Tensor, Tensor]:
    """Do what `gatescope.kernels.gru_loop.gru_forward` does, in float32 or float64."""
    (n_steps, n_rows, width), hidden = x.shape, h0.shape[1]
    y = empty(x.dtype, x.device, n_steps, n_rows, hidden)
    a = empty(x.dtype, x.device, n_steps, n_rows, 4, hidden) if save else x.new_empty(0)
    start, bias = (x.new_zeros(3 * hidden) if each is None else each for each in (b_ih, b_hh))
    weights = packed(array(w_ih).T), *recurrent_panels(array(w_hh).T)
    given = flat(x), *weights, array(start.unsqueeze(0)), array(bias), NO_TOKENS, flat(reset)
    begin, outputs = array(h0), (flat(a), flat(y))

    def run(first: int, last: int) -> None:
        gru_walk(*given, begin[first:last].copy(), *outputs, n_steps, n_rows, first, width, reset_after)

    by_shares(run, n_rows)
    return y, a


def gru_backward(
    dy: Tensor | None,
    dsaved: Tensor | None,
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    y: Tensor,
    a: Tensor,
    reset: Tensor | None,
    reset_after: bool,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Do what `gatescope.kernels.gru_loop.gru_backward` does, in float32 or float64."""
    (n_steps, n_rows, width), hidden = x.shape, h0.shape[1]
    dx = empty(x.dtype, x.device, *x.shape) if needs[0] else x.new_empty(0)
    recurrent = array(w_hh)
    weights = packed(array(w_ih)), packed(recurrent[: 2 * hidden]), packed(recurrent[2 * hidden :])
    inputs = flat(x if needs[2] else None, x)
    given = flat(dy, x), flat(dsaved, x), inputs, flat(h0), *weights, flat(reset), flat(a), flat(y)

    def run(first: int, last: int) -> tuple[np.ndarray, ...]:
        wide, wide_input = padded_width(hidden, x.element_size()), padded_width(width, x.element_size())
        dh = np.zeros((last - first, wide), recurrent.dtype)
        dw_ih = np.zeros((3 * hidden if needs[2] else 0, wide_input), recurrent.dtype)
        dw_hh = np.zeros((3 * hidden if needs[3] else 0, wide), recurrent.dtype)
        db = np.zeros(4 * hidden if needs[4] or needs[5] else 0)
        sums = dh, dw_ih, dw_hh, db
        gru_walk_back(*given, *sums, flat(dx), n_steps, n_rows, first, hidden, width, reset_after)
        return sums

    shares = by_shares(run, n_rows)
    dh = torch.from_numpy(np.concatenate([share[0] for share in shares]))
    dw_ih, dw_hh, db = (torch.from_numpy(sum(each)) for each in zip(*(share[1:] for share in shares), strict=True))
    db = db.to(x.dtype)
    db_ih = db[hidden:].clone()
    db_hh = torch.cat((db[hidden : 3 * hidden], db[:hidden])) if reset_after else db_ih.clone()
    found = dx, dh[:, :hidden], dw_ih[:, :width], dw_hh[:, :hidden], db_ih, db_hh
    # Without the zero columns: compiled programs rely on the strides that the operator declares.
    return tuple(each.contiguous() if need else None for each, need in zip(found, needs, strict=True))


def recurrent_panels(w_hh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W_hh' [H, 3H] in panels: the columns of r and z, and those of n."""
    width = 2 * len(w_hh)
    return packed(w_hh[:, :width]), packed(w_hh[:, width:])


@compiled
def gru_walk(
    x: Any,
    w_ih: Any,
    w_rz: Any,
    w_n: Any,
    starts: Any,
    bias: Any,
    tokens: Any,
    reset: Any,
    h: Any,
    saved: Any,
    y: Any,
    n_steps: int,
    n_rows: int,
    first: int,
    width: int,
    reset_after: bool,
) -> None:
    """Take some rows of a batch through all steps.

    Args:
        x: [T, B, I], flat, as are all arrays whose shapes are in brackets below; or empty, with I = 0.
        w_ih, w_rz, w_n: W_ih' [I, 3H], and the columns of W_hh' for r and z [H, 2H] and for n [H, H], in panels.
        starts, tokens: initial values of the input product by character, [V, 3H] (not flat), and the characters [T, B];
            without characters every step starts with the first row, the bias.
        bias: of the recurrent product, [3H].
        reset: [T, B] or empty.
        h: the states of the rows [n, H] (not flat), overwritten with those after the last step.
        saved: p, r, z, n of every step [T, B, 4H], or empty if they are not kept.
        y: [T, B, H].
        n_steps, n_rows: T and B.
        first: batch index of the first of these rows.
        width: I.
    """
    (n, hidden), dtype, item = h.shape, starts.dtype, starts.itemsize
    below = np.zeros((n, padded_width(3 * hidden, item)), dtype)
    rz, last = np.zeros((n, padded_width(2 * hidden, item)), dtype), np.zeros((n, padded_width(hidden, item)), dtype)
    a, nothing, states = np.empty((n, 4 * hidden), dtype), np.zeros(hidden, dtype), h.reshape(-1)
    # The left side of the product of n.
    left = states if reset_after else np.empty(n * hidden, dtype)
    for t in range(n_steps):
        top = t * n_rows + first
        for i in range(n):
            fill_row(below[i, : 3 * hidden], starts[tokens[top + i] if len(tokens) else 0])
            fill_row(rz[i, : 2 * hidden], bias)
            fill_row(last[i, :hidden], bias[2 * hidden :])
            if len(reset) and reset[top + i]:
                fill_row(h[i], nothing)
        add_product(x[top * width :], width, n, width, w_ih, below)
        add_product(states, hidden, n, hidden, w_rz, rz)
        for i in range(n):
            fill_row(a[i, hidden:], below[i])
            add_row(a[i, hidden : 3 * hidden], rz[i])
            sigmoid_row(a[i, hidden : 3 * hidden])
            if not reset_after:
                r, gated = a[i, hidden : 2 * hidden], left[i * hidden : (i + 1) * hidden]
                for j in range(hidden):
                    gated[j] = r[j] * h[i, j]
        add_product(left, hidden, n, hidden, w_n, last)
        for i in range(n):
            if reset_after:
                fill_row(a[i, :hidden], last[i])
            else:
                fill_row(a[i, :hidden], left[i * hidden :])
                add_row(a[i, 3 * hidden :], last[i])
            at = (top + i) * hidden
            gru_row(a[i], h[i], y[at : at + hidden], reset_after)
            fill_row(h[i], y[at : at + hidden])
            if len(saved):
                fill_row(saved[4 * at : 4 * (at + hidden)], a[i])


@compiled
def gru_walk_back(
    dy: Any,
    dsaved: Any,
    x: Any,
    h0: Any,
    w_ih: Any,
    w_rz: Any,
    w_n: Any,
    reset: Any,
    saved: Any,
    y: Any,
    dh: Any,
    dw_ih: Any,
    dw_hh: Any,
    db: Any,
    dx: Any,
    n_steps: int,
    n_rows: int,
    first: int,
    hidden: int,
    width: int,
    reset_after: bool,
) -> None:
    """Take the gradients of some rows of a batch back through all steps.

    Args:
        dy: [T, B, H], flat, as are all arrays whose shapes are in brackets below, or empty.
        dsaved: of p, r, z, n, [T, B, 4H], or empty.
        x: [T, B, I], or empty without dw_ih.
        h0: [B, H].
        w_ih, w_rz, w_n: [3H, I], and the rows of W_hh for r and z [2H, H] and for n [H, H], in panels.
        reset: [T, B] or empty.
        saved, y: as forward kept them.
        dh: of the state after the last step, [n, H] (not flat, with a panel's zero columns), overwritten with that
            before the first step.
        dw_ih, dw_hh, db: totals to add to, [3H, I] and [3H, H] (not flat, with the zero columns), and [4H] of p, r, z,
            n in float64; empty if not wanted.
        dx: [T, B, I], or empty.
        n_steps, n_rows: T and B.
        first: batch index of the first of these rows.
        hidden, width: H and I.
    """
    n, rows, dtype, item = len(dh), 4 * hidden, x.dtype, x.itemsize
    size, stride = min(max(DEPTH // max(n, 1), 1), n_steps), apart(rows, item)
    g, before = np.empty(size * n * stride, dtype), np.empty((n, hidden), dtype)
    inputs = np.zeros(size * n * dw_ih.shape[1] if len(dw_ih) else 0, dtype)
    states = np.zeros(size * n * dw_hh.shape[1] if len(dw_hh) else 0, dtype)
    # The left side of the product of n.
    gated = np.zeros(0 if reset_after else len(states), dtype)
    below, through = np.empty((n if len(dx) else 0, padded_width(width, item)), dtype), np.empty(dh.shape, dtype)
    nothing, sums = np.zeros(hidden, dtype), np.empty(rows, dtype)
    for stop in range(n_steps, 0, -size):
        start = max(stop - size, 0)
        depth = (stop - start) * n
        for t in range(stop - 1, start - 1, -1):
            top, place = t * n_rows + first, (t - start) * n
            source, top_before = (h0, first) if t == 0 else (y, top - n_rows)
            for i in range(n):
                at, behind = (top + i) * hidden, (top_before + i) * hidden
                new = len(reset) > 0 and reset[top + i]
                fill_row(before[i], nothing if new else source[behind : behind + hidden])
                if len(dy):
                    add_row(dh[i, :hidden], dy[at : at + hidden])
                given = dsaved[4 * at : 4 * (at + hidden)] if len(dsaved) else sums[:0]
                out = g[(place + i) * stride : (place + i) * stride + rows]
                gru_row_back(saved[4 * at : 4 * (at + hidden)], before[i], dh[i, :hidden], given, out)
            if not reset_after:
                through.fill(0)
                add_product(g[place * stride + 3 * hidden :], stride, n, hidden, w_n, through)
            for i in range(n):
                at = (top + i) * hidden
                given = dsaved[4 * at : 4 * (at + hidden)] if len(dsaved) else sums[:0]
                out = g[(place + i) * stride : (place + i) * stride + rows]
                if not reset_after:
                    fill_row(out[:hidden], through[i])
                    if len(given):
                        add_row(out[:hidden], given)
                gru_reset_row_back(
                    saved[4 * at : 4 * (at + hidden)], before[i], dh[i, :hidden], given, out, reset_after
                )
            add_product(g[place * stride + hidden :], stride, n, 2 * hidden, w_rz, dh)
            if reset_after:
                add_product(g[place * stride :], stride, n, hidden, w_n, dh)
            if len(dx):
                write_product(
                    g[place * stride + hidden :], stride, n, 3 * hidden, w_ih, below, dx[top * width :], width
                )
            if len(db):
                add_bias_gradient(db, g[place * stride :], stride, n, sums)
            if len(inputs):
                pack_rows(x[top * width :], n, width, inputs, depth, place)
            if len(states):
                pack_rows(before.reshape(-1), n, hidden, states, depth, place)
            if len(gated):
                for i in range(n):
                    fill_row(before[i], saved[(top + i) * rows :])
                pack_rows(before.reshape(-1), n, hidden, gated, depth, place)
            if len(reset):
                for i in range(n):
                    if reset[top + i]:
                        dh[i].fill(0)
        if len(inputs):
            add_product_across(g[hidden:], stride, 3 * hidden, depth, inputs, dw_ih)
        if len(states):
            add_product_across(g[hidden:], stride, 2 * hidden, depth, states, dw_hh)
            of_n, right = (g, states) if reset_after else (g[3 * hidden :], gated)
            add_product_across(of_n, stride, hidden, depth, right, dw_hh[2 * hidden :])
