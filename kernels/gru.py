"""Gated recurrent units: reference, operator, functional form and module.

Gate order r, z, n, as torch.nn.GRU (Cho et al. 2014; in the form of cuDNN with reset_after):

    r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)
    z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
    n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))        reset_after=True
    n_t = tanh(W_in x_t + b_in + W_hn (r_t * h_{t-1}) + b_hn)        reset_after=False
    h_t = z_t * h_{t-1} + (1 - z_t) * n_t                            z = 1 keeps memory

Backward saves y and, for every step, r, z, n and p (W_hn h_{t-1} + b_hn, or r_t * h_{t-1}): 5 H values a row. A step
reads and writes about 10 H values a row and takes 6 H (I + H) FLOP forward, twice that backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gatescope.kernels import gru_loop
from gatescope.kernels.backend import choose_backend
from gatescope.kernels.batch import Batch
from gatescope.kernels.checks import N_GATES, States, Weights, check_layer, check_operands, check_reset
from gatescope.kernels.few_steps import few_steps
from gatescope.kernels.operators import (
    differentiable,
    fake_gradients,
    fake_states,
    in_dtype,
    refuse_second_derivative,
    register_autocast,
    unread,
)
from gatescope.kernels.products import joined_product, wide_dtype
from gatescope.kernels.stack import RecurrentStack


def gru_reference(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset: Tensor | None = None,
    reset_after: bool = True,
) -> tuple[Tensor, Tensor]:
    """Run one GRU layer step by step in plain torch, in the dtype of x, differentiable any number of times.

    Args:
        x: [T, B, I].
        h0: [B, H], the state before the first step.
        weight_ih, weight_hh: [3H, I], [3H, H], rows r, z, n.
        bias_ih, bias_hh: [3H] or None.
        reset: [T, B] bool: h is zero before the step where it is true.
        reset_after: multiply by r after the recurrent product, as cuDNN does, or before it, as Cho et al. do.

    Returns:
        h [T, B, H] and the gates r, z, n [T, B, 3, H] of every step.
    """
    hidden = h0.shape[1]
    w_rz, w_n = weight_hh.split((2 * hidden, hidden))
    b_rz, b_n = (None, None) if bias_hh is None else bias_hh.split((2 * hidden, hidden))
    h, states, gates = h0, [], []
    for t, product in enumerate(functional.linear(x, weight_ih, bias_ih)):
        if reset is not None:
            h = h.masked_fill(reset[t].unsqueeze(1), 0)
        x_rz, x_n = product.split((2 * hidden, hidden), dim=1)
        r, z = torch.sigmoid(x_rz + functional.linear(h, w_rz, b_rz)).chunk(2, dim=1)
        if reset_after:
            n = torch.tanh(x_n + r * functional.linear(h, w_n, b_n))
        else:
            n = torch.tanh(x_n + functional.linear(r * h, w_n, b_n))
        h = z * h + (1 - z) * n
        states.append(h)
        gates.append(torch.stack((r, z, n), dim=1))
    return torch.stack(states), torch.stack(gates)


def _implementation(backend: str) -> Any:
    if backend == "loop":
        return gru_loop
    # Triton is not available on every platform.
    from gatescope.kernels import gru_fused

    return gru_fused


@torch.library.custom_op("gatescope::gru", mutates_args=())
def _gru_op(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    reset: Tensor | None,
    reset_after: bool,
    save: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    check_operands("gru", (h0,), (weight_ih, weight_hh, bias_ih, bias_hh), x, reset)
    forward = _implementation(backend).gru_forward
    y, saved = forward(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, reset, reset_after, save)
    return y.to(h0.dtype), saved


@_gru_op.register_fake
def _(x: Tensor, h0: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    save, backend = rest[-2:]
    shape = (n_steps, n_rows, 4, hidden) if save else (0,)
    dtype = x.dtype if backend == "triton" else wide_dtype(x.dtype)
    return fake_states(x, hidden, backend, h0.dtype), x.new_empty(shape, dtype=dtype)


@torch.library.custom_op("gatescope::gru_backward", mutates_args=())
def _gru_backward_op(
    dy: Tensor | None,
    dsaved: Tensor | None,
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    y: Tensor,
    saved: Tensor,
    reset: Tensor | None,
    reset_after: bool,
    needs: Sequence[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    backward = _implementation(backend).gru_backward
    gradients = backward(dy, dsaved, x, h0, weight_ih, weight_hh, y, saved, reset, reset_after, tuple(needs))
    return in_dtype(gradients, x)


@_gru_backward_op.register_fake
def _(
    dy: Tensor | None, dsaved: Tensor | None, x: Tensor, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = weight_hh.shape[:1]
    shapes = (x.shape, h0.shape, weight_ih.shape, weight_hh.shape, rows, rows)
    return fake_gradients(shapes, rest[-2], x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, h0, weight_ih, weight_hh, _, _, reset, reset_after, save, backend = inputs
    if not save:
        raise RuntimeError("gatescope::gru: expected save=True where a gradient is wanted, got save=False")
    ctx.set_materialize_grads(False)
    asked = ctx.needs_input_grad
    ctx.save_for_backward(unread(x, asked[2]), h0, unread(weight_ih, asked[0]), weight_hh, reset, *output)
    ctx.reset_after, ctx.backend = reset_after, backend


def _backward(ctx: Any, dy: Tensor | None, dsaved: Tensor | None) -> tuple[Tensor | None, ...]:
    x, h0, weight_ih, weight_hh, reset, y, saved = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:6]]
    given = (dy, dsaved, x, h0, weight_ih, weight_hh, y, saved, reset, ctx.reset_after, needs, ctx.backend)
    gradients = (g if need else None for g, need in zip(_gru_backward_op(*given), needs, strict=True))
    return *gradients, None, None, None, None


_gru_op.register_autograd(_backward, setup_context=_setup_context)
_gru_backward_op.register_autograd(refuse_second_derivative("gru", "gru_reference (backend='reference')"))
# As in torch.nn, autocast on a CPU runs only the products in 16 bits, and a float32 state stays float32.
register_autocast("gru", promoted_on_cpu=1)


def gru(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset: Tensor | None = None,
    reset_after: bool = True,
    gates: bool = True,
    backend: str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run one GRU layer over a sequence.

    Args:
        x: [T, B, I], any float dtype. 16-bit inputs are computed in float32, except for products of bfloat16 inputs on
            a processor that multiplies bfloat16.
        h0: [B, H].
        weight_ih, weight_hh: [3H, I], [3H, H], rows r, z, n.
        bias_ih, bias_hh: [3H], both or none.
        reset: [T, B] bool: where it is true, h is zero before the step and its gradient stops.
        reset_after: where r multiplies; see the module's equations.
        gates: whether to return the gates too.
        backend: "reference" (plain torch), "loop" (in-place operators) or "triton" (fused kernels on a GPU); None
            chooses by device and dtype.

    Returns:
        h [T, B, H] and the gates r, z, n after their activation [T, B, 3, H], or None if not asked for.

    Raises:
        ValueError: for a shape, dtype, device or name that does not fit.
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    check_layer("gru", {"h0": h0}, weights, x)
    check_reset("gru", reset, x.shape[:2], x.device)
    backend = choose_backend(backend, x, h0, *weights)
    if backend == "reference":
        y, all_gates = gru_reference(x, h0, *weights, reset, reset_after)
        return y, all_gates if gates else None
    save = gates or differentiable(x, h0, *weights)
    y, saved = _gru_op(x, h0, *weights, reset, reset_after, save, backend)
    return y, saved[:, :, 1:].to(y.dtype) if gates else None


class GRU(RecurrentStack):
    """A gated recurrent network with the interface of torch.nn.GRU that can return every gate of every step.

    The equations and the gate order are the module's. The arguments are those of `RecurrentStack`, in torch.nn.GRU's
    order, and one more:

    Args:
        reset_after: whether the reset gate multiplies after the recurrent product, as in torch.nn and cuDNN, or before
            it, as in Cho et al. (2014). Both take weights of the same names and shapes.

    Raises:
        ValueError, TypeError: for an argument out of its range or of the wrong type.
    """

    cell = "GRU"
    n_gates = N_GATES["gru"]
    state_names = ("h",)
    gate_names = ("r", "z", "n")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        backend: str | None = None,
    ):
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(*sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, backend=backend)
        self.reset_after = reset_after

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")

    @property
    def option(self) -> str:
        return "after" if self.reset_after else "before"

    def named(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y, saved = outputs
        return {"h": y, "gates": saved[:, :, 1:].to(y.dtype)} if saved.dim() == 4 else {"h": y}

    def handed_over(self, batch: Batch) -> tuple[Tensor, States] | None:
        return few_steps(self, torch.gru, batch) if self.reset_after else None

    def preactivations(self, x: Tensor, before: Tensor, weights: Weights) -> Tensor:
        """The arguments of the activations; n's includes the reset gate: r (W_hn h + b_hn), or W_hn (r h) + b_hn."""
        hidden = self.hidden_size
        rz, n = zip(*((None, None) if w is None else w.split((2 * hidden, hidden)) for w in weights), strict=True)
        sums = joined_product(x, before, *rz)
        r = torch.sigmoid(sums[..., :hidden])
        if self.reset_after:
            added = functional.linear(x, n[0], n[2]) + r * functional.linear(before, n[1], n[3])
        else:
            added = joined_product(x, r * before, *n)
        return torch.cat((sums, added), dim=2).unflatten(2, (3, hidden))

    def layer(
        self, x: Tensor, states: States, weights: Weights, reset: Tensor | None, capture: tuple[str, ...]
    ) -> dict[str, Tensor]:
        wants_gates = "gates" in capture
        h, gates = gru(x, states[0], *weights, reset, self.reset_after, wants_gates, self.backend)
        return {"h": h} if gates is None else {"h": h, "gates": gates}
