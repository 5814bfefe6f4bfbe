"""The pointwise part of a step of a recurrent layer on the CPU, in passes that Numba compiles.

In torch's operators a step takes four to six passes over its gates, and about twelve on the way back, each with threads
to wake. Here a row of gates goes through all of them while it is in the innermost cache. Each loop runs over few
arrays: if more than about five may overlap, LLVM does not vectorise it.

Passes take NumPy arrays, float32 or float64, and work in place; functions of a row are inlined in their callers.
"""

from __future__ import annotations

import functools
from typing import Any

from numba.extending import register_jitable

from gatescope.kernels.activations_host import CONTRACT, sigmoid, tanh
from gatescope.kernels.host import compiled


@register_jitable
def _four(a: Any) -> Any:
    """The four parts of a row [4H]."""
    hidden = len(a) // 4
    return a[:hidden], a[hidden : 2 * hidden], a[2 * hidden : 3 * hidden], a[3 * hidden :]


@register_jitable
def fill_row(out: Any, values: Any) -> None:
    """Copy a row; this compiles in a tenth of the time of an assignment to a slice."""
    for i in range(len(out)):
        out[i] = values[i]


@register_jitable
def add_row(out: Any, values: Any) -> None:
    """Add a row to another."""
    for i in range(len(out)):
        out[i] += values[i]


@register_jitable
def add_bias_gradient(db: Any, g: Any, stride: int, n_rows: int, sums: Any) -> None:
    """Add the column sums of a step's gradients, n_rows rows of g, flat and `stride` apart, to db [R] in float64.

    A running total over all rows and steps in float32 would be several times less exact; sums [R] is a buffer.
    """
    sums.fill(0)
    for i in range(n_rows):
        add_row(sums, g[i * stride : i * stride + len(sums)])
    add_row(db, sums)


_compiled = functools.partial(compiled, fast=CONTRACT)


@register_jitable
def gru_row(a: Any, h: Any, out: Any, reset_after: bool) -> None:
    """Do for one row what `gru_state` does for all rows: a [4H], the others [H]."""
    hidden, one, half = len(h), h.dtype.type(1), h.dtype.type(0.5)
    p, r, z, n = _four(a)
    if reset_after:
        for i in range(hidden):
            n[i] += r[i] * p[i]
    for i in range(hidden):
        n[i] = tanh(n[i])
    # From the nearer end, as in torch.lerp: what is added to it is small, and so is the rounding error.
    for i in range(hidden):
        way = h[i] - n[i]
        out[i] = n[i] + z[i] * way if z[i] < half else h[i] - (one - z[i]) * way


@register_jitable
def sigmoid_row(a: Any) -> None:
    """Apply the sigmoid to a row."""
    for i in range(len(a)):
        a[i] = sigmoid(a[i])


@_compiled
def gru_gates(a: Any, h: Any, reset_after: bool) -> None:
    """Apply the sigmoid to r and z of a step's a [B, 4H] (p, r, z, n); without reset_after, write p = r * h."""
    hidden = h.shape[1]
    for row in range(len(a)):
        p, r, z, _ = _four(a[row])
        state = h[row]
        # Two independent chains of operations.
        for i in range(hidden):
            r[i], z[i] = sigmoid(r[i]), sigmoid(z[i])
        if not reset_after:
            for i in range(hidden):
                p[i] = r[i] * state[i]


@_compiled
def gru_state(a: Any, h: Any, out: Any, reset_after: bool) -> None:
    """Apply tanh to n, with reset_after after adding r * p, and write the state [B, H] after the step."""
    for row in range(len(a)):
        gru_row(a[row], h[row], out[row], reset_after)


@register_jitable
def gru_row_back(a: Any, h: Any, dh: Any, given: Any, out: Any) -> None:
    """Do for one row what `gru_state_back` does for all rows: given [4H] or empty."""
    hidden, one = len(h), h.dtype.type(1)
    _, _, z, n = _four(a)
    _, _, out_z, out_n = _four(out)
    for i in range(hidden):
        out_z[i] = dh[i] * (h[i] - n[i])
    for i in range(hidden):
        out_n[i] = dh[i] * (one - z[i])
    if len(given):
        out_zn, given_zn = out[2 * hidden :], given[2 * hidden :]
        for i in range(2 * hidden):
            out_zn[i] += given_zn[i]
    for i in range(hidden):
        out_z[i] *= z[i] * (one - z[i])
    for i in range(hidden):
        out_n[i] *= one - n[i] * n[i]


@register_jitable
def gru_reset_row_back(a: Any, h: Any, dh: Any, given: Any, out: Any, reset_after: bool) -> None:
    """Do for one row what `gru_reset_back` does for all rows, except for dy: given [4H] or empty."""
    hidden, one = len(h), h.dtype.type(1)
    p, r, z, _ = _four(a)
    out_p, out_r, _, out_n = _four(out)
    for i in range(hidden):
        dh[i] *= z[i]
    if reset_after:
        for i in range(hidden):
            out_p[i] = out_n[i] * r[i]
            out_r[i] = out_n[i] * p[i]
    else:
        for i in range(hidden):
            dh[i] += out_p[i] * r[i]
            out_r[i] = out_p[i] * h[i]
    if len(given):
        given_p, given_r, _, _ = _four(given)
        for i in range(hidden):
            out_r[i] += given_r[i]
        if reset_after:
            for i in range(hidden):
                out_p[i] += given_p[i]
    for i in range(hidden):
        out_r[i] *= r[i] * (one - r[i])


@_compiled
def gru_state_back(a: Any, h: Any, dh: Any, given: Any, out: Any) -> None:
    """Write the gradients before the activations of z and n, in a step's a, to out [B, 4H].

    Args:
        a: [B, 4H], p, r, z, n after their activation.
        h: [B, H], the state before the step.
        dh: [B, H], the gradient of the state after it.
        given: [B, 4H], the gradients of a itself, or [B, 0].
    """
    for row in range(len(a)):
        gru_row_back(a[row], h[row], dh[row], given[row], out[row])


@_compiled
def gru_reset_back(a: Any, h: Any, dh: Any, given: Any, out: Any, dy: Any, reset_after: bool) -> None:
    """Write the gradients of p and r, and turn dh into dy + dh z, which reaches the previous state directly.

    With reset_after p's gradient is computed from n's; without it, p's is there already, and reaches that state
    directly too.
    """
    for row in range(len(a)):
        gru_reset_row_back(a[row], h[row], dh[row], given[row], out[row], reset_after)
        add_row(dh[row], dy[row])


@register_jitable
def lstm_row(a: Any, before: Any, cell: Any, state: Any) -> None:
    """Do for one row what `lstm_state` does for all rows: a [4H], the others [H]."""
    hidden = len(cell)
    i, f, g, o = _four(a)
    for j in range(hidden):
        i[j], f[j], o[j] = sigmoid(i[j]), sigmoid(f[j]), sigmoid(o[j])
    for j in range(hidden):
        g[j] = tanh(g[j])
    for j in range(hidden):
        cell[j] = f[j] * before[j] + i[j] * g[j]
    for j in range(hidden):
        state[j] = o[j] * tanh(cell[j])


@_compiled
def lstm_state(a: Any, before: Any, c: Any, h: Any) -> None:
    """Apply the activations (i, f, g, o) to a step's a [B, 4H], and write the cell and the state after it.

    Args:
        before: [B, H], the cell before the step; c and h: [B, H], those after it.
    """
    for row in range(len(a)):
        lstm_row(a[row], before[row], c[row], h[row])


@register_jitable
def lstm_row_back(gates: Any, cell: Any, before: Any, dh: Any, dc: Any, given: Any, out: Any, squashed: Any) -> None:
    """Write the gradients of one row's gates before their activation, and turn dc into that of the previous cell.

    Args:
        gates: [4H], i, f, g, o after their activation.
        cell, before: [H], the cell after the step and before it.
        dh, dc: [H], the gradients of the state and the cell after the step.
        given: [4H], the gradients of the gates themselves, or empty.
        out: [4H].
        squashed: [H], a buffer for tanh(c).
    """
    hidden, one = len(cell), cell.dtype.type(1)
    i, f, g, o = _four(gates)
    d_i, d_f, d_g, d_o = _four(out)
    for j in range(hidden):
        squashed[j] = tanh(cell[j])
    for j in range(hidden):
        d_o[j] = dh[j] * squashed[j]
    for j in range(hidden):
        dc[j] += dh[j] * o[j] * (one - squashed[j] * squashed[j])
    for j in range(hidden):
        d_i[j], d_g[j] = dc[j] * g[j], dc[j] * i[j]
    for j in range(hidden):
        d_f[j] = dc[j] * before[j]
    for j in range(hidden):
        dc[j] *= f[j]
    if len(given):
        for j in range(4 * hidden):
            out[j] += given[j]
    for j in range(hidden):
        d_i[j] *= i[j] * (one - i[j])
    for j in range(hidden):
        d_f[j] *= f[j] * (one - f[j])
    for j in range(hidden):
        d_o[j] *= o[j] * (one - o[j])
    for j in range(hidden):
        d_g[j] *= one - g[j] * g[j]
