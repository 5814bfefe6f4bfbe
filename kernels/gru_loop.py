"""The GRU's time loop in torch operators that work in place, forward and backward.

One buffer A [T, B, 4, H] holds p, r, z, n of every step: the gates after their activation, and p, which is
W_hn h + b_hn with reset_after and r*h without. In that order the recurrent product W_hh h (rows n, r, z) fills the
first three columns of blocks and the input product W_ih x (rows r, z, n) the last three, so that each is one matrix
product that writes into its place. On a GPU a step is five operators. On a CPU this is for products in bfloat16 and for
few rows, and all else that a step does is two compiled passes, forward and backward (`gatescope.kernels.steps_host`);
other layers are one compiled walk there (`gatescope.kernels.gru_host`).

Backward fills such a buffer for a block of steps with coefficients; the walk multiplies them with the gradient of h and
leaves in it the gradients before the activations. With reset_after, its first three columns of blocks are the gradient
of the recurrent product and its last three that of the input product: again nothing is copied before a product, and a
step of the walk is three operators.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gatescope.kernels.host import array, empty
from gatescope.kernels.products import Gradients, add_product, by_columns, factors, fits_panels, input_product, wide
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
        reset: [T, B] bool or None: h is zero before the step.
        reset_after: where the reset gate multiplies, see `gatescope.kernels.gru`.
        save: keep A.

    Returns:
        y [T, B, H] and A [T, B, 4, H], in at least float32; an empty tensor if A is not kept.
    """
    x, w_ih, w_hh = factors(x, w_ih, w_hh)
    h0, b_ih, b_hh = wide(h0, b_ih, b_hh)
    if fits_panels(x, h0):
        # Half a second, that of Numba, which a GPU does without.
        from gatescope.kernels import gru_host

        return gru_host.gru_forward(x, h0, w_ih, w_hh, b_ih, b_hh, reset, reset_after, save)
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    y = empty(h0.dtype, h0.device, n_steps, n_rows, hidden)
    a = empty(h0.dtype, h0.device, n_steps if save else min(n_steps, BLOCK), n_rows, 4 * hidden)
    bias, p_bias = biases(b_ih, b_hh, hidden, reset_after)
    weights = [part.t() for part in _parts(w_hh, hidden, reset_after)]
    clears = cleared_rows(reset, n_steps)
    walk = _walk_on_host if h0.is_cpu else _walk
    h = h0
    for start, stop in blocks(n_steps):
        block = a[start:stop] if save else a[: stop - start]
        input_product(x[start:stop], w_ih, bias, block[:, :, hidden:])
        if reset_after:
            block[:, :, :hidden] = p_bias
        h = walk(block, h, y[start:stop], clears[start:stop], weights)
    return y, a.view(n_steps, n_rows, 4, hidden) if save else h0.new_empty(0)


def _walk(block: Tensor, h: Tensor, y: Tensor, clears: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Tensor:
    """Take h [B, H] through a block of steps, whose states go to y [S, B, H], and return the last of them.

    Args:
        block: [S, B, 4H], the input products, which become p, r, z, n.
        clears: for each step the rows that begin anew.
        weights: of n, r, z together with reset_after, else of r and z, and of n; each [H, rows].
    """
    hidden = h.shape[1]
    parts = (block[..., : 3 * hidden], block[..., hidden : 3 * hidden], *block.chunk(4, dim=2), y)
    for prz, rz, p, r, z, n, out, clear in zip(*(part.unbind(0) for part in parts), clears, strict=True):
        if clear is not None:
            h = h.masked_fill(clear, 0)
        if len(weights) == 1:
            add_product(prz, h, weights[0])
            rz.sigmoid_()
            n.addcmul_(r, p).tanh_()
        else:
            add_product(rz, h, weights[0]).sigmoid_()
            add_product(n, torch.mul(r, h, out=p), weights[1]).tanh_()
        h = torch.lerp(n, h, z, out=out)
    return h


def _walk_on_host(
    block: Tensor, h: Tensor, y: Tensor, clears: Sequence[Tensor | None], weights: Sequence[Tensor]
) -> Tensor:
    """As `_walk`, with all but the matrix products in passes that Numba compiles."""
    from gatescope.kernels.steps_host import gru_gates, gru_state

    hidden, reset_after, h = h.shape[1], len(weights) == 1, h.detach().contiguous()
    first = block[..., : 3 * hidden] if reset_after else block[..., hidden : 3 * hidden]
    parts = (first, block[..., :hidden], block[..., 3 * hidden :], y)
    arrays, before = zip(array(block), array(y), strict=True), array(h)
    for product, p, n, out, (a, state), clear in zip(*(part.unbind(0) for part in parts), arrays, clears, strict=True):
        if clear is not None:
            h = h.masked_fill(clear, 0)
            before = array(h)
        add_product(product, h, weights[0])
        gru_gates(a, before, reset_after)
        if not reset_after:
            add_product(n, p, weights[1])
        gru_state(a, before, state, reset_after)
        h, before = out, state
    return h


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
        dy, dsaved: gradients of y and A; None where there are none.
        x, h0, w_ih, w_hh: as forward had them; x matters where needs[2], w_ih where needs[0].
        y, a: what forward returned.
        reset: [T, B] bool or None.
        reset_after: as forward had it.
        needs: which gradients are wanted, in the order of those that are returned.

    Returns:
        Gradients of x, h0, w_ih, w_hh, b_ih, b_hh; None where not needed.
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
    walk = _walk_back_on_host if y.is_cpu else _walk_back
    for start, stop in reversed(list(blocks(n_steps))):
        steps, gradient = slice(start, stop), buffer[: stop - start]
        before = entering_block(h0, y, start, stop, reset)
        given = None if dsaved is None else dsaved[steps].contiguous()
        dys = (dy[start - 1] if start > 0 else nothing, *dy[start : stop - 1].unbind(0))
        walk(gradient, given, a[steps], before, dh, dys, clears[steps], weights)
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
    """The rows of W_hh whose products are made together: n, r, z with reset_after, else r, z, and n."""
    return (w_hh.roll(hidden, 0),) if reset_after else w_hh.split((2 * hidden, hidden))


def _walk_back(
    gradient: Tensor,
    given: Tensor | None,
    a: Tensor,
    before: Tensor,
    dh: Tensor,
    dys: Sequence[Tensor],
    clears: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> None:
    """Walk back through a block of steps: write the gradients before the activations, and turn dh into that before it.

    Args:
        gradient: [S, B, 4, H], of p, r, z, n.
        given: [S, B, 4, H], the gradients of a itself, if any.
        a: [S, B, 4, H], p, r, z, n.
        before: [S, B, H], the state before each step.
        dh: [B, H], the gradient of the state after the block.
        dys: for each step the gradient of the state before it, in so far as it is an output.
        clears: for each step the rows that begin anew.
        weights: as of the way forward, each [rows, H].
    """
    walk = _walk_after if len(weights) == 1 else _walk_before
    added = _coefficients(a, before, gradient, given, len(weights) == 1)
    nothing = torch.zeros_like(dh)
    for t in reversed(range(len(a))):
        more, clear = None if added is None else added[t], clears[t]
        if clear is None:
            walk(gradient[t], more, a[t], dh, dys[t], *weights)
        else:
            walk(gradient[t], more, a[t], dh, nothing, *weights).masked_fill_(clear, 0).add_(dys[t])


def _walk_back_on_host(
    gradient: Tensor,
    given: Tensor | None,
    a: Tensor,
    before: Tensor,
    dh: Tensor,
    dys: Sequence[Tensor],
    clears: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> None:
    """As `_walk_back`, with all but the matrix products in passes that Numba compiles, which need no coefficients."""
    from gatescope.kernels.steps_host import gru_reset_back, gru_state_back

    hidden, reset_after = dh.shape[1], len(weights) == 1
    gradient = gradient.flatten(2)
    all_given = gradient.new_empty(*gradient.shape[:2], 0) if given is None else given.flatten(2)
    inner = gradient[..., : 3 * hidden] if reset_after else gradient[..., hidden : 3 * hidden]
    every_p, every_n = gradient[..., :hidden], gradient[..., 3 * hidden :]
    nothing, above = torch.zeros_like(dh), array(dh)
    arrays = zip(*map(array, (a.flatten(2), before, gradient, all_given)), strict=True)
    for t, (saved, state, g, of_step) in reversed(list(enumerate(arrays))):
        clear = clears[t]
        gru_state_back(saved, state, above, of_step, g)
        if not reset_after:
            p = every_p[t].zero_() if given is None else every_p[t].copy_(all_given[t, :, :hidden])
            add_product(p, every_n[t], weights[1])
        dy = array(dys[t] if clear is None else nothing)
        gru_reset_back(saved, state, above, of_step, g, dy, reset_after)
        add_product(dh, inner[t], weights[0])
        if clear is not None:
            dh.masked_fill_(clear, 0).add_(dys[t])


def _walk_after(g: Tensor, added: Tensor | None, a: Tensor, dh: Tensor, dy: Tensor, w_nrz: Tensor) -> Tensor:
    """One step back with reset_after: coefficients g [B, 4, H] become gradients; return that of h before the step."""
    if added is None:
        g.mul_(dh.unsqueeze(1))
    else:
        torch.addcmul(added, g, dh.unsqueeze(1), out=g)
    return add_product(torch.addcmul(dy, dh, a[:, 2], out=dh), g.flatten(1)[:, : len(w_nrz)], w_nrz)


def _walk_before(
    g: Tensor, added: Tensor | None, a: Tensor, dh: Tensor, dy: Tensor, w_rz: Tensor, w_n: Tensor
) -> Tensor:
    """One step back without reset_after, where the gradient of p = r*h comes out of that of n."""
    p, r, zn = g[:, 0], g[:, 1], g[:, 2:]
    zn.mul_(dh.unsqueeze(1))
    if added is not None:
        zn.add_(added[:, 2:])
        p.copy_(added[:, 0])
    add_product(p, g[:, 3], w_n)
    r.mul_(p)
    if added is not None:
        r.add_(added[:, 1])
    torch.addcmul(dy, dh, a[:, 2], out=dh).addcmul_(p, a[:, 1])
    return add_product(dh, g[:, 1:3].flatten(1), w_rz)


def biases(
    b_ih: Tensor | None, b_hh: Tensor | None, hidden: int, reset_after: bool
) -> tuple[Tensor | None, Tensor | float]:
    """What is added to the input product (r, z, n), and to W_hn h with reset_after."""
    if b_ih is None or b_hh is None:
        return None, 0.0
    if not reset_after:
        return b_ih + b_hh, 0.0
    return torch.cat((b_ih[: 2 * hidden] + b_hh[: 2 * hidden], b_ih[2 * hidden :])), b_hh[2 * hidden :]


def _coefficients(a: Tensor, before: Tensor, out: Tensor, given: Tensor | None, reset_after: bool) -> Tensor | None:
    """Write what the gradient of h is multiplied with, for a block of steps; return what the gates' own gradients add.

    With reset_after `dn = dh (1-z)(1-n^2)`, `dp = dn r`, `dr = dn p r(1-r)`, `dz = dh (h-n) z(1-z)`, each before its
    activation; without, dr is `h r(1-r)` times the gradient of p, which the walk finds.
    """
    p, r, z, n = a.unbind(2)
    out_p, out_r, out_z, out_n = out.unbind(2)
    n_slope = torch.addcmul(n.new_ones(()), n, n, value=-1)
    not_z, not_r = 1 - z, 1 - r
    torch.mul(n_slope, not_z, out=out_n)
    torch.sub(before, n, out=out_z).mul_(z).mul_(not_z)
    if reset_after:
        torch.mul(out_n, r, out=out_p)
        torch.mul(out_p, p, out=out_r).mul_(not_r)
    else:
        out_p.zero_()
        torch.mul(before, r, out=out_r).mul_(not_r)
    if given is None:
        return None
    dp, dr, dz, dn = given.unbind(2)
    added_n, added_z = dn * n_slope, dz * z * not_z
    if reset_after:
        return torch.stack((dp + added_n * r, (dr + added_n * p) * r * not_r, added_z, added_n), dim=2)
    return torch.stack((dp, dr * r * not_r, added_z, added_n), dim=2)


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
