"""Pieces that the time loops of all cells share.

A loop multiplies the input by W_ih for BLOCK steps at once, then walks through them in place; backward walks back
through a block of steps, then multiplies for their part of dx, dW_ih and dW_hh. What one product or walk wrote is then
still in the cache when the next reads it, and backward needs no memory that grows with T.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 16  # steps
BACKENDS = ("reference", "loop", "triton")
FUSED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)  # of the Triton kernels
AUTOCAST = ("cpu", "cuda")  # devices whose operators torch.autocast casts the inputs of
SPLIT = 8192  # entries of a weight whose gradient is summed step by step

LIBRARY = torch.library.Library("gatescope", "FRAGMENT")


def blocks(n_steps: int) -> Iterator[tuple[int, int]]:
    """The first step of each block and the one after its last, in order."""
    return ((start, min(start + BLOCK, n_steps)) for start in range(0, n_steps, BLOCK))


def wide(*tensors: Any) -> list[Any]:
    """Tensors of 16 bits as float32, everything else as it is: loops accumulate in at least float32."""
    return [t.float() if isinstance(t, Tensor) and t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors]


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a loop over this dtype accumulates, and keeps what backward reads."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def cleared_rows(reset: Tensor | None, n_steps: int) -> list[Tensor | None]:
    """For each step the mask [B, 1] of the rows whose state is cleared before it, None where there is none."""
    if reset is None:
        return [None] * n_steps
    return [rows.unsqueeze(1) if some else None for rows, some in zip(reset, reset.any(1).tolist(), strict=True)]


def entering(first: Tensor, steps: Tensor, reset: Tensor | None) -> Tensor:
    """The state before every step, [T, B, H], from the initial one [B, H] and those after every step."""
    before = torch.cat((first.unsqueeze(0), steps[:-1]))
    return before if reset is None else before.masked_fill_(reset.unsqueeze(2), 0)


def project(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write x W^T + b: x [T, B, I], weight [R, I], bias [R] or None, out [T, B, R] with any row stride."""
    # A view, since where flatten copies, the product would be lost.
    flat, product = x.flatten(0, 1), out.view(-1, out.shape[2])
    if bias is None:
        torch.mm(flat, weight.t(), out=product)
    else:
        torch.addmm(bias, flat, weight.t(), out=product)


def by_columns(weight: Tensor) -> Tensor:
    """The same matrix laid out column after column.

    With up to three rows on its left, MKL sums a product that is added to something in one running total where the
    matrix lies row after row, ten times less exactly than in this order.
    """
    return weight.t().contiguous().t()


class Gradients:
    """The gradients of a layer's input, weights and biases, which a walk back through time adds up block by block.

    Args:
        x: [T, B, I]; w_ih: [R, I]; w_hh: [R, H].
        needs: which of x, w_ih, w_hh and the biases are wanted.
        columns: how many columns the gradients have whose sums are those of the biases.
    """

    def __init__(self, x: Tensor, w_ih: Tensor, w_hh: Tensor, needs: Sequence[bool], columns: int):
        self._x, self._w_ih = x, w_ih
        self.x = x.new_empty(x.shape) if needs[0] else None
        self.w_ih = w_ih.new_zeros(w_ih.shape) if needs[1] else None
        self.w_hh = w_hh.new_zeros(w_hh.shape) if needs[2] else None
        self.sums = w_ih.new_zeros(columns) if needs[3] else None

    def of_input(self, steps: slice, gradient: Tensor) -> None:
        """Add what the gradient [steps, B, R] of the input product brings."""
        flat = gradient.flatten(0, 1)
        if self.x is not None:
            torch.mm(flat, self._w_ih, out=self.x[steps].view(len(flat), self.x.shape[2]))
        if self.w_ih is not None:
            _add_product(self.w_ih, gradient, self._x[steps])

    def of_recurrence(self, gradient: Tensor, states: Tensor, rows: slice = slice(None)) -> None:
        """Add what the gradient [steps, B, rows] of some rows of W_hh times the states [steps, B, H] brings."""
        if self.w_hh is not None:
            _add_product(self.w_hh[rows], gradient, states)

    def of_biases(self, gradient: Tensor) -> None:
        """Add the sums of the columns of a gradient [steps, B, columns]."""
        if self.sums is not None:
            self.sums.add_(gradient.flatten(0, 1).sum(0))


def _add_product(weight: Tensor, gradient: Tensor, states: Tensor) -> None:
    """Add to a weight's gradient [R, C] the products of gradients [steps, B, R] and states [steps, B, C]."""
    if weight.numel() > SPLIT:
        weight.addmm_(gradient.flatten(0, 1).t(), states.flatten(0, 1))
    else:
        # MKL sums small matrices' products in one running total; a sum for each step first is several times closer.
        weight.add_(torch.bmm(gradient.transpose(1, 2), states).sum(0))


def computed_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a layer over x computes: that of torch.autocast where it is on, else that of x."""
    if x.is_floating_point() and x.dtype != torch.float64 and autocast_on(x):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def autocast_on(x: Tensor) -> bool:
    """Whether torch.autocast is on for the device of x; devices that it does not know have none."""
    return x.device.type in AUTOCAST and torch.is_autocast_enabled(x.device.type)


def differentiable(*tensors: Tensor | None) -> bool:
    """Whether anything that is made of these will be asked for its gradient."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def joined_product(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
) -> Tensor:
    """x W_ih^T + b_ih + h W_hh^T + b_hh, [T, B, R], in one product, which rounds once; torch differentiates it."""
    bias = None if b_ih is None or b_hh is None else b_ih + b_hh
    return functional.linear(torch.cat((x, h), dim=2), torch.cat((w_ih, w_hh), dim=1), bias)


def choose_backend(backend: str | None, x: Tensor) -> str:
    """The implementation to run: as forced, else "triton" for what its kernels take on a GPU, else "loop".

    Raises:
        ValueError: for an unknown one, or one that cannot run here.
    """
    fused = x.dtype in FUSED_DTYPES and (x.is_cuda or interpreting()) and x.shape[1] > 0
    if backend is None:
        return "triton" if fused and x.is_cuda else "loop"
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected None or one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "triton" and not fused:
        raise ValueError(
            f"backend 'triton': expected float16, bfloat16 or float32 on a CUDA device and at least one row, "
            f"got {x.dtype} {list(x.shape)} on {x.device}"
        )
    return backend


def fake_states(x: Tensor, hidden: int, backend: str) -> Tensor:
    """The states [T, B, H] without values; the kernels' begin with the initial one, which is not part of them."""
    n_steps, n_rows = x.shape[:2]
    if backend == "triton":
        return x.new_empty(n_steps + 1, n_rows, hidden)[1:]
    return x.new_empty(n_steps, n_rows, hidden)


def interpreting() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def register_autocast(name: str) -> None:
    """Let an operator run in the dtype of torch.autocast where that is on, its float inputs cast."""
    op = getattr(torch.ops.gatescope, name)

    def rule(device_type: str) -> Callable[..., Any]:
        def run(_keyset: Any, *args: Any) -> Any:
            dtype = torch.get_autocast_dtype(device_type)
            with torch.autocast(device_type, enabled=False):
                return op(*(_cast(argument, dtype) for argument in args))

        return run

    LIBRARY.impl(name, rule("cpu"), "AutocastCPU", with_keyset=True)
    LIBRARY.impl(name, rule("cuda"), "AutocastCUDA", with_keyset=True)


def _cast(argument: Any, dtype: torch.dtype) -> Any:
    if isinstance(argument, list | tuple):
        return [_cast(each, dtype) for each in argument]
    if isinstance(argument, Tensor) and argument.is_floating_point() and argument.dtype != torch.float64:
        return argument.to(dtype)
    return argument


def refuse_second_derivative(cell: str) -> Callable[..., Any]:
    """What autograd calls when someone differentiates a backward operator."""

    def refuse(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(
            f"gatescope::{cell} has no second derivative: expected one backward pass, got a backward through it; "
            f"use {cell}_reference (backend='reference'), which torch differentiates any number of times"
        )

    return refuse
