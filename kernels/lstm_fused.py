"""The LSTM's time loop in Triton kernels, forward and backward.

Forward multiplies the input by W_ih for all steps at once into A [T, B, 4, H]. The persistent kernel then walks through
time with the recurrent weights of its units on chip: it adds W_hh h_{t-1}, overwrites the products with the activations
i, f, g, o, which backward reads and a caller may capture, and keeps the cell in float32.

Backward walks back with its units' columns of W_hh on chip. The programs exchange the gradients before the activations,
which they write to an array like A; dx, dW_ih, dW_hh and the biases' gradients are matrix products over all steps
afterwards. Gradients of captured cells and gates are added where they belong.

With 16-bit weights a step moves 18 H bytes a row and 4 H for the cell forward, and about 30 H backward. Each takes 8
H^2 FLOP a row; the products before and after the walk take 8 H I forward and 8 H (2 I + H) backward.

Gates are saved rather than recomputed. A, which holds them, is needed for the input product anyway, so saving them
costs 8 H bytes a row written and 8 H read. Recomputing them from the states would take a product of 8 H (I + H) FLOP a
row, a third of a step in both directions, whose result is again written and read. At H = I = 512 that is 4.2 MFLOP, 5.3
ns at the 790 TFLOP/s that an H200 is known to reach, against 8 KB, 1.9 ns at 4.3 TB/s: it would save only the memory, 4
KB a row and step. This is arithmetic; neither was measured.
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
from gatescope.kernels.lstm_launch import backward_launch, backward_step, forward_launch, forward_step
from gatescope.kernels.precision import float32_products_as_cudnn
from gatescope.kernels.products import input_product, joint_bias
from gatescope.kernels.time_blocks import entering


class Forward:
    """A layer's forward pass: buffers for all steps, and the kernels that fill them.

    Args:
        x: [T, B, I]; only the steps reached so far need to be filled.
        h0, c0: [B, H].
        weights: w_ih, w_hh and the two biases or None.
        reset: [T, B] bool or None.
        save: whether the gates are kept.
        share: number of layers that run at the same time and share the device.
        above: the input of the layer above, if this layer fills it.
    """

    def __init__(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        weights: Weights,
        reset: Tensor | None,
        save: bool,
        share: int = 1,
        above: Above | None = None,
    ):
        n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
        w_ih, w_hh, b_ih, b_hh = weights
        self._x, self._w_ih, self._bias = x, w_ih, joint_bias(b_ih, b_hh)
        self._c0, self._w_hh = c0.contiguous(), w_hh.contiguous()
        self._reset = None if reset is None else reset.contiguous()
        self.states = x.new_empty(n_steps + 1, n_rows, hidden)
        self.states[0] = h0
        self.cells = torch.empty_like(self.states[1:], dtype=torch.float32)
        self._a, self._save, self._above = x.new_empty(n_steps, n_rows, 4, hidden), save, above
        self.layout = layer_plan("lstm", False, n_rows, hidden, x, share)
        if self.layout.form == "persistent":
            tensors = (self._a, self._w_hh, self._c0, self._reset, self.states, self.cells)
            self._launch = forward_launch(self.layout, *tensors, save, above)
        else:
            self._launch = forward_step(self._a, self._c0, self._reset, self.states, self.cells)

    def advance(self, start: int, stop: int) -> None:
        """Run the steps from start to stop; all earlier ones are done."""
        input_product(self._x[start:stop], self._w_ih, self._bias, self._a[start:stop].flatten(2))
        if self.layout.form == "persistent":
            run(self._launch, self.layout, start, stop, len(self._c0))
            return
        w_t = self._w_hh.t()
        sums = self._a[start:stop].flatten(2).unbind()
        for t, a, h in zip(range(start, stop), sums, self.states[start:stop].unbind(), strict=True):
            a.addmm_(cleared(h, step_of(self._reset, t)), w_t)
            self._launch(t=t)
        if self._above is not None:
            self._above.fill(self.states[start + 1 : stop + 1], start)

    def results(self) -> tuple[Tensor, Tensor, Tensor]:
        """y [T, B, H], c in float32 [T, B, H], and the gates [T, B, 4, H] if they are saved, else an empty tensor."""
        return self.states[1:], self.cells, self._a if self._save else self._a.new_empty(0)


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
    """Do what `gatescope.kernels.lstm_loop.lstm_forward` does; y and the gates are in the dtype of x, c in float32."""
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        layer = Forward(x, h0, c0, (w_ih, w_hh, b_ih, b_hh), reset, save)
        layer.advance(0, len(x))
        return layer.results()


class Backward:
    """A layer's backward pass: the gradients before the activations, step by step, then those of everything else.

    Args:
        dy: [T, B, H] or None; only the steps reached so far need to be filled.
        dcells, dsaved: gradients of c [T, B, H] and of the gates [T, B, 4, H], or None.
        x, h0, c0, w_ih, w_hh: as in forward.
        y, cells, a: the results of forward.
        reset: [T, B] bool or None.
        share: number of layers that run at the same time and share the device.
        above: the gradient of the input of the layer above, if there is one.
    """

    def __init__(
        self,
        dy: Tensor | None,
        dcells: Tensor | None,
        dsaved: Tensor | None,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        y: Tensor,
        cells: Tensor,
        a: Tensor,
        reset: Tensor | None,
        share: int = 1,
        above: Above | None = None,
    ):
        n_rows, hidden = h0.shape
        self._x, self._h0, self._w_ih, self._y = x, h0, w_ih, y
        self._dy, self._above = from_caller(dy, above, y), above
        self._dcells, self._dsaved, self._reset = (
            None if each is None else each.contiguous() for each in (dcells, dsaved, reset)
        )
        self._a, self._cells, self._c0, self._w_hh = (each.contiguous() for each in (a, cells, c0, w_hh))
        self._da, self._dc = a.new_empty(a.shape), cells.new_zeros(n_rows, hidden)
        self.layout = layer_plan("lstm", True, n_rows, hidden, y, share)
        gradients = (self._dcells, self._dsaved, self._da, self._dc)
        if self.layout.form == "persistent":
            saved = (self._a, self._w_hh, self._c0, self._cells, self._reset, self._dy)
            self._launch = backward_launch(self.layout, *saved, *gradients, above)
        else:
            self._through = y.new_empty(n_rows, hidden)
            self._launch = backward_step(self._a, self._c0, self._cells, self._reset, self._through, *gradients)

    def retreat(self, start: int, stop: int) -> None:
        """Run the steps from stop - 1 down to start; all later ones are done."""
        if self.layout.form == "persistent":
            run(self._launch, self.layout, start, stop, len(self._h0), backward=True)
            return
        read = read_gradient(self._dy, self._above, start, stop)
        after = self._da.flatten(2).unbind()
        for t in reversed(range(start, stop)):
            if t + 1 < len(after):
                torch.mm(after[t + 1], self._w_hh, out=self._through)
            self._launch(dy_ptr=read, t=t, first_step=start)

    def input_gradient(self, start: int, stop: int, out: Tensor) -> None:
        """Write the gradient of x [T, B, I] from start to stop."""
        input_gradient(self._da[start:stop].flatten(2), self._w_ih, out[start:stop])

    def results(self, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        """Gradients of h0, c0, w_ih, w_hh, b_ih, b_hh; None for those not needed."""
        flat = self._da.flatten(2)
        db = bias_gradient(flat) if needs[4] or needs[5] else None
        return (
            cleared(flat[0] @ self._w_hh, step_of(self._reset, 0)) if needs[0] else None,
            self._dc if needs[1] else None,
            weight_gradient(flat, self._x) if needs[2] else None,
            weight_gradient(flat, entering(self._h0, self._y, self._reset)) if needs[3] else None,
            db,
            None if db is None else db.clone(),
        )


def lstm_backward(
    dy: Tensor | None,
    dcells: Tensor | None,
    dsaved: Tensor | None,
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
    """Do what `gatescope.kernels.lstm_loop.lstm_backward` does."""
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        layer = Backward(dy, dcells, dsaved, x, h0, c0, w_ih, w_hh, y, cells, a, reset)
        return gradients_of(layer, x, needs)
