"""The checks of the arguments of layers, modules and cells, made once before anything runs.

Each error says what was wrong, what was expected and what was given.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatescope.kernels.backend import FUSED_DTYPES
from gatescope.kernels.operators import autocast_on

N_GATES = {"lstm": 4, "gru": 3, "rnn": 1}  # blocks of rows in the weights
States = tuple[Tensor, ...]
Weights = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # w_ih, w_hh, b_ih, b_hh of a layer and direction


class ShapeError(ValueError, RuntimeError):
    """A tensor that does not fit the others: a ValueError, and also the RuntimeError that torch.nn raises here."""


def told(value: Any) -> str:
    """The given value in few words on one line: dtype, shape and device of a tensor, else the value."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)} on {value.device}"
    return f"{type(value).__name__} {' '.join(repr(value).split()):.60}"


def check_tensor(owner: str, name: str, value: Any) -> None:
    """Check that something is a tensor."""
    if not isinstance(value, Tensor):
        raise ShapeError(f"{owner}: {name}: expected a tensor, got {told(value)}")


def check_kind(owner: str, name: str, tensor: Tensor, like: Tensor, whose: str) -> None:
    """Check that a tensor has the dtype and device of another; under torch.autocast floats of up to 32 bits mix."""
    floats = like.dtype.is_floating_point
    # Evaluated for every tensor in every call, so what is cheap and likely comes first.
    fits = tensor.dtype == like.dtype or (autocast_on(like) and {tensor.dtype, like.dtype} <= set(FUSED_DTYPES))
    if tensor.device != like.device or not floats or not fits:
        expected = like.dtype if floats else "a float dtype"
        raise ShapeError(
            f"{owner}: {name}: expected {expected} on {like.device}, as {whose}, got {tensor.dtype} on {tensor.device}"
        )


def with_biases(weights: Sequence[Tensor]) -> Weights:
    """The weights of a layer and direction, with None for biases that it does not have."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (None, None)
    return w_ih, w_hh, b_ih, b_hh


def layer_weights(weights: Sequence[Tensor], layers: int) -> list[list[Tensor | None]]:
    """The weights of each of stacked layers: w_ih, w_hh and two biases or None."""
    each = len(weights) // layers
    return [[*weights[k * each : (k + 1) * each], *[None] * (4 - each)] for k in range(layers)]


def check_layer(cell: str, states: dict[str, Tensor], weights: Sequence[Tensor | None], x: Tensor) -> None:
    """Check one layer's tensors against each other.

    Args:
        cell: "lstm", "gru" or "rnn".
        states: initial states [B, H], by name.
        weights: w_ih, w_hh and the two biases or None.
        x: [T, B, I].

    Raises:
        ValueError: naming the tensor, and its expected and given shape, dtype or device.
    """
    given = {**states, **_named(weights)}
    for name, tensor in {"x": x, **given}.items():
        if tensor is not None or not name.startswith("bias"):
            check_tensor(cell, name, tensor)
    _check_shapes(cell, states, weights, x)
    for name, tensor in given.items():
        if tensor is not None:
            check_kind(cell, name, tensor, x, "x")


def check_operands(
    cell: str, states: Sequence[Tensor], weights: Sequence[Tensor | None], x: Tensor, reset: Tensor | None
) -> None:
    """Check the operands of an operator that is called directly: compiled loops and kernels do no bounds checks.

    Dtypes may differ: under autocast a state may stay wider than x.
    """
    named = {f"state {k}": state for k, state in enumerate(states)}
    _check_shapes(cell, named, weights, x)
    for name, tensor in {**named, **_named(weights)}.items():
        if tensor is not None and tensor.device != x.device:
            raise ShapeError(f"{cell}: {name}: expected a tensor on {x.device}, as x, got {told(tensor)}")
    check_reset(cell, reset, x.shape[:2], x.device)


def _named(weights: Sequence[Tensor | None]) -> dict[str, Tensor | None]:
    return dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True))


def _check_shapes(cell: str, states: dict[str, Tensor], weights: Sequence[Tensor | None], x: Tensor) -> None:
    if x.dim() != 3 or x.shape[0] == 0:
        raise ShapeError(f"{cell}: x: expected [T, B, I] with at least one step, got {list(x.shape)}")
    w_hh = weights[1]
    assert w_hh is not None
    if w_hh.dim() != 2:
        raise ShapeError(f"{cell}: weight_hh: expected shape [{N_GATES[cell]} H, H], got {list(w_hh.shape)}")
    rows, hidden = N_GATES[cell] * w_hh.shape[1], w_hh.shape[1]
    shapes = {"weight_ih": (rows, x.shape[2]), "weight_hh": (rows, hidden), "bias_ih": (rows,), "bias_hh": (rows,)}
    shapes |= dict.fromkeys(states, (x.shape[1], hidden))
    for name, tensor in {**states, **_named(weights)}.items():
        if tensor is not None and tuple(tensor.shape) != shapes[name]:
            raise ShapeError(f"{cell}: {name}: expected shape {list(shapes[name])}, got {list(tensor.shape)}")
    if (weights[2] is None) != (weights[3] is None):
        raise ShapeError(f"{cell}: expected both biases or none, got one")


def check_reset(cell: str, reset: Tensor | None, shape: Sequence[int], device: torch.device) -> None:
    """Check a mask of resets; a ValueError says what was expected and what was given."""
    if reset is None:
        return
    check_tensor(cell, "reset", reset)
    if reset.dtype != torch.bool or tuple(reset.shape) != tuple(shape) or reset.device != device:
        raise ShapeError(f"{cell}: reset: expected bool {list(shape)} on {device}, time first, got {told(reset)}")


def check_capture(cell: str, capture: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names of what to capture, each once; none for None."""
    if capture is None:
        return ()
    listed = isinstance(capture, Sequence | set | frozenset) and not isinstance(capture, str)
    if not listed or not all(name in known for name in capture):
        raise ValueError(f"capture: expected names out of {known} of this {cell} in a tuple, got {capture!r}")
    return tuple(dict.fromkeys(capture))


def check_dropout(dropout: float) -> None:
    """Check a share to drop; an attribute of a module may have been set to another since it was made."""
    if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(
            f"dropout should be a number in range [0, 1], the share of outputs set to zero; got {dropout!r}"
        )


def check_arguments(
    input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float, level: int
) -> None:
    """Check the constructor's arguments as torch.nn does; `level` is the stack level of the code that makes the module.

    Raises:
        ValueError: for a size or a share out of its range.
        TypeError: for a flag or a size of the wrong type.

    Warns if dropout has no layer to act on.
    """
    check_dropout(dropout)
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            f"dropout acts on all layers but the last: dropout={dropout} does nothing with num_layers=1",
            stacklevel=level,
        )
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero, got {size}")
