"""The GRU's time loop in Triton kernels, forward and backward, for both places of the reset gate.

One array A [T, B, 4, H] holds p, r, z, n of every step, as in `gatescope.kernels.gru_loop`: p is W_hn h + b_hn with
reset_after and r*h without. The input product fills the places of r, z, n before the walk, and the kernels overwrite it
with the activations. Without reset_after a step has two parts with a barrier between them: r*h is exchanged before W_hn
multiplies it.

Backward writes the gradients before the activations to an array like A, that of p first. With reset_after its first
three blocks are the gradient of the recurrent product (rows n, r, z) and its last three that of the input product.

With 16-bit weights a step moves about 18 H bytes a row forward and about 28 H backward. Each takes 6 H^2 FLOP a row;
the products before and after the walk take 6 H I forward and 6 H (2 I + H) backward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatescope.kernels.checks import Weights
from gatescope.kernels.fused import (
    Above,
    bias_gradient,
    cleared,
    from_caller,
    gradients_of,
    input_gradient,
    layer_plan,
    read_gradient,
    run,
    step_of,
    weight_gradient,
)
from gatescope.kernels.gru_launch import backward_launch, backward_step, forward_launch, forward_step, step_phases
from gatescope.kernels.gru_loop import biases
from gatescope.kernels.plan import Plan
from gatescope.kernels.precision import float32_products_as_cudnn
from gatescope.kernels.products import input_product


class Forward:
    """A layer's forward pass: buffers for all steps, and the kernels that fill them.

    Args:
        x: [T, B, I]; only the steps reached so far need to be filled.
        h0: [B, H].
        weights: w_ih, w_hh and the two biases or None.
        reset: [T, B] bool or None.
        reset_after: where the reset gate multiplies.
        save: whether p and the gates are kept.
        share: number of layers that run at the same time and share the device.
        above: the input of the layer above, if this layer fills it.
    """

    def __init__(
        self,
        x: Tensor,
        h0: Tensor,
        weights: Weights,
        reset: Tensor | None,
        reset_after: bool,
        save: bool,
        share: int = 1,
        above: Above | None = None,
    ):
        n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
        w_ih, w_hh, b_ih, b_hh = weights
        self._x, self._w_ih, self._w_hh = x, w_ih, w_hh.contiguous()
        self._bias, p_bias = biases(b_ih, b_hh, hidden, reset_after)
        self._reset, self._after = None if reset is None else reset.contiguous(), reset_after
        self.states = x.new_empty(n_steps + 1, n_rows, hidden)
        self.states[0] = h0
        self._a, self._save, self._above = x.new_empty(n_steps, n_rows, 4, hidden), save, above
        self.layout = layer_plan("gru", False, n_rows, hidden, x, share)
        if self.layout.form == "persistent":
            added = p_bias.contiguous() if isinstance(p_bias, Tensor) else None
            tensors = (self._a, self._w_hh, added, self._reset, self.states)
            self._launch = forward_launch(self.layout, *tensors, reset_after, save, above)
            return
        if reset_after:
            self._a[:, :, 0] = p_bias
        filled = (self._a, self._reset, self.states)
        self._steps = [forward_step(*filled, reset_after, phase) for phase in step_phases(reset_after)]

    def advance(self, start: int, stop: int) -> None:
        """Run the steps from start to stop; all earlier ones are done."""
        n_rows, hidden = self.states.shape[1:]
        input_product(self._x[start:stop], self._w_ih, self._bias, self._a[start:stop].flatten(2)[..., hidden:])
        if self.layout.form == "persistent":
            run(self._launch, self.layout, start, stop, n_rows, phases=_phases(self.layout, self._after))
            return
        flat = self._a[start:stop].flatten(2)
        before = zip(range(start, stop), self.states[start:stop].unbind(), strict=True)
        if self._after:
            w_nrz, nrz = self._w_hh.roll(hidden, 0).t(), flat[..., : 3 * hidden].unbind()
            for (t, h), sums in zip(before, nrz, strict=True):
                sums.addmm_(cleared(h, step_of(self._reset, t)), w_nrz)
                self._steps[0](t=t)
        else:
            w_rz, w_n = (each.t() for each in self._w_hh.split((2 * hidden, hidden)))
            parts = (each.unbind() for each in flat.split((hidden, 2 * hidden, hidden), dim=2))
            for (t, h), r_h, rz, n in zip(before, *parts, strict=True):
                rz.addmm_(cleared(h, step_of(self._reset, t)), w_rz)
                self._steps[0](t=t)
                n.addmm_(r_h, w_n)
                self._steps[1](t=t)
        if self._above is not None:
            self._above.fill(self.states[start + 1 : stop + 1], start)

    def results(self) -> tuple[Tensor, Tensor]:
        """y [T, B, H], and A [T, B, 4, H] if it is saved, else an empty tensor."""
        return self.states[1:], self._a if self._save else self._a.new_empty(0)


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
    """Do what `gatescope.kernels.gru_loop.gru_forward` does; y and A are in the dtype of x."""
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        layer = Forward(x, h0, (w_ih, w_hh, b_ih, b_hh), reset, reset_after, save)
        layer.advance(0, len(x))
        return layer.results()


def _phases(layout: Plan, reset_after: bool) -> int:
    return 2 if layout.columns > 1 and not reset_after else 1


class Backward:
    """A layer's backward pass: the gradients before the activations, step by step, then those of everything else.

    Args:
        dy: [T, B, H] or None; only the steps reached so far need to be filled.
        dsaved: gradient of A [T, B, 4, H], or None.
        x, h0, w_ih, w_hh: as in forward.
        y, a: the results of forward.
        reset: [T, B] bool or None.
        reset_after: where the reset gate multiplies.
        share: number of layers that run at the same time and share the device.
        above: the gradient of the input of the layer above, if there is one.
    """

    def __init__(
        self,
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
        share: int = 1,
        above: Above | None = None,
    ):
        n_rows, hidden = h0.shape
        self._x, self._w_ih, self._w_hh, self._after = x, w_ih, w_hh.contiguous(), reset_after
        # Rows n, r, z with reset_after, else r, z, to match the first blocks of A's gradient.
        self._w_back = self._w_hh.roll(hidden, 0) if reset_after else self._w_hh[: 2 * hidden]
        self._dy, self._above = from_caller(dy, above, y), above
        self._dsaved, self._reset = (None if each is None else each.contiguous() for each in (dsaved, reset))
        self._a, self._states = a.contiguous(), torch.cat((h0.unsqueeze(0), y))
        self._da, self._passed = a.new_empty(a.shape), y.new_zeros(n_rows, hidden, dtype=torch.float32)
        self.layout = layer_plan("gru", True, n_rows, hidden, y, share)
        gradients = (self._dsaved, self._da, self._passed)
        if self.layout.form == "persistent":
            saved = (self._a, self._w_hh, self._states, self._reset)
            self._launch = backward_launch(self.layout, *saved, self._dy, *gradients, reset_after, above)
            return
        self._through = y.new_empty(n_rows, hidden)
        self._dq = None if reset_after else y.new_empty(n_rows, hidden)
        read = (self._a, self._states, self._reset, self._through, self._dq)
        self._steps = [backward_step(*read, *gradients, reset_after, phase) for phase in step_phases(reset_after)]

    def retreat(self, start: int, stop: int) -> None:
        """Run the steps from stop - 1 down to start; all later ones are done."""
        hidden = self._w_hh.shape[1]
        if self.layout.form == "persistent":
            phases = _phases(self.layout, self._after)
            run(self._launch, self.layout, start, stop, len(self._passed), backward=True, phases=phases)
            return
        read = read_gradient(self._dy, self._above, start, stop)
        first, *second = self._steps
        given = {"dy_ptr": read, "first_step": start}
        after, d_n, w_n = self._recurrent().unbind(), self._da[:, :, 3].unbind(), self._w_hh[2 * hidden :]
        for t in reversed(range(start, stop)):
            if t + 1 < len(after):
                torch.mm(after[t + 1], self._w_back, out=self._through)
            first(t=t, **given)
            if second:
                torch.mm(d_n[t], w_n, out=self._dq)
                second[0](t=t, **given)

    def input_gradient(self, start: int, stop: int, out: Tensor) -> None:
        """Write the gradient of x [T, B, I] from start to stop."""
        input_gradient(self._da[start:stop, :, 1:].flatten(2), self._w_ih, out[start:stop])

    def _recurrent(self) -> Tensor:
        """The gradients that `_w_back` multiplies, [T, B, R]."""
        hidden, flat = self._w_hh.shape[1], self._da.flatten(2)
        return flat[..., : 3 * hidden] if self._after else flat[..., hidden : 3 * hidden]

    def results(self, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of h0, w_ih, w_hh, b_ih, b_hh; None for those not needed."""
        hidden, flat = self._w_hh.shape[1], self._da.flatten(2)
        dw_hh = db = db_hh = None
        if needs[2]:
            before = cleared(self._states[:-1], self._reset)
            if self._after:
                dw_hh = weight_gradient(flat[..., : 3 * hidden], before).roll(-hidden, 0)
            else:
                parts = (flat[..., hidden : 3 * hidden], before), (flat[..., 3 * hidden :], self._a[:, :, 0])
                dw_hh = torch.cat([weight_gradient(*part) for part in parts])
        if needs[3] or needs[4]:
            db = bias_gradient(flat[..., hidden:])
            db_hh = db.clone()
            if self._after:
                db_hh[2 * hidden :] = bias_gradient(flat[..., :hidden])
        dw_ih = weight_gradient(flat[..., hidden:], self._x) if needs[1] else None
        dh0 = None
        if needs[0]:
            dh0 = self._passed + cleared(self._recurrent()[0] @ self._w_back, step_of(self._reset, 0))
        return dh0, dw_ih, dw_hh, db, db_hh


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
    """Do what `gatescope.kernels.gru_loop.gru_backward` does."""
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        layer = Backward(dy, dsaved, x, h0, w_ih, w_hh, y, a, reset, reset_after)
        return gradients_of(layer, x, needs)
