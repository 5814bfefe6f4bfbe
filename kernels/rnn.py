"""Elman networks, the baseline without gates: reference, operator, functional form and module.

As torch.nn.RNN (Elman 1990), with tanh or ReLU:

    h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

Backward saves only y, H values a row. A step reads and writes about 3 H values a row and takes 2 H (I + H) FLOP
forward, twice that backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gatescope.kernels import rnn_loop
from gatescope.kernels.backend import choose_backend
from gatescope.kernels.batch import Batch
from gatescope.kernels.checks import N_GATES, States, Weights, check_layer, check_operands, check_reset
from gatescope.kernels.few_steps import few_steps
from gatescope.kernels.operators import (
    fake_gradients,
    fake_states,
    in_dtype,
    refuse_second_derivative,
    register_autocast,
    unread,
)
from gatescope.kernels.stack import RecurrentStack

NONLINEARITIES = ("tanh", "relu")


def check_nonlinearity(owner: str, nonlinearity: str) -> None:
    """Check that an activation is known; an attribute of a module may have been set to another since it was made."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"{owner}: nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")


def rnn_reference(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset: Tensor | None = None,
    nonlinearity: str = "tanh",
) -> Tensor:
    """Run one Elman layer step by step in plain torch, in the dtype of x, differentiable any number of times.

    Args:
        x: [T, B, I].
        h0: [B, H], the state before the first step.
        weight_ih, weight_hh: [H, I], [H, H].
        bias_ih, bias_hh: [H] or None.
        reset: [T, B] bool: h is zero before the step where it is true.
        nonlinearity: "tanh" or "relu".

    Returns:
        h [T, B, H] of every step.
    """
    activate = torch.tanh if nonlinearity == "tanh" else torch.relu
    h, states = h0, []
    for t, product in enumerate(functional.linear(x, weight_ih, bias_ih)):
        if reset is not None:
            h = h.masked_fill(reset[t].unsqueeze(1), 0)
        h = activate(product + functional.linear(h, weight_hh, bias_hh))
        states.append(h)
    return torch.stack(states)


def _implementation(backend: str) -> Any:
    if backend == "loop":
        return rnn_loop
    # Triton is not available on every platform.
    from gatescope.kernels import rnn_fused

    return rnn_fused


@torch.library.custom_op("gatescope::rnn", mutates_args=())
def _rnn_op(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    reset: Tensor | None,
    nonlinearity: str,
    backend: str,
) -> Tensor:
    check_nonlinearity("rnn", nonlinearity)
    check_operands("rnn", (h0,), (weight_ih, weight_hh, bias_ih, bias_hh), x, reset)
    forward = _implementation(backend).rnn_forward
    return forward(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, reset, nonlinearity).to(x.dtype)


@_rnn_op.register_fake
def _(x: Tensor, h0: Tensor, *rest: Any) -> Tensor:
    return fake_states(x, h0.shape[1], rest[-1])


@torch.library.custom_op("gatescope::rnn_backward", mutates_args=())
def _rnn_backward_op(
    dy: Tensor,
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    y: Tensor,
    reset: Tensor | None,
    nonlinearity: str,
    needs: Sequence[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    backward = _implementation(backend).rnn_backward
    gradients = backward(dy, x, h0, weight_ih, weight_hh, y, reset, nonlinearity, tuple(needs))
    return in_dtype(gradients, x)


@_rnn_backward_op.register_fake
def _(
    dy: Tensor, x: Tensor, h0: Tensor, weight_ih: Tensor, weight_hh: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = weight_hh.shape[:1]
    shapes = (x.shape, h0.shape, weight_ih.shape, weight_hh.shape, rows, rows)
    return fake_gradients(shapes, rest[-2], x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, h0, weight_ih, weight_hh, _, _, reset, nonlinearity, backend = inputs
    asked = ctx.needs_input_grad
    ctx.save_for_backward(unread(x, asked[2]), h0, unread(weight_ih, asked[0]), weight_hh, reset, output)
    ctx.nonlinearity, ctx.backend = nonlinearity, backend


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, h0, weight_ih, weight_hh, reset, y = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:6]]
    given = (dy, x, h0, weight_ih, weight_hh, y, reset, ctx.nonlinearity, needs, ctx.backend)
    return *(g if need else None for g, need in zip(_rnn_backward_op(*given), needs, strict=True)), None, None, None


_rnn_op.register_autograd(_backward, setup_context=_setup_context)
_rnn_backward_op.register_autograd(refuse_second_derivative("rnn", "rnn_reference (backend='reference')"))
register_autocast("rnn")


def rnn(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset: Tensor | None = None,
    nonlinearity: str = "tanh",
    backend: str | None = None,
) -> Tensor:
    """Run one Elman layer over a sequence.

    Args:
        x: [T, B, I], any float dtype. 16-bit inputs are computed in float32, except for products of bfloat16 inputs on
            a processor that multiplies bfloat16.
        h0: [B, H].
        weight_ih, weight_hh: [H, I], [H, H].
        bias_ih, bias_hh: [H], both or none.
        reset: [T, B] bool: where it is true, h is zero before the step and its gradient stops.
        nonlinearity: "tanh" or "relu".
        backend: "reference" (plain torch), "loop" (in-place operators) or "triton" (fused kernels on a GPU); None
            chooses by device and dtype.

    Returns:
        h [T, B, H].

    Raises:
        ValueError: for a shape, dtype, device or name that does not fit.
    """
    check_layer("rnn", {"h0": h0}, (weight_ih, weight_hh, bias_ih, bias_hh), x)
    check_reset("rnn", reset, x.shape[:2], x.device)
    check_nonlinearity("rnn", nonlinearity)
    backend = choose_backend(backend, x, h0, weight_ih, weight_hh, bias_ih, bias_hh)
    given = (x, h0, weight_ih, weight_hh, bias_ih, bias_hh, reset, nonlinearity)
    return rnn_reference(*given) if backend == "reference" else _rnn_op(*given, backend)


class RNN(RecurrentStack):
    """An Elman network with the interface of torch.nn.RNN that can return the state of every layer and step.

    The equations are the module's. The arguments are those of `RecurrentStack`, in torch.nn.RNN's order, and one more:

    Args:
        nonlinearity: "tanh" or "relu".

    Raises:
        ValueError, TypeError: for an argument out of its range or of the wrong type.
    """

    cell = "RNN"
    n_gates = N_GATES["rnn"]
    state_names = ("h",)
    gate_names = ()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str | None = None,
    ):
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(*sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, backend=backend)
        self.nonlinearity = nonlinearity

    @property
    def mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")

    @property
    def option(self) -> str:
        return self.nonlinearity

    def named(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"h": outputs[0]}

    def handed_over(self, batch: Batch) -> tuple[Tensor, States] | None:
        check_nonlinearity("RNN", self.nonlinearity)
        return few_steps(self, torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu, batch)

    def layer(
        self, x: Tensor, states: States, weights: Weights, reset: Tensor | None, capture: tuple[str, ...]
    ) -> dict[str, Tensor]:
        return {"h": rnn(x, states[0], *weights, reset, self.nonlinearity, self.backend)}
