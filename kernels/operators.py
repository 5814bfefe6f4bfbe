"""What the custom operators of all cells share: autocast, what they keep and return, and whether they keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

AUTOCAST = ("cpu", "cuda")  # devices whose operators torch.autocast casts the inputs of
LIBRARY = torch.library.Library("gatescope", "FRAGMENT")


def autocast_on(x: Tensor) -> bool:
    """Whether torch.autocast is on for the device of x; devices that it does not know have none."""
    return x.device.type in AUTOCAST and torch.is_autocast_enabled(x.device.type)


def register_autocast(name: str, promoted_on_cpu: int | None = None) -> None:
    """Let an operator run in the dtype of torch.autocast where that is on, its float inputs cast.

    Args:
        name: of the operator.
        promoted_on_cpu: the place of an input that is on a CPU what torch makes of it beside that dtype: float32 stays.
    """
    op = getattr(torch.ops.gatescope, name)

    def rule(device_type: str, promoted: int | None) -> Callable[..., Any]:
        def run(_keyset: Any, *args: Any) -> Any:
            dtype = torch.get_autocast_dtype(device_type)
            given = [_cast(each, dtype) for each in args]
            if promoted is not None:
                given[promoted] = args[promoted].to(torch.promote_types(args[promoted].dtype, dtype))
            with torch.autocast(device_type, enabled=False):
                return op(*given)

        return run

    LIBRARY.impl(name, rule("cpu", promoted_on_cpu), "AutocastCPU", with_keyset=True)
    LIBRARY.impl(name, rule("cuda", None), "AutocastCUDA", with_keyset=True)


def _cast(argument: Any, dtype: torch.dtype) -> Any:
    if isinstance(argument, list | tuple):
        return [_cast(each, dtype) for each in argument]
    if isinstance(argument, Tensor) and argument.is_floating_point() and argument.dtype != torch.float64:
        return argument.to(dtype)
    return argument


def differentiable(*tensors: Tensor | None) -> bool:
    """Whether anything that is made of these may be asked for its gradient; what is traced or exported always may."""
    if torch.jit.is_tracing() or exporting():
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def exporting() -> bool:
    """Whether a program is exported; `torch.compiler.is_exporting` of torch 2.11 says so of what is compiled, too."""
    return torch.compiler.is_exporting() and getattr(torch.compiler, "_is_exporting_flag", True)


def unread(tensor: Tensor, is_read: bool) -> Tensor:
    """What is kept of a tensor for backward: its shape, without its memory, where its values are not read."""
    return tensor if is_read else tensor.new_empty(1).expand(tensor.shape)


def fake_states(x: Tensor, hidden: int, backend: str, dtype: torch.dtype | None = None) -> Tensor:
    """The states [T, B, H] without values; the kernels' begin with the initial one, which is not part of them."""
    n_steps, n_rows = x.shape[:2]
    if backend == "triton":
        return x.new_empty(n_steps + 1, n_rows, hidden, dtype=dtype)[1:]
    return x.new_empty(n_steps, n_rows, hidden, dtype=dtype)


def in_dtype(gradients: Sequence[Tensor | None], x: Tensor) -> Any:
    """The gradients that a backward operator returns: in the dtype of x, empty where not needed.

    A tuple, whose length is that which the operator declares: torch takes no lists through a batch of gradients.
    """
    return tuple(x.new_empty(0) if g is None else g.to(x.dtype) for g in gradients)


def fake_gradients(shapes: Sequence[Sequence[int]], needs: Sequence[bool], x: Tensor) -> Any:
    """The same without values."""
    return tuple(x.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needs, strict=True))


def refuse_second_derivative(name: str, reference: str) -> Callable[..., Any]:
    """What autograd calls when someone differentiates the backward operator of one that has a plain reference."""

    def refuse(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(
            f"gatescope::{name} has no second derivative: expected one backward pass, got a backward through it; "
            f"use {reference}, which torch differentiates any number of times"
        )

    return refuse
