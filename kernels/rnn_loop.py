"""The Elman network's time loop in torch operators that work in place, forward and backward.

The output buffer first takes the input product of a block of steps, then, step by step, the recurrent product and the
activation. Backward fills a buffer with the slopes of a block of steps and walks back through it, as in the other
cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatescope.kernels.products import (
    Gradients,
    add_product,
    by_columns,
    factors,
    input_product,
    joint_bias,
    sum_product,
    wide,
)
from gatescope.kernels.time_blocks import BLOCK, blocks, cleared_rows, entering_block


def rnn_forward(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    reset: Tensor | None,
    nonlinearity: str,
) -> Tensor:
    """Run one layer.

    Args:
        x: [T, B, I].
        h0: [B, H], the state before the first step.
        w_ih, w_hh: [H, I], [H, H].
        b_ih, b_hh: [H], both or none.
        reset: [T, B] bool or None: h is zero before the step where it is true.
        nonlinearity: "tanh" or "relu".

    Returns:
        y [T, B, H], in at least float32.
    """
    x, w_ih, w_hh = factors(x, w_ih, w_hh)
    h0, b_ih, b_hh = wide(h0, b_ih, b_hh)
    y = h0.new_empty(*x.shape[:2], h0.shape[1])
    bias = joint_bias(b_ih, b_hh)
    activate = torch.tanh_ if nonlinearity == "tanh" else torch.relu_
    clears = cleared_rows(reset, len(x))
    w_t, h = w_hh.t(), h0
    for start, stop in blocks(len(x)):
        input_product(x[start:stop], w_ih, bias, y[start:stop])
        for out, clear in zip(y[start:stop].unbind(0), clears[start:stop], strict=True):
            if clear is not None:
                h = h.masked_fill(clear, 0)
            h = activate(add_product(out, h, w_t))
    return y


def rnn_backward(
    dy: Tensor,
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    y: Tensor,
    reset: Tensor | None,
    nonlinearity: str,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Go back through one layer.

    Args:
        dy: gradient of y.
        x, h0, w_ih, w_hh: as in forward; x is read only if needs[2], w_ih only if needs[0].
        y: the result of forward.
        reset: [T, B] bool or None.
        nonlinearity: as in forward.
        needs: which gradients are wanted, in the order of the result.

    Returns:
        Gradients of x, h0, w_ih, w_hh, b_ih, b_hh; None for those not needed.
    """
    x, w_ih, w_hh = factors(x, w_ih, w_hh)
    dy, h0, y = wide(dy, h0, y)
    gradients = Gradients(x, w_ih, w_hh, (needs[0], needs[2], needs[3], needs[4] or needs[5]), y.shape[2])
    buffer = torch.empty_like(y[:BLOCK])
    dh, nothing = dy[-1].clone(memory_format=torch.contiguous_format), torch.zeros_like(y[0])
    clears, w_columns = cleared_rows(reset, len(y)), by_columns(w_hh)
    for start, stop in reversed(list(blocks(len(y)))):
        steps, gradient = slice(start, stop), buffer[: stop - start]
        if nonlinearity == "tanh":
            torch.addcmul(y.new_ones(()), y[steps], y[steps], value=-1, out=gradient)
        else:
            torch.gt(y[steps], 0, out=gradient)
        dys = (dy[start - 1] if start > 0 else nothing, *dy[start : stop - 1].unbind(0))
        for g, clear, before_dy in reversed(list(zip(gradient, clears[steps], dys, strict=True))):
            g.mul_(dh)
            sum_product(before_dy if clear is None else nothing, g, w_columns, out=dh)
            if clear is not None:
                dh.masked_fill_(clear, 0).add_(before_dy)
        before = entering_block(h0, y, start, stop, reset)
        gradients.of_input(steps, gradient)
        gradients.of_biases(gradient)
        gradients.of_recurrence(gradient, before)
    db = gradients.sums
    return gradients.x, dh if needs[1] else None, gradients.w_ih, gradients.w_hh, db, None if db is None else db.clone()
