"""The GRU's kernels bound to tensors: what a layer launches in one direction.

Tensors have the names of the kernels' arguments, without `_ptr`; their shapes are given in
`gatescope.kernels.gru_kernels`. `w_hh` is `w_ptr`. `layout` is the layer's plan in its direction, and `above` the
connection to the layer above, if there is one.
"""

from __future__ import annotations

import triton.language as tl
from torch import Tensor

from gatescope.kernels.fused import Above, persistent, pointwise_step
from gatescope.kernels.grid import Launch
from gatescope.kernels.gru_kernels import FIRST, SECOND, WHOLE, backward_kernel, forward_kernel
from gatescope.kernels.gru_step_kernels import backward_step_kernel, forward_step_kernel
from gatescope.kernels.plan import Plan


def step_phases(reset_after: bool) -> tuple[tl.constexpr, ...]:
    """The parts of a step, each a pointwise kernel, with a product between them."""
    return (WHOLE,) if reset_after else (FIRST, SECOND)


def forward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    bias: Tensor | None,
    reset: Tensor | None,
    states: Tensor,
    reset_after: bool,
    save: bool,
    above: Above | None = None,
) -> Launch:
    """The persistent forward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "bias_ptr": bias, "reset_ptr": reset, "states_ptr": states}
    # In columns, weights stay in registers only if one product gives all gates.
    resident = layout.resident if reset_after or layout.columns == 1 else 0
    modes = {"AFTER": reset_after, "SAVE": save, "RESIDENT": resident, "PHASE": WHOLE.value}
    return persistent(forward_kernel, layout, tensors, {"n_rows": states.shape[1]}, above, states, **modes)


def forward_step(a: Tensor, reset: Tensor | None, states: Tensor, reset_after: bool, phase: tl.constexpr) -> Launch:
    """The pointwise kernel of one step forward, or of a part of it, on these tensors."""
    tensors, sizes = {"a_ptr": a, "reset_ptr": reset, "states_ptr": states}, {"n_rows": states.shape[1]}
    return pointwise_step(forward_step_kernel, tensors, sizes, states, AFTER=reset_after, PHASE=phase.value)


def backward_launch(
    layout: Plan,
    a: Tensor,
    w_hh: Tensor,
    states: Tensor,
    reset: Tensor | None,
    dy: Tensor | None,
    dsaved: Tensor | None,
    da: Tensor,
    passed: Tensor,
    reset_after: bool,
    above: Above | None = None,
) -> Launch:
    """The persistent backward kernel on these tensors; time, rows and counters are filled in when it runs."""
    tensors = {"a_ptr": a, "w_ptr": w_hh, "states_ptr": states, "reset_ptr": reset, "dy_ptr": dy, "dsaved_ptr": dsaved}
    tensors |= {"da_ptr": da, "passed_ptr": passed}
    sizes = {"n_rows": da.shape[1], "n_steps": len(da)}
    modes = {"AFTER": reset_after, "SLICES": layout.slices, "PHASE": WHOLE.value}
    return persistent(backward_kernel, layout, tensors, sizes, above, states, **modes)


def backward_step(
    a: Tensor,
    states: Tensor,
    reset: Tensor | None,
    through: Tensor,
    dq: Tensor | None,
    dsaved: Tensor | None,
    da: Tensor,
    passed: Tensor,
    reset_after: bool,
    phase: tl.constexpr,
) -> Launch:
    """The pointwise kernel of one step back, or a part of it; `through` [B, H] holds the gradient from the next step.

    The gradient of the states, and its first step, are filled in when it runs.
    """
    tensors = {"a_ptr": a, "states_ptr": states, "reset_ptr": reset, "dy_ptr": None, "through_ptr": through}
    tensors |= {"dq_ptr": dq, "dsaved_ptr": dsaved, "da_ptr": da, "passed_ptr": passed}
    sizes = {"first_step": 0, "n_rows": da.shape[1], "n_steps": len(da)}
    return pointwise_step(backward_step_kernel, tensors, sizes, states, AFTER=reset_after, PHASE=phase.value)
