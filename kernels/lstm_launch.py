"""The LSTM's kernels bound to tensors: what a layer launches in one direction.

Tensors have the names of the kernels' arguments, without `_ptr`; their shapes are given in
`gatescope.kernels.lstm_kernels`. `w_hh` is `w_ptr`, and `cells` is `c_ptr`. `layout` is the layer's plan in its
direction, and `above` the connection to the layer above, if there is one.
"""

from __future__ import annotations

from torch import Tensor

from gatescope.kernels.fused import Above, persistent, pointwise_step
from gatescope.kernels.grid import Launch
from gatescope.kernels.lstm_kernels import backward_kernel, forward_kernel
from gatescope.kernels.lstm_step_kernels import backward_step_kernel, forward_step_kernel
from gatescope.kernels.plan import Plan


def forward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    c0: Tensor,
    reset: Tensor | None,
    states: Tensor,
    cells: Tensor,
    save: bool,
    above: Above | None = None,
) -> Launch:
    """The persistent forward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "c0_ptr": c0, "reset_ptr": reset, "states_ptr": states, "c_ptr": cells}
    return persistent(forward_kernel, layout, tensors, {"n_rows": cells.shape[1]}, above, states, SAVE=save)


def forward_step(a: Tensor, c0: Tensor, reset: Tensor | None, states: Tensor, cells: Tensor) -> Launch:
    """The pointwise kernel of one step forward on these tensors."""
    tensors = {"a_ptr": a, "c0_ptr": c0, "reset_ptr": reset, "states_ptr": states, "c_ptr": cells}
    return pointwise_step(forward_step_kernel, tensors, {"n_rows": cells.shape[1]}, cells)


def backward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    c0: Tensor,
    cells: Tensor,
    reset: Tensor | None,
    dy: Tensor | None,
    dcells: Tensor | None,
    dsaved: Tensor | None,
    da: Tensor,
    dc: Tensor,
    above: Above | None = None,
) -> Launch:
    """The persistent backward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "c0_ptr": c0, "c_ptr": cells, "reset_ptr": reset, "dy_ptr": dy}
    tensors |= {"dcells_ptr": dcells, "dsaved_ptr": dsaved, "da_ptr": da, "dc_ptr": dc}
    return persistent(
        backward_kernel,
        layout,
        tensors,
        {"n_rows": da.shape[1], "n_steps": len(da)},
        above,
        cells,
        SLICES=layout.slices,
    )


def backward_step(
    a: Tensor,
    c0: Tensor,
    cells: Tensor,
    reset: Tensor | None,
    through: Tensor,
    dcells: Tensor | None,
    dsaved: Tensor | None,
    da: Tensor,
    dc: Tensor,
) -> Launch:
    """The pointwise kernel of one step back on these tensors; `through` [B, H] holds the gradient from the next step.

    The gradient of the states, and its first step, are filled in when it runs.
    """
    tensors = {"a_ptr": a, "c0_ptr": c0, "c_ptr": cells, "reset_ptr": reset, "dy_ptr": None, "through_ptr": through}
    tensors |= {"dcells_ptr": dcells, "dsaved_ptr": dsaved, "da_ptr": da, "dc_ptr": dc}
    sizes = {"first_step": 0, "n_rows": da.shape[1], "n_steps": len(da)}
    return pointwise_step(backward_step_kernel, tensors, sizes, cells)
