"""The LSTM's time loop in torch operators that work in place, forward and backward.

One buffer A [T, B, 4, H] first takes the input product of a block of steps, then, step by step, the recurrent product
and the activations i, f, g, o, which backward reads and a caller may capture. On a CPU this loop is used for products
in bfloat16 and for few rows, and everything in a step but its product is one compiled pass
(`gatescope.kernels.steps_host`); all other layers run there as one compiled walk (`gatescope.kernels.lstm_host`).

Backward fills such a buffer for a block of steps with coefficients. The walk multiplies them by the gradients of h (for
o) and of c (for i, f, g), which turns them into the gradients before the activations; three products with these give
the block's part of dx, dW_ih and dW_hh.
"""

from __future__ import annotations

import functools
from itertools import repeat

import torch
from torch import Tensor

from gatescope.kernels.host import array, empty
from gatescope.kernels.products import (
    Gradients,
    add_product,
    by_columns,
    factors,
    fits_panels,
    input_product,
    joint_bias,
    sum_product,
    wide,
)
from gatescope.kernels.time_blocks import BLOCK, blocks, cleared_rows, entering_block


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
    """Run one layer.

    Args:
        x: [T, B, I].
        h0, c0: [B, H], the states before the first step.
        w_ih, w_hh: [4H, I], [4H, H], rows i, f, g, o.
        b_ih, b_hh: [4H], both or none.
        reset: [T, B] bool or None: h and c are zero before the step where it is true.
        save: whether to keep the gates.

    Returns:
        y and c [T, B, H] and the gates [T, B, 4, H], in at least float32; an empty tensor if gates are not kept.
    """
    x, w_ih, w_hh = factors(x, w_ih, w_hh)
    h0, c0, b_ih, b_hh = wide(h0, c0, b_ih, b_hh)
    if fits_panels(x, h0):
        # Importing Numba takes half a second, which a GPU does not need.
        from gatescope.kernels import lstm_host

        return lstm_host.lstm_forward(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reset, save)
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    make = functools.partial(empty, h0.dtype, h0.device)
    y, cells = make(n_steps, n_rows, hidden), make(n_steps, n_rows, hidden)
    a = make(n_steps if save else min(n_steps, BLOCK), n_rows, 4 * hidden)
    bias = joint_bias(b_ih, b_hh)
    w_t = w_hh.t()
    clears = cleared_rows(reset, n_steps)
    on_host = h0.is_cpu
    if on_host:
        # Importing Numba takes half a second, which a GPU does not need.
        from gatescope.kernels.steps_host import lstm_state
    h, c = h0, c0.detach().contiguous()
    for start, stop in blocks(n_steps):
        block = a[start:stop] if save else a[: stop - start]
        input_product(x[start:stop], w_ih, bias, block)
        outputs = block, cells[start:stop], y[start:stop]
        arrays = zip(*map(array, outputs), strict=True) if on_host else repeat((), len(block))
        for all_, c_out, h_out, clear, own in zip(*outputs, clears[start:stop], arrays, strict=True):
            if clear is not None:
                h, c = h.masked_fill(clear, 0), c.masked_fill(clear, 0)
            add_product(all_, h, w_t)
            if on_host:
                a_own, c_own, h_own = own
                lstm_state(a_own, array(c), c_own, h_own)
            else:
                activate(all_, c, c_out, h_out)
            h, c = h_out, c_out
    return y, cells, a.view(n_steps, n_rows, 4, hidden) if save else h0.new_empty(0)


def activate(a: Tensor, before: Tensor, c: Tensor, h: Tensor) -> None:
    """Do what `gatescope.kernels.steps_host.lstm_state` does, in torch's operators."""
    hidden = h.shape[1]
    i, f, g, o = a.split(hidden, dim=1)
    a[:, : 2 * hidden].sigmoid_()
    g.tanh_()
    o.sigmoid_()
    torch.mul(f, before, out=c).addcmul_(i, g)
    torch.tanh(c, out=h).mul_(o)


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
    """Go back through one layer.

    Args:
        dy, dcells, dsaved: gradients of y, c and the gates; None if there are none.
        x, h0, c0, w_ih, w_hh: as in forward; x is read only if needs[3], w_ih only if needs[0].
        y, cells, a: the results of forward.
        reset: [T, B] bool or None.
        needs: which gradients are wanted, in the order of the result.

    Returns:
        Gradients of x, h0, c0, w_ih, w_hh, b_ih, b_hh; None for those not needed.
    """
    x, w_ih, w_hh = factors(x, w_ih, w_hh)
    dy, dcells, dsaved, h0, c0, y = wide(dy, dcells, dsaved, h0, c0, y)
    if fits_panels(x, h0):
        from gatescope.kernels import lstm_host

        return lstm_host.lstm_backward(dy, dcells, dsaved, x, h0, c0, w_ih, w_hh, y, cells, a, reset, needs)
    n_steps, n_rows, hidden = y.shape
    if dy is None:
        dy = torch.zeros_like(y)
    gradients = Gradients(x, w_ih, w_hh, (needs[0], needs[3], needs[4], needs[5] or needs[6]), 4 * hidden)
    buffer = a.new_empty(min(n_steps, BLOCK), n_rows, 4, hidden)
    dh = dy[-1].clone(memory_format=torch.contiguous_format)
    dc, nothing = y.new_zeros(n_rows, hidden), y.new_zeros(n_rows, hidden)
    clears, w_columns = cleared_rows(reset, n_steps), by_columns(w_hh)
    for start, stop in reversed(list(blocks(n_steps))):
        steps, gradient = slice(start, stop), buffer[: stop - start]
        before = entering_block(c0, cells, start, stop, reset)
        given = None if dsaved is None else dsaved[steps]
        through, added = _coefficients(a[steps], before, cells[steps], gradient, given)
        dys = (dy[start - 1] if start > 0 else nothing, *dy[start : stop - 1].unbind(0))
        walked = (range(start, stop), gradient, through, a[steps, :, 1], dys)
        for t, g, to_c, f, before_dy in reversed(list(zip(*walked, strict=True))):
            if dcells is not None:
                dc.add_(dcells[t])
            dc.addcmul_(dh, to_c)
            g[:, :3].mul_(dc.unsqueeze(1))
            g[:, 3].mul_(dh)
            if added is not None:
                g.add_(added[t - start])
            dc.mul_(f)
            clear = clears[t]
            sum_product(before_dy if clear is None else nothing, g.flatten(1), w_columns, out=dh)
            if clear is not None:
                dh.masked_fill_(clear, 0).add_(before_dy)
                dc.masked_fill_(clear, 0)
        flat = gradient.flatten(2)
        gradients.of_input(steps, flat)
        gradients.of_biases(flat)
        gradients.of_recurrence(flat, entering_block(h0, y, start, stop, reset))
    db = gradients.sums
    of_states = (dh if needs[1] else None, dc if needs[2] else None)
    return gradients.x, *of_states, gradients.w_ih, gradients.w_hh, db, None if db is None else db.clone()


def _coefficients(
    a: Tensor, before: Tensor, cells: Tensor, out: Tensor, given: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Write the coefficients of the gradients of c (for i, f, g) and h (for o), for a block of steps.

    Before the activations `di = dc g i(1-i)`, `df = dc c_{t-1} f(1-f)`, `dg = dc i (1-g^2)`, `do = dh tanh(c) o(1-o)`.

    Returns:
        The coefficient of dh in dc, `o (1 - tanh(c)^2)` [steps, B, H], and what the gates' own gradients add.
    """
    i, f, g, o = a.unbind(2)
    out_i, out_f, out_g, out_o = out.unbind(2)
    one = a.new_ones(())
    squashed = torch.tanh(cells)
    torch.mul(g, i, out=out_i).mul_(1 - i)
    torch.mul(before, f, out=out_f).mul_(1 - f)
    torch.mul(torch.addcmul(one, g, g, value=-1), i, out=out_g)
    torch.mul(squashed, o, out=out_o).mul_(1 - o)
    through = torch.addcmul(one, squashed, squashed, value=-1).mul_(o)
    if given is None:
        return through, None
    return through, given * torch.stack((i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)), dim=2)
