"""The GRU's time loop in Triton kernels, forward and backward, for both places of the reset gate.

One array A [T, B, 4, H] holds p, r, z, n of every step, as in `gatescope.kernels.gru_loop`: p is W_hn h + b_hn with
reset_after and r*h without. The input product fills the places of r, z, n before the walk; the kernels leave the
activations there. Without reset_after a step has two parts with a barrier between them: r*h is exchanged before W_hn
multiplies it.

Backward leaves the gradients before the activations in an array like A, that of p first. With reset_after its first
three blocks are the gradient of the recurrent product (rows n, r, z) and its last three that of the input product.

With weights of 16 bits a step of forward moves about 18 H bytes a row, backward about 28 H; each takes 6 H^2 FLOP a
row, and the products before and after the walk 6 H I forward and 6 H (2 I + H) backward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatescope.kernels.fused import (
    STEP_BLOCK,
    cleared,
    input_gradients,
    input_product,
    layer_plan,
    persistent,
    run,
    step_grid,
    weight_gradient,
)
from gatescope.kernels.grid import Launch, Plan
from gatescope.kernels.gru_kernels import (
    FIRST,
    SECOND,
    WHOLE,
    backward_kernel,
    backward_step_kernel,
    forward_kernel,
    forward_step_kernel,
)
from gatescope.kernels.gru_loop import biases
from gatescope.kernels.sequence import entering


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
    """Run one layer: y [T, B, H], and A [T, B, 4, H] if it is to be saved, else an empty tensor."""
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    w_hh, reset = w_hh.contiguous(), None if reset is None else reset.contiguous()
    states = x.new_empty(n_steps + 1, n_rows, hidden)
    states[0] = h0
    a = x.new_empty(n_steps, n_rows, 4, hidden)
    bias, p_bias = biases(b_ih, b_hh, hidden, reset_after)
    input_product(x, w_ih, bias, a.flatten(2)[..., hidden:])
    layout = layer_plan(3, n_rows, hidden, x)
    if layout.form == "persistent":
        added = p_bias.contiguous() if isinstance(p_bias, Tensor) else None
        launch = forward_launch(layout, a, w_hh, added, reset, states, reset_after, save)
        run(launch, layout, n_steps, n_rows, phases=_phases(layout, reset_after))
        return states[1:], a if save else x.new_empty(0)
    w_nrz, w_rz, w_n = w_hh.roll(hidden, 0).t(), w_hh[: 2 * hidden].t(), w_hh[2 * hidden :].t()
    grid = step_grid(n_rows, hidden)
    if reset_after:
        a[:, :, 0] = p_bias
    for t in range(n_steps):
        here, flat = None if reset is None else reset[t], a[t].flatten(1)
        before, step = cleared(states[t], here), (a[t], states[t], here, states[t + 1], hidden, STEP_BLOCK, reset_after)
        if reset_after:
            flat[:, : 3 * hidden].addmm_(before, w_nrz)
            forward_step_kernel[grid](*step, WHOLE)
        else:
            flat[:, hidden : 3 * hidden].addmm_(before, w_rz)
            forward_step_kernel[grid](*step, FIRST)
            flat[:, 3 * hidden :].addmm_(flat[:, :hidden], w_n)
            forward_step_kernel[grid](*step, SECOND)
    return states[1:], a if save else x.new_empty(0)


def _phases(layout: Plan, reset_after: bool) -> int:
    return 2 if layout.columns > 1 and not reset_after else 1


def forward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    reset: Tensor | None,
    states: Tensor,
    reset_after: bool,
    save: bool,
) -> Launch:
    """The persistent forward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "bias_ptr": bias, "reset_ptr": reset, "states_ptr": states}
    modes = {"AFTER": reset_after, "SAVE": save, "PHASE": WHOLE.value}
    return persistent(forward_kernel, layout, tensors, {"n_rows": states.shape[1]}, states, **modes)


def gru_backward(
    dy: Tensor | None,
    own: Tensor | None,
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
    """Gradients of x, h0, w_ih, w_hh, b_ih, b_hh from those of y and, if any, of A; None where not needed."""
    n_steps, n_rows, hidden = y.shape
    dy = torch.zeros_like(y) if dy is None else dy.contiguous()
    own, reset = (None if each is None else each.contiguous() for each in (own, reset))
    w_hh, states = w_hh.contiguous(), torch.cat((h0.unsqueeze(0), y))
    da, passed = torch.empty_like(a), y.new_zeros(n_rows, hidden, dtype=torch.float32)
    layout = layer_plan(3, n_rows, hidden, y, tiles=3)
    if layout.form == "persistent":
        launch = backward_launch(layout, a, w_hh, states, reset, dy, own, da, passed, reset_after)
        run(launch, layout, n_steps, n_rows, backward=True, phases=_phases(layout, reset_after))
    else:
        _walk_back(dy, own, states, a, w_hh, reset, reset_after, da, passed)
    flat = da.flatten(2)
    dh0 = None
    if needs[1]:
        through = _recurrent_product(flat[0], w_hh, hidden, reset_after)
        dh0 = passed + cleared(through, None if reset is None else reset[0])
    dx, dw_ih, db = input_gradients(x, w_ih, flat[..., hidden:], (needs[0], needs[2], needs[4] or needs[5]))
    dw_hh = None
    if needs[3]:
        before = entering(h0, y, reset)
        if reset_after:
            dw_hh = weight_gradient(flat[..., : 3 * hidden], before).roll(-hidden, 0)
        else:
            parts = (flat[..., hidden : 3 * hidden], before), (flat[..., 3 * hidden :], a[:, :, 0])
            dw_hh = torch.cat([weight_gradient(*part) for part in parts])
    db_hh = None if db is None else db.clone()
    if db_hh is not None and reset_after:
        db_hh[2 * hidden :] = da[:, :, 0].sum((0, 1), dtype=torch.float32)
    return dx, dh0, dw_ih, dw_hh, db, db_hh


def _recurrent_product(da: Tensor, w_hh: Tensor, hidden: int, reset_after: bool) -> Tensor:
    """What the gradients [B, 4H] of a step bring to h before it through W_hh; without reset_after, through r and z."""
    if reset_after:
        return da[:, : 3 * hidden] @ w_hh.roll(hidden, 0)
    return da[:, hidden : 3 * hidden] @ w_hh[: 2 * hidden]


def _walk_back(
    dy: Tensor,
    own: Tensor | None,
    states: Tensor,
    a: Tensor,
    w_hh: Tensor,
    reset: Tensor | None,
    reset_after: bool,
    da: Tensor,
    passed: Tensor,
) -> None:
    """Walk back in products and pointwise steps, filling in da and passed."""
    n_rows, hidden = passed.shape
    grid, dh, w_n = step_grid(n_rows, hidden), dy[-1], w_hh[2 * hidden :]
    for t in reversed(range(len(dy))):
        here = None if reset is None else reset[t]
        given = (a[t], states[t], here, dh)
        rest = (None if own is None else own[t], da[t], passed, hidden, STEP_BLOCK, reset_after)
        if reset_after:
            backward_step_kernel[grid](*given, None, *rest, WHOLE)
        else:
            backward_step_kernel[grid](*given, None, *rest, FIRST)
            backward_step_kernel[grid](*given, da[t, :, 3] @ w_n, *rest, SECOND)
        if t:
            through = _recurrent_product(da[t].flatten(1), w_hh, hidden, reset_after)
            dh = dy[t - 1] + passed + cleared(through, here)


def backward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    states: Tensor,
    reset: Tensor | None,
    dy: Tensor,
    own: Tensor | None,
    da: Tensor,
    passed: Tensor,
    reset_after: bool,
) -> Launch:
    """The persistent backward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "states_ptr": states, "reset_ptr": reset, "dy_ptr": dy, "own_ptr": own}
    tensors |= {"da_ptr": da, "dh_ptr": passed}
    sizes = {"n_rows": dy.shape[1], "n_steps": len(dy)}
    return persistent(backward_kernel, layout, tensors, sizes, dy, AFTER=reset_after, PHASE=WHOLE.value)
