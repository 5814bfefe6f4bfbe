"""The GRU's time loop in torch operators that work in place, forward and backward.

One buffer A [T, B, 4, H] holds p, r, z, n of every step: the gates after their activation, and p, which is W_hn h +
b_hn with reset_after and r*h without. In this order the recurrent product W_hh h (rows n, r, z) fills the first three
columns of blocks and the input product W_ih x (rows r, z, n) the last three, so that each is one matrix product written
in place. On a CPU this loop is used for products in bfloat16 and for few rows; other layers run there as one compiled
walk (`gatescope.kernels.gru_host`).

Backward fills such a buffer for a block of steps with coefficients. The walk (`gatescope.kernels.gru_block`) multiplies
them by the gradient of h, which turns them into the gradients before the activations. With reset_after, the first three
columns of blocks are the gradient of the recurrent product and the last three that of the input product, so again
nothing is copied before a product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatescope.kernels.gru_block import walk, walk_back, walk_back_on_host, walk_on_host
from gatescope.kernels.host import empty
from gatescope.kernels.products import Gradients, by_columns, factors, fits_panels, input_product, wide
from gatescope.kernels.time_blocks import BLOCK, blocks, cleared_rows, entering_block


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
    """Run one layer.

    Args:
        x: [T, B, I].
        h0: [B, H], the state before the first step.
        w_ih, w_hh: [3H, I], [3H, H], rows r, z, n.
        b_ih, b_hh: [3H], both or none.
        reset: [T, B] bool or None: h is zero before the step where it is true.
        reset_after: where the reset gate multiplies; see `gatescope.kernels.gru`.
        save: whether to keep A.

    Returns:
        y [T, B, H] and A [T, B, 4, H], in at least float32; an empty tensor if A is not kept.
    """
    x, w_ih, w_hh = factors(x, w_ih, w_hh)
    h0, b_ih, b_hh = wide(h0, b_ih, b_hh)
    if fits_panels(x, h0):
        # Importing Numba takes half a second, which a GPU does not need.
        from gatescope.kernels import gru_host

        return gru_host.gru_forward(x, h0, w_ih, w_hh, b_ih, b_hh, reset, reset_after, save)
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    y = empty(h0.dtype, h0.device, n_steps, n_rows, hidden)
    a = empty(h0.dtype, h0.device, n_steps if save else min(n_steps, BLOCK), n_rows, 4 * hidden)
    bias, p_bias = biases(b_ih, b_hh, hidden, reset_after)
    weights = [part.t() for part in _parts(w_hh, hidden, reset_after)]
    clears = cleared_rows(reset, n_steps)
    through = walk_on_host if h0.is_cpu else walk
    h = h0
    for start, stop in blocks(n_steps):
        block = a[start:stop] if save else a[: stop - start]
        input_product(x[start:stop], w_ih, bias, block[:, :, hidden:])
        if reset_after:
            block[:, :, :hidden] = p_bias
        h = through(block, h, y[start:stop], clears[start:stop], weights)
    return y, a.view(n_steps, n_rows, 4, hidden) if save else h0.new_empty(0)


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
    """Go back through one layer.

    Args:
        dy, dsaved: gradients of y and A; None if there are none.
        x, h0, w_ih, w_hh: as in forward; x is read only if needs[2], w_ih only if needs[0].
        y, a: the results of forward.
        reset: [T, B] bool or None.
        reset_after: as in forward.
        needs: which gradients are wanted, in the order of the result.

    Returns:
        Gradients of x, h0, w_ih, w_hh, b_ih, b_hh; None for those not needed.
    """
    x, w_ih, w_hh = factors(x, w_ih, w_hh)
    dy, dsaved, h0, y = wide(dy, dsaved, h0, y)
    if fits_panels(x, h0):
        from gatescope.kernels import gru_host

        return gru_host.gru_backward(dy, dsaved, x, h0, w_ih, w_hh, y, a, reset, reset_after, needs)
    n_steps, n_rows, hidden = y.shape
    if dy is None:
        dy = torch.zeros_like(y)
    gradients = Gradients(x, w_ih, w_hh, (needs[0], needs[2], needs[3], needs[4] or needs[5]), 4 * hidden)
    buffer = a.new_empty(min(n_steps, BLOCK), n_rows, 4, hidden)
    dh, nothing = dy[-1].clone(memory_format=torch.contiguous_format), y.new_zeros(n_rows, hidden)
    clears = cleared_rows(reset, n_steps)
    weights = [by_columns(part) for part in _parts(w_hh, hidden, reset_after)]
    back = walk_back_on_host if y.is_cpu else walk_back
    for start, stop in reversed(list(blocks(n_steps))):
        steps, gradient = slice(start, stop), buffer[: stop - start]
        before = entering_block(h0, y, start, stop, reset)
        given = None if dsaved is None else dsaved[steps].contiguous()
        dys = (dy[start - 1] if start > 0 else nothing, *dy[start : stop - 1].unbind(0))
        back(gradient, given, a[steps], before, dh, dys, clears[steps], weights)
        _add(gradients, gradient.flatten(2), steps, before, a[steps, :, 0], reset_after)
    dw_hh, sums = gradients.w_hh, gradients.sums
    db_ih = db_hh = None
    if dw_hh is not None and reset_after:
        dw_hh = dw_hh.roll(-hidden, 0)
    if sums is not None:
        db_ih = sums[hidden:].clone()
        db_hh = sums[: 3 * hidden].roll(-hidden) if reset_after else db_ih.clone()
    return gradients.x, dh if needs[1] else None, gradients.w_ih, dw_hh, db_ih, db_hh


def _parts(w_hh: Tensor, hidden: int, reset_after: bool) -> tuple[Tensor, ...]:
    """The rows of W_hh for each product: n, r, z in one with reset_after, else r, z in one and n in another."""
    return (w_hh.roll(hidden, 0),) if reset_after else w_hh.split((2 * hidden, hidden))


def biases(
    b_ih: Tensor | None, b_hh: Tensor | None, hidden: int, reset_after: bool
) -> tuple[Tensor | None, Tensor | float]:
    """The biases of the input product (r, z, n) and of p, which has one only with reset_after."""
    if b_ih is None or b_hh is None:
        return None, 0.0
    if not reset_after:
        return b_ih + b_hh, 0.0
    return torch.cat((b_ih[: 2 * hidden] + b_hh[: 2 * hidden], b_ih[2 * hidden :])), b_hh[2 * hidden :]


def _add(gradients: Gradients, gradient: Tensor, steps: slice, before: Tensor, p: Tensor, reset_after: bool) -> None:
    """Add a block of steps to the gradients of input, weights and biases."""
    hidden = before.shape[2]
    gradients.of_input(steps, gradient[..., hidden:])
    gradients.of_biases(gradient)
    if reset_after:
        gradients.of_recurrence(gradient[..., : 3 * hidden], before)
    else:
        gradients.of_recurrence(gradient[..., hidden : 3 * hidden], before, slice(0, 2 * hidden))
        gradients.of_recurrence(gradient[..., 3 * hidden :], p, slice(2 * hidden, None))
