"""Long short-term memory: reference, operator, functional form and module.

Gate order i, f, g, o, as torch.nn.LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000):

    i_t, f_t, o_t = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     their rows of the weights
    g_t           = tanh(the same, with its own rows)
    c_t           = f_t * c_{t-1} + i_t * g_t
    h_t           = o_t * tanh(c_t)

Backward saves y, c and, for every step, i, f, g, o: 6 H values a row; tanh(c) is recomputed. A step reads and writes
about 12 H values a row and takes 8 H (I + H) FLOP forward, twice that backward.

On the CPU, if only the output is needed, the module hands all layers to torch's own operator
(`gatescope.kernels.torch_lstm`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gatescope.kernels import lstm_loop
from gatescope.kernels.backend import choose_backend
from gatescope.kernels.batch import Batch
from gatescope.kernels.checks import N_GATES, States, Weights, check_layer, check_operands, check_reset
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
from gatescope.kernels.torch_lstm import torch_lstm


def lstm_reference(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer step by step in plain torch, in the dtype of x, differentiable any number of times.

    Args:
        x: [T, B, I].
        h0, c0: [B, H], the states before the first step.
        weight_ih, weight_hh: [4H, I], [4H, H], rows i, f, g, o.
        bias_ih, bias_hh: [4H] or None.
        reset: [T, B] bool: h and c are zero before the step where it is true.

    Returns:
        h and c [T, B, H], and the gates i, f, g, o [T, B, 4, H] of every step.
    """
    h, c, states, cells, gates = h0, c0, [], [], []
    for t, product in enumerate(functional.linear(x, weight_ih, bias_ih)):
        if reset is not None:
            clear = reset[t].unsqueeze(1)
            h, c = h.masked_fill(clear, 0), c.masked_fill(clear, 0)
        i, f, g, o = (product + functional.linear(h, weight_hh, bias_hh)).chunk(4, dim=1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        c = f * c + i * g
        h = o * torch.tanh(c)
        states.append(h)
        cells.append(c)
        gates.append(torch.stack((i, f, g, o), dim=1))
    return torch.stack(states), torch.stack(cells), torch.stack(gates)


def _implementation(backend: str) -> Any:
    if backend == "loop":
        return lstm_loop
    # Triton is not available on every platform.
    from gatescope.kernels import lstm_fused

    return lstm_fused


@torch.library.custom_op("gatescope::lstm", mutates_args=())
def _lstm_op(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    reset: Tensor | None,
    save: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    check_operands("lstm", (h0, c0), (weight_ih, weight_hh, bias_ih, bias_hh), x, reset)
    forward = _implementation(backend).lstm_forward
    y, cells, saved = forward(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, reset, save)
    return y.to(x.dtype), cells, saved


@_lstm_op.register_fake
def _(x: Tensor, h0: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    n_steps, n_rows, hidden = *x.shape[:2], h0.shape[1]
    save, backend = rest[-2:]
    shape = (n_steps, n_rows, 4, hidden) if save else (0,)
    dtype = wide_dtype(x.dtype)
    y = fake_states(x, hidden, backend)
    return y, torch.empty_like(y, dtype=dtype), x.new_empty(shape, dtype=x.dtype if backend == "triton" else dtype)


@torch.library.custom_op("gatescope::lstm_backward", mutates_args=())
def _lstm_backward_op(
    dy: Tensor | None,
    dcells: Tensor | None,
    dsaved: Tensor | None,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    y: Tensor,
    cells: Tensor,
    saved: Tensor,
    reset: Tensor | None,
    needs: Sequence[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    backward = _implementation(backend).lstm_backward
    gradients = backward(dy, dcells, dsaved, x, h0, c0, weight_ih, weight_hh, y, cells, saved, reset, tuple(needs))
    return in_dtype(gradients, x)


@_lstm_backward_op.register_fake
def _(
    dy: Tensor | None,
    dcells: Tensor | None,
    dsaved: Tensor | None,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = weight_hh.shape[:1]
    shapes = (x.shape, h0.shape, c0.shape, weight_ih.shape, weight_hh.shape, rows, rows)
    return fake_gradients(shapes, rest[-2], x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, h0, c0, weight_ih, weight_hh, _, _, reset, save, backend = inputs
    if not save:
        raise RuntimeError("gatescope::lstm: expected save=True where a gradient is wanted, got save=False")
    ctx.set_materialize_grads(False)
    asked = ctx.needs_input_grad
    ctx.save_for_backward(unread(x, asked[3]), h0, c0, unread(weight_ih, asked[0]), weight_hh, reset, *output)
    ctx.backend = backend


def _backward(ctx: Any, dy: Tensor | None, dcells: Tensor | None, dsaved: Tensor | None) -> tuple[Tensor | None, ...]:
    x, h0, c0, weight_ih, weight_hh, reset, y, cells, saved = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:7]]
    given = (dy, dcells, dsaved, x, h0, c0, weight_ih, weight_hh, y, cells, saved, reset, needs, ctx.backend)
    return *(g if need else None for g, need in zip(_lstm_backward_op(*given), needs, strict=True)), None, None, None


_lstm_op.register_autograd(_backward, setup_context=_setup_context)
_lstm_backward_op.register_autograd(refuse_second_derivative("lstm", "lstm_reference (backend='reference')"))
register_autocast("lstm")


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset: Tensor | None = None,
    gates: bool = True,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one LSTM layer over a sequence.

    Args:
        x: [T, B, I], any float dtype. 16-bit inputs are computed in float32, except for products of bfloat16 inputs on
            a processor that multiplies bfloat16.
        h0, c0: [B, H].
        weight_ih, weight_hh: [4H, I], [4H, H], rows i, f, g, o.
        bias_ih, bias_hh: [4H], both or none.
        reset: [T, B] bool: where it is true, h and c are zero before the step and their gradients stop.
        gates: whether to return the gates too.
        backend: "reference" (plain torch), "loop" (in-place operators) or "triton" (fused kernels on a GPU); None
            chooses by device and dtype.

    Returns:
        h and c [T, B, H], and the gates i, f, g, o after their activation [T, B, 4, H], or None if not asked for.

    Raises:
        ValueError: for a shape, dtype, device or name that does not fit.
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    check_layer("lstm", {"h0": h0, "c0": c0}, weights, x)
    check_reset("lstm", reset, x.shape[:2], x.device)
    backend = choose_backend(backend, x, h0, c0, *weights)
    if backend == "reference":
        y, cells, all_gates = lstm_reference(x, h0, c0, *weights, reset)
        return y, cells, all_gates if gates else None
    save = gates or differentiable(x, h0, c0, *weights)
    y, cells, saved = _lstm_op(x, h0, c0, *weights, reset, save, backend)
    return y, cells.to(y.dtype), saved.to(y.dtype) if gates else None


class LSTM(RecurrentStack):
    """A long short-term memory with the interface of torch.nn.LSTM that can return every cell and gate of every step.

    The equations and the gate order are the module's, the arguments those of `RecurrentStack`.
    """

    cell = "LSTM"
    n_gates = N_GATES["lstm"]
    state_names = ("h", "c")
    gate_names = ("i", "f", "g", "o")

    def named(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y, cells, gates = outputs
        return {"h": y, "c": cells.to(y.dtype), "gates": gates.to(y.dtype)}

    def preactivations(self, x: Tensor, before: Tensor, weights: Weights) -> Tensor:
        return joined_product(x, before, *weights).unflatten(2, (4, self.hidden_size))

    def layer(
        self, x: Tensor, states: States, weights: Weights, reset: Tensor | None, capture: tuple[str, ...]
    ) -> dict[str, Tensor]:
        h, c, gates = lstm(x, states[0], states[1], *weights, reset, "gates" in capture, self.backend)
        return {"h": h, "c": c} if gates is None else {"h": h, "c": c, "gates": gates}

    def handed_over(self, batch: Batch) -> tuple[Tensor, States] | None:
        return torch_lstm(self, batch)
