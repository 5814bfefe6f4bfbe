"""Pieces that the time loops of all cells share.

A loop multiplies the input by W_ih for BLOCK steps at once, then walks through them in place; backward walks back
through a block of steps, then multiplies for their part of dx, dW_ih and dW_hh (`gatescope.kernels.products`). What one
product or walk wrote is then still in the cache when the next reads it, and backward needs no memory that grows with T.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

BLOCK = 16  # steps
BACKENDS = ("reference", "loop", "triton")
FUSED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)  # of the Triton kernels
AUTOCAST = ("cpu", "cuda")  # devices whose operators torch.autocast casts the inputs of

# Looked for once, and here: torch.compile does not trace the search.
_TRITON = find_spec("triton") is not None and torch.version.hip is None

LIBRARY = torch.library.Library("gatescope", "FRAGMENT")


def blocks(n_steps: int) -> Iterator[tuple[int, int]]:
    """The first step of each block and the one after its last, in order."""
    return ((start, min(start + BLOCK, n_steps)) for start in range(0, n_steps, BLOCK))


def wide(*tensors: Any) -> list[Any]:
    """Tensors of 16 bits as float32, everything else as it is: loops keep states and gates in at least float32."""
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


def entering_block(first: Tensor, states: Tensor, start: int, stop: int, reset: Tensor | None) -> Tensor:
    """The state before each of the steps from start up to stop, [S, B, H], from those after every step [T, B, H]."""
    if start > 0 and reset is None:
        return states[start - 1 : stop - 1]
    own = None if reset is None else reset[start:stop]
    return entering(first if start == 0 else states[start - 1], states[start:stop], own)


def autocast_on(x: Tensor) -> bool:
    """Whether torch.autocast is on for the device of x; devices that it does not know have none."""
    return x.device.type in AUTOCAST and torch.is_autocast_enabled(x.device.type)


def differentiable(*tensors: Tensor | None) -> bool:
    """Whether anything that is made of these may be asked for its gradient; what is traced or exported always may."""
    if torch.jit.is_tracing() or exporting():
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def exporting() -> bool:
    """Whether a program is exported; `torch.compiler.is_exporting` of torch 2.11 says so of what is compiled, too."""
    return torch.compiler.is_exporting() and getattr(torch.compiler, "_is_exporting_flag", True)


def joined_product(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
) -> Tensor:
    """x W_ih^T + b_ih + h W_hh^T + b_hh, [T, B, R], in one product, which rounds once; torch differentiates it."""
    bias = None if b_ih is None or b_hh is None else b_ih + b_hh
    return functional.linear(torch.cat((x, h), dim=2), torch.cat((w_ih, w_hh), dim=1), bias)


def choose_backend(backend: str | None, x: Tensor, *others: Tensor | None) -> str:
    """The implementation to run: as forced, else "triton" for what its kernels take on a GPU, else "loop".

    Under a transform of torch.func or forward-mode differentiation it is "reference", which these go through.

    Args:
        backend: one of `BACKENDS`, or None.
        x: the input.
        others: states and weights, which may be differentiated forward though the input is not.

    Raises:
        ValueError: for an unknown one, or one that cannot run here.
        NotImplementedError: for one that has no forward-mode derivative, where that is on.
    """
    fused = x.dtype in FUSED_DTYPES and ((x.is_cuda and has_triton()) or interpreting()) and x.shape[1] > 0
    if backend is None:
        if transformed(x, *others):
            return "reference"
        return "triton" if fused and x.is_cuda else "loop"
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected None or one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "triton" and not fused:
        raise ValueError(
            f"backend 'triton': expected float16, bfloat16 or float32 on a CUDA device and at least one row, "
            f"got {x.dtype} {list(x.shape)} on {x.device}"
        )
    if backend != "reference" and _forward_mode(x, *others):
        # torch would take its derivative for zero.
        raise NotImplementedError(
            f"backend {backend!r}: expected no forward-mode differentiation, which its operators do not have, got one "
            f"of torch.func.jvp, jacfwd or a dual level; use backend=None or 'reference'"
        )
    return backend


def transformed(*tensors: Tensor | None) -> bool:
    """Whether torch.func transforms what runs now, or these are differentiated forward: only plain torch takes part."""
    # In a program that torch.compile traces the second breaks the graph where it is true; it is asked last.
    return _forward_mode(*tensors) or torch._C._functorch.maybe_current_level() is not None


def _forward_mode(*tensors: Tensor | None) -> bool:
    """Whether one of these has a tangent, of a dual level or of torch.func.jvp or jacfwd."""
    # The level is that of all threads.
    if forward_ad._current_level < 0:
        return False
    # What is traced, and what a transform wraps, does not say whether it has one.
    if torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None:
        return True
    return any(each is not None and forward_ad.unpack_dual(each).tangent is not None for each in tensors)


def has_triton() -> bool:
    """Whether the fused kernels can run on a GPU: there is Triton, and its instructions are NVIDIA's."""
    return _TRITON


def fake_states(x: Tensor, hidden: int, backend: str, dtype: torch.dtype | None = None) -> Tensor:
    """The states [T, B, H] without values; the kernels' begin with the initial one, which is not part of them."""
    n_steps, n_rows = x.shape[:2]
    if backend == "triton":
        return x.new_empty(n_steps + 1, n_rows, hidden, dtype=dtype)[1:]
    return x.new_empty(n_steps, n_rows, hidden, dtype=dtype)


def unread(tensor: Tensor, is_read: bool) -> Tensor:
    """What is kept of a tensor for backward: its shape, without its memory, where its values are not read."""
    return tensor if is_read else tensor.new_empty(1).expand(tensor.shape)


def in_dtype(gradients: Sequence[Tensor | None], x: Tensor) -> Any:
    """The gradients that a backward operator returns: in the dtype of x, empty where not needed.

    A tuple, whose length is that which the operator declares: torch takes no lists through a batch of gradients.
    """
    return tuple(x.new_empty(0) if g is None else g.to(x.dtype) for g in gradients)


def fake_gradients(shapes: Sequence[Sequence[int]], needs: Sequence[bool], x: Tensor) -> Any:
    """The same without values."""
    return tuple(x.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needs, strict=True))


# How many callers want what a graph launches, in whatever thread: autograd goes back in one of its own.
_as_recorded = 0


@contextmanager
def as_recorded() -> Iterator[None]:
    """Let layers on a GPU run as a CUDA graph will launch them, so that all it records is compiled before.

    For the calls that warm up what is captured next: without it they may run stacked layers by other kernels than the
    graph, which then compiles its own while it records.
    """
    global _as_recorded
    _as_recorded += 1
    try:
        yield
    finally:
        _as_recorded -= 1


def recording(x: Tensor) -> bool:
    """Whether what is done with x now is recorded in a CUDA graph, or is to be done as if it were."""
    return x.is_cuda and (_as_recorded > 0 or torch.cuda.is_current_stream_capturing())


def interpreting() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def register_autocast(name: str, left_on_cpu: int | None = None) -> None:
    """Let an operator run in the dtype of torch.autocast where that is on, its float inputs cast.

    Args:
        name: of the operator.
        left_on_cpu: the place of an input that is left as it is on a CPU.
    """
    op = getattr(torch.ops.gatescope, name)

    def rule(device_type: str, left: int | None) -> Callable[..., Any]:
        def run(_keyset: Any, *args: Any) -> Any:
            dtype = torch.get_autocast_dtype(device_type)
            with torch.autocast(device_type, enabled=False):
                return op(*(each if place == left else _cast(each, dtype) for place, each in enumerate(args)))

        return run

    LIBRARY.impl(name, rule("cpu", left_on_cpu), "AutocastCPU", with_keyset=True)
    LIBRARY.impl(name, rule("cuda", None), "AutocastCUDA", with_keyset=True)


def _cast(argument: Any, dtype: torch.dtype) -> Any:
    if isinstance(argument, list | tuple):
        return [_cast(each, dtype) for each in argument]
    if isinstance(argument, Tensor) and argument.is_floating_point() and argument.dtype != torch.float64:
        return argument.to(dtype)
    return argument


def refuse_second_derivative(name: str, reference: str) -> Callable[..., Any]:
    """What autograd calls when someone differentiates the backward operator of one that has a plain reference."""

    def refuse(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(
            f"gatescope::{name} has no second derivative: expected one backward pass, got a backward through it; "
            f"use {reference}, which torch differentiates any number of times"
        )

    return refuse
