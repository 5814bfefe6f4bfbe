"""The Elman network's time loop in Triton kernels, forward and backward.

The input product of all steps fills the places of the states, in which the persistent kernel adds W_hh h_{t-1} and
leaves the activation. Backward leaves the gradients before the activation in an array like it; dx, dW_ih, dW_hh and the
biases are matrix products over all steps afterwards. Where the kernels do not fit, a step is one product with torch's
own pointwise operators: without gates there is nothing to fuse.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatescope.kernels.fused import (
    cleared,
    input_gradients,
    input_product,
    layer_plan,
    persistent,
    run,
    weight_gradient,
)
from gatescope.kernels.grid import Launch, Plan
from gatescope.kernels.rnn_kernels import backward_kernel, forward_kernel
from gatescope.kernels.sequence import entering


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
    """Run one layer: y [T, B, H]."""
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    w_hh, reset = w_hh.contiguous(), None if reset is None else reset.contiguous()
    states = x.new_empty(n_steps + 1, n_rows, hidden)
    states[0] = h0
    input_product(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh, states[1:])
    layout = layer_plan(1, n_rows, hidden, x)
    if layout.form == "persistent":
        run(forward_launch(layout, w_hh, reset, states, nonlinearity), layout, n_steps, n_rows)
    else:
        activate = torch.relu_ if nonlinearity == "relu" else torch.tanh_
        for t in range(n_steps):
            before = cleared(states[t], None if reset is None else reset[t])
            activate(states[t + 1].addmm_(before, w_hh.t()))
    return states[1:]


def forward_launch(layout: Plan, w_hh: Tensor, reset: Tensor | None, states: Tensor, nonlinearity: str) -> Launch:
    """The persistent forward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"w_ptr": w_hh, "reset_ptr": reset, "states_ptr": states}
    return persistent(forward_kernel, layout, tensors, {"n_rows": states.shape[1]}, states, RELU=nonlinearity == "relu")


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
    """Gradients of x, h0, w_ih, w_hh, b_ih, b_hh from that of y; None where not needed."""
    n_steps, n_rows, hidden = y.shape
    dy, y, w_hh = dy.contiguous(), y.contiguous(), w_hh.contiguous()
    reset = None if reset is None else reset.contiguous()
    da = torch.empty_like(y)
    layout = layer_plan(1, n_rows, hidden, y)
    if layout.form == "persistent":
        run(backward_launch(layout, w_hh, y, reset, dy, da, nonlinearity), layout, n_steps, n_rows, backward=True)
    else:
        dh = dy[-1]
        for t in reversed(range(n_steps)):
            slope = (y[t] > 0).to(y.dtype) if nonlinearity == "relu" else 1 - y[t] * y[t]
            torch.mul(dh, slope, out=da[t])
            if t:
                dh = dy[t - 1] + cleared(da[t] @ w_hh, None if reset is None else reset[t])
    dh0 = cleared(da[0] @ w_hh, None if reset is None else reset[0]) if needs[1] else None
    dx, dw_ih, db = input_gradients(x, w_ih, da, (needs[0], needs[2], needs[4] or needs[5]))
    dw_hh = weight_gradient(da, entering(h0, y, reset)) if needs[3] else None
    return dx, dh0, dw_ih, dw_hh, db, None if db is None else db.clone()


def backward_launch(
    layout: Plan, w_hh: Tensor, y: Tensor, reset: Tensor | None, dy: Tensor, da: Tensor, nonlinearity: str
) -> Launch:
    """The persistent backward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"w_ptr": w_hh, "y_ptr": y, "reset_ptr": reset, "dy_ptr": dy, "da_ptr": da}
    sizes = {"n_rows": dy.shape[1], "n_steps": len(dy)}
    return persistent(backward_kernel, layout, tensors, sizes, dy, RELU=nonlinearity == "relu")
