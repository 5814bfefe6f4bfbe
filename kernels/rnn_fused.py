"""The Elman network's time loop in Triton kernels, forward and backward.

The input products of all steps are written in the places of the states; the persistent kernel adds W_hh h_{t-1} to them
and applies the activation in place. Backward writes the gradients before the activation to a similar array; dx, dW_ih,
dW_hh and the biases' gradients are matrix products over all steps afterwards. If the kernels do not fit, a step is one
product followed by torch's own pointwise operators: without gates there is nothing to fuse.
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
from gatescope.kernels.precision import float32_products_as_cudnn
from gatescope.kernels.products import input_product, joint_bias
from gatescope.kernels.rnn_launch import backward_launch, forward_launch
from gatescope.kernels.time_blocks import entering


class Forward:
    """A layer's forward pass: the states of all steps, and the kernel that fills them.

    Args:
        x: [T, B, I]; only the steps reached so far need to be filled.
        h0: [B, H].
        weights: w_ih, w_hh and the two biases or None.
        reset: [T, B] bool or None.
        nonlinearity: "tanh" or "relu".
        share: number of layers that run at the same time and share the device.
        above: the input of the layer above, if this layer fills it.
    """

    def __init__(
        self,
        x: Tensor,
        h0: Tensor,
        weights: Weights,
        reset: Tensor | None,
        nonlinearity: str,
        share: int = 1,
        above: Above | None = None,
    ):
        w_ih, w_hh, b_ih, b_hh = weights
        self._x, self._w_ih, self._w_hh = x, w_ih, w_hh.contiguous()
        self._bias = joint_bias(b_ih, b_hh)
        self._reset = None if reset is None else reset.contiguous()
        self._activate = torch.relu_ if nonlinearity == "relu" else torch.tanh_
        self.states, self._above = x.new_empty(len(x) + 1, *h0.shape), above
        self.states[0] = h0
        self.layout = layer_plan("rnn", False, h0.shape[0], h0.shape[1], x, share)
        if self.layout.form == "persistent":
            self._launch = forward_launch(self.layout, self._w_hh, self._reset, self.states, nonlinearity, above)

    def advance(self, start: int, stop: int) -> None:
        """Run the steps from start to stop; all earlier ones are done."""
        input_product(self._x[start:stop], self._w_ih, self._bias, self.states[start + 1 : stop + 1])
        if self.layout.form == "persistent":
            run(self._launch, self.layout, start, stop, self.states.shape[1])
            return
        w_t, states = self._w_hh.t(), self.states[start : stop + 1].unbind()
        for t, before, h in zip(range(start, stop), states, states[1:], strict=False):
            self._activate(h.addmm_(cleared(before, step_of(self._reset, t)), w_t))
        if self._above is not None:
            self._above.fill(self.states[start + 1 : stop + 1], start)

    def results(self) -> tuple[Tensor]:
        """y [T, B, H]."""
        return (self.states[1:],)


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
    """Do what `gatescope.kernels.rnn_loop.rnn_forward` does; y is in the dtype of x."""
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        layer = Forward(x, h0, (w_ih, w_hh, b_ih, b_hh), reset, nonlinearity)
        layer.advance(0, len(x))
        return layer.results()[0]


class Backward:
    """A layer's backward pass: the gradients before the activation, step by step, then those of everything else.

    Args:
        dy: [T, B, H] or None; only the steps reached so far need to be filled.
        x, h0, w_ih, w_hh: as in forward.
        y: the result of forward.
        reset: [T, B] bool or None.
        nonlinearity: "tanh" or "relu".
        share: number of layers that run at the same time and share the device.
        above: the gradient of the input of the layer above, if there is one.
    """

    def __init__(
        self,
        dy: Tensor | None,
        x: Tensor,
        h0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        y: Tensor,
        reset: Tensor | None,
        nonlinearity: str,
        share: int = 1,
        above: Above | None = None,
    ):
        self._dy, self._above = from_caller(dy, above, y), above
        self._y, self._w_hh = y.contiguous(), w_hh.contiguous()
        self._x, self._h0, self._w_ih, self._relu = x, h0, w_ih, nonlinearity == "relu"
        self._reset = None if reset is None else reset.contiguous()
        self._da = y.new_empty(y.shape)
        self.layout = layer_plan("rnn", True, h0.shape[0], h0.shape[1], y, share)
        if self.layout.form == "persistent":
            tensors = (self._w_hh, self._y, self._reset, self._dy, self._da)
            self._launch = backward_launch(self.layout, *tensors, nonlinearity, above)

    def retreat(self, start: int, stop: int) -> None:
        """Run the steps from stop - 1 down to start; all later ones are done."""
        if self.layout.form == "persistent":
            run(self._launch, self.layout, start, stop, self._y.shape[1], backward=True)
            return
        read = read_gradient(self._dy, self._above, start, stop)
        y, das = self._y[start:stop], self._da.unbind()
        slopes = (y > 0).to(y.dtype) if self._relu else (y * y).neg_().add_(1)
        for t, dh, slope in zip(
            reversed(range(start, stop)), reversed(read.unbind()), reversed(slopes.unbind()), strict=True
        ):
            if t + 1 < len(das):
                after = cleared(das[t + 1], step_of(self._reset, t + 1))
                torch.mm(after, self._w_hh, out=das[t]).add_(dh).mul_(slope)
            else:
                torch.mul(dh, slope, out=das[t])

    def input_gradient(self, start: int, stop: int, out: Tensor) -> None:
        """Write the gradient of x [T, B, I] from start to stop."""
        input_gradient(self._da[start:stop], self._w_ih, out[start:stop])

    def results(self, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of h0, w_ih, w_hh, b_ih, b_hh; None for those not needed."""
        db = bias_gradient(self._da) if needs[3] or needs[4] else None
        return (
            cleared(self._da[0] @ self._w_hh, step_of(self._reset, 0)) if needs[0] else None,
            weight_gradient(self._da, self._x) if needs[1] else None,
            weight_gradient(self._da, entering(self._h0, self._y, self._reset)) if needs[2] else None,
            db,
            None if db is None else db.clone(),
        )


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
    """Do what `gatescope.kernels.rnn_loop.rnn_backward` does."""
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        layer = Backward(dy, x, h0, w_ih, w_hh, y, reset, nonlinearity)
        return gradients_of(layer, x, needs)
