"""What the custom operators of all cells share: autocast, and what they keep and return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

AUTOCAST = ("cpu", "cuda")  # devices for whose operators torch.autocast casts inputs
LIBRARY = torch.library.Library("gatescope", "FRAGMENT")


def autocast_on(x: Tensor) -> bool:
    """Whether torch.autocast is on for the device of x; it is never on for devices that autocast does not support."""
    return x.device.type in AUTOCAST and torch.is_autocast_enabled(x.device.type)


def register_autocast(name: str, promoted_on_cpu: int | None = None) -> None:
    """Let an operator run in the dtype of torch.autocast, with its float inputs cast, while autocast is on.

    Args:
        name: of the operator.
        promoted_on_cpu: position of an input that a CPU promotes with that dtype instead: float32 stays float32.
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
    """Whether a gradient may be asked for through any of the tensors; if traced or exported, always."""
    if torch.jit.is_tracing() or exporting():
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def exporting() -> bool:
    """Whether a program is being exported; torch 2.11's `torch.compiler.is_exporting` is true for compilation, too."""
    return torch.compiler.is_exporting() and getattr(torch.compiler, "_is_exporting_flag", True)


def unread(tensor: Tensor, is_read: bool) -> Tensor:
    """What backward keeps of a tensor: if its values are not read, only its shape, without memory."""
    return tensor if is_read else tensor.new_empty(1).expand(tensor.shape)


def fake_states(x: Tensor, hidden: int, backend: str, dtype: torch.dtype | None = None) -> Tensor:
    """The states [T, B, H] without values; the kernels allocate them with the initial state in front."""
    n_steps, n_rows = x.shape[:2]
    if backend == "triton":
        return x.new_empty(n_steps + 1, n_rows, hidden, dtype=dtype)[1:]
    return x.new_empty(n_steps, n_rows, hidden, dtype=dtype)


def in_dtype(gradients: Sequence[Tensor | None], x: Tensor) -> Any:
    """The gradients that a backward operator returns: in the dtype of x, empty where not needed.

    A tuple with the declared length of the operator's result: torch accepts no list from a batched backward.
    """
    return tuple(x.new_empty(0) if g is None else g.to(x.dtype) for g in gradients)


def fake_gradients(shapes: Sequence[Sequence[int]], needs: Sequence[bool], x: Tensor) -> Any:
    """The same as `in_dtype`, without values."""
    return tuple(x.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needs, strict=True))


def refuse_second_derivative(name: str, reference: str) -> Callable[..., Any]:
    """The autograd function of a backward operator whose second derivative only a plain reference supports."""

    def refuse(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(
            f"gatescope::{name} has no second derivative: expected one backward pass, got a backward through it; "
            f"use {reference}, which torch differentiates any number of times"
        )

    return refuse
