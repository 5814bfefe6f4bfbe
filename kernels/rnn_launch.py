"""The Elman network's kernels bound to tensors: what a layer launches in one direction.

Tensors have the names of the kernels' arguments, without `_ptr`; their shapes are given in
`gatescope.kernels.rnn_kernels`. `w_hh` is `w_ptr`. `layout` is the layer's plan in its direction, and `above` the
connection to the layer above, if there is one.
"""

from __future__ import annotations

from torch import Tensor

from gatescope.kernels.fused import Above, persistent
from gatescope.kernels.grid import Launch
from gatescope.kernels.plan import Plan
from gatescope.kernels.rnn_kernels import backward_kernel, forward_kernel


def forward_launch(
    layout: Plan,
    w_hh: Tensor,
    reset: Tensor | None,
    states: Tensor,
    nonlinearity: str,
    above: Above | None = None,
) -> Launch:
    """The persistent forward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"w_ptr": w_hh, "reset_ptr": reset, "states_ptr": states}
    sizes = {"n_rows": states.shape[1]}
    return persistent(forward_kernel, layout, tensors, sizes, above, states, RELU=nonlinearity == "relu")


def backward_launch(
    layout: Plan,
    w_hh: Tensor,
    y: Tensor,
    reset: Tensor | None,
    dy: Tensor | None,
    da: Tensor,
    nonlinearity: str,
    above: Above | None = None,
) -> Launch:
    """The persistent backward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"w_ptr": w_hh, "y_ptr": y, "reset_ptr": reset, "dy_ptr": dy, "da_ptr": da}
    sizes = {"n_rows": da.shape[1], "n_steps": len(da)}
    return persistent(backward_kernel, layout, tensors, sizes, above, y, RELU=nonlinearity == "relu")
