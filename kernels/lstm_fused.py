"""The LSTM's time loop in Triton kernels, forward and backward.

Forward multiplies the input by W_ih for all steps at once into A [T, B, 4, H]. The persistent kernel then walks through
time with the recurrent weights of its units on chip: it adds W_hh h_{t-1}, leaves the activations i, f, g, o in the
place of the products, which backward reads and a caller may capture, and keeps the cell in float32.

Backward walks back with its units' columns of W_hh on chip. What the programs exchange are the gradients before the
activations, which it leaves in an array like A; dx, dW_ih, dW_hh and the biases are matrix products over all steps
afterwards. Gradients of captured cells and gates are added where they belong.

With weights of 16 bits a step of forward moves 18 H bytes a row and 4 H for the cell, backward about 30 H; each takes
8 H^2 FLOP a row, and the products before and after the walk 8 H I forward and 8 H (2 I + H) backward.
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
from gatescope.kernels.lstm_kernels import (
    backward_kernel,
    backward_step_kernel,
    forward_kernel,
    forward_step_kernel,
)
from gatescope.kernels.sequence import entering


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
    """Run one layer: y [T, B, H], c in float32 [T, B, H], and the gates [T, B, 4, H] if they are to be saved."""
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    c0, w_hh = c0.contiguous(), w_hh.contiguous()
    reset = None if reset is None else reset.contiguous()
    states = x.new_empty(n_steps + 1, n_rows, hidden)
    states[0] = h0
    cells = torch.empty_like(states[1:], dtype=torch.float32)
    a = x.new_empty(n_steps, n_rows, 4, hidden)
    input_product(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh, a.flatten(2))
    layout = layer_plan(4, n_rows, hidden, x)
    if layout.form == "persistent":
        run(forward_launch(layout, a, w_hh, c0, reset, states, cells, save), layout, n_steps, n_rows)
    else:
        w_t, grid = w_hh.t(), step_grid(n_rows, hidden)
        for t in range(n_steps):
            here = None if reset is None else reset[t]
            a[t].flatten(1).addmm_(cleared(states[t], here), w_t)
            c = cells[t - 1] if t else c0
            forward_step_kernel[grid](a[t], c, here, states[t + 1], cells[t], hidden, STEP_BLOCK)
    return states[1:], cells, a if save else x.new_empty(0)


def forward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    c0: Tensor,
    reset: Tensor | None,
    states: Tensor,
    cells: Tensor,
    save: bool,
) -> Launch:
    """The persistent forward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "c0_ptr": c0, "reset_ptr": reset, "states_ptr": states, "c_ptr": cells}
    return persistent(forward_kernel, layout, tensors, {"n_rows": cells.shape[1]}, states, SAVE=save)


def lstm_backward(
    dy: Tensor | None,
    dcells: Tensor | None,
    own: Tensor | None,
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
    """Gradients of x, h0, c0, w_ih, w_hh, b_ih, b_hh from those of y, c and the gates; None where not needed."""
    n_steps, n_rows, hidden = y.shape
    dy = torch.zeros_like(y) if dy is None else dy.contiguous()
    dcells, own, reset = (None if each is None else each.contiguous() for each in (dcells, own, reset))
    c0, w_hh = c0.contiguous(), w_hh.contiguous()
    da, dc = torch.empty_like(a), torch.zeros_like(cells[0])
    layout = layer_plan(4, n_rows, hidden, y, tiles=4)
    if layout.form == "persistent":
        run(backward_launch(layout, a, w_hh, c0, cells, reset, dy, dcells, own, da, dc), layout, n_steps, n_rows, True)
    else:
        grid, dh = step_grid(n_rows, hidden), dy[-1]
        for t in reversed(range(n_steps)):
            here = None if reset is None else reset[t]
            parts = (None if each is None else each[t] for each in (dcells, own))
            before = cells[t - 1] if t else c0
            backward_step_kernel[grid](a[t], cells[t], before, here, dh, *parts, da[t], dc, hidden, STEP_BLOCK)
            if t:
                dh = dy[t - 1] + cleared(da[t].flatten(1) @ w_hh, here)
    flat = da.flatten(2)
    dh0 = cleared(flat[0] @ w_hh, None if reset is None else reset[0]) if needs[1] else None
    dx, dw_ih, db = input_gradients(x, w_ih, flat, (needs[0], needs[3], needs[5] or needs[6]))
    dw_hh = weight_gradient(flat, entering(h0, y, reset)) if needs[4] else None
    return dx, dh0, dc if needs[2] else None, dw_ih, dw_hh, db, None if db is None else db.clone()


def backward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    c0: Tensor,
    cells: Tensor,
    reset: Tensor | None,
    dy: Tensor,
    dcells: Tensor | None,
    own: Tensor | None,
    da: Tensor,
    dc: Tensor,
) -> Launch:
    """The persistent backward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "c0_ptr": c0, "c_ptr": cells, "reset_ptr": reset, "dy_ptr": dy}
    tensors |= {"dcells_ptr": dcells, "own_ptr": own, "da_ptr": da, "dc_ptr": dc}
    return persistent(backward_kernel, layout, tensors, {"n_rows": dy.shape[1], "n_steps": len(dy)}, dy)
