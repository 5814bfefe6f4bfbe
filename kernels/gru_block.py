"""A block of steps of the GRU, forward and back: in torch's operators, and on a CPU in compiled passes.

The blocks are those of `gatescope.kernels.gru_loop`, which computes the products of their inputs and gradients. On a
GPU a step takes five operators, and with reset_after three on the way back. On a CPU everything in a step but its
products is two compiled passes in either direction (`gatescope.kernels.steps_host`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gatescope.kernels.host import array
from gatescope.kernels.products import add_product


def walk(block: Tensor, h: Tensor, y: Tensor, clears: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Tensor:
    """Take h [B, H] through a block of steps, write its states to y [S, B, H], and return the last of them.

    Args:
        block: [S, B, 4H], the input products, which become p, r, z, n.
        clears: for each step the mask of the rows whose state is cleared.
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


def walk_on_host(
    block: Tensor, h: Tensor, y: Tensor, clears: Sequence[Tensor | None], weights: Sequence[Tensor]
) -> Tensor:
    """As `walk`, with all but the matrix products in passes that Numba compiles."""
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


def walk_back(
    gradient: Tensor,
    given: Tensor | None,
    a: Tensor,
    before: Tensor,
    dh: Tensor,
    dys: Sequence[Tensor],
    clears: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> None:
    """Walk back through a block of steps: write the gradients before the activations, and update dh.

    Args:
        gradient: [S, B, 4, H], of p, r, z, n.
        given: [S, B, 4, H], the gradients of a itself, if any.
        a: [S, B, 4, H], p, r, z, n.
        before: [S, B, H], the state before each step.
        dh: [B, H], the gradient of the state after the block, which becomes that of the state before it.
        dys: for each step, the gradient of the previous state as an output.
        clears: for each step the mask of the rows whose state is cleared.
        weights: as in `walk`, but each [rows, H].
    """
    step = _step_after if len(weights) == 1 else _step_before
    added = _coefficients(a, before, gradient, given, len(weights) == 1)
    nothing = torch.zeros_like(dh)
    for t in reversed(range(len(a))):
        more, clear = None if added is None else added[t], clears[t]
        if clear is None:
            step(gradient[t], more, a[t], dh, dys[t], *weights)
        else:
            step(gradient[t], more, a[t], dh, nothing, *weights).masked_fill_(clear, 0).add_(dys[t])


def walk_back_on_host(
    gradient: Tensor,
    given: Tensor | None,
    a: Tensor,
    before: Tensor,
    dh: Tensor,
    dys: Sequence[Tensor],
    clears: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> None:
    """As `walk_back`, with all but the matrix products in passes that Numba compiles, which need no coefficients."""
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


def _step_after(g: Tensor, added: Tensor | None, a: Tensor, dh: Tensor, dy: Tensor, w_nrz: Tensor) -> Tensor:
    """One step back with reset_after: coefficients g [B, 4, H] become gradients; return that of the previous h."""
    if added is None:
        g.mul_(dh.unsqueeze(1))
    else:
        torch.addcmul(added, g, dh.unsqueeze(1), out=g)
    return add_product(torch.addcmul(dy, dh, a[:, 2], out=dh), g.flatten(1)[:, : len(w_nrz)], w_nrz)


def _step_before(
    g: Tensor, added: Tensor | None, a: Tensor, dh: Tensor, dy: Tensor, w_rz: Tensor, w_n: Tensor
) -> Tensor:
    """One step back without reset_after, where the gradient of p = r*h is computed from that of n."""
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


def _coefficients(a: Tensor, before: Tensor, out: Tensor, given: Tensor | None, reset_after: bool) -> Tensor | None:
    """Write the coefficients of the gradient of h for a block of steps; return what the gates' own gradients add.

    With reset_after `dn = dh (1-z)(1-n^2)`, `dp = dn r`, `dr = dn p r(1-r)`, `dz = dh (h-n) z(1-z)`, each before its
    activation. Without it, dr is `h r(1-r)` times the gradient of p, which the walk computes.
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
