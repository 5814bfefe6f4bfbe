"""The input of a stack of recurrent layers, validated and brought to one form: time-first and batched.

Names, shapes and errors are torch.nn's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gatescope.kernels.checks import ShapeError, States, check_kind, check_reset, check_tensor, told


class Layers(Protocol):
    """What the input check needs to know about a stack of layers."""

    cell: str
    state_names: tuple[str, ...]
    input_size: int
    hidden_size: int
    num_layers: int
    batch_first: bool
    n_gates: int
    _all_weights: list[list[str]]  # the names of `read_weights`

    @property
    def directions(self) -> int:
        """D, the directions in which each layer runs."""

    def read_weights(self) -> Sequence[Sequence[Tensor]]:
        """The weights of each layer and direction."""


@dataclass(frozen=True)
class Batch:
    """A validated input on its way through the layers, time-first."""

    x: Tensor  # [T, B, I], or the data [sum of lengths, I] of `packed`
    weights: Sequence[Sequence[Tensor]]  # as `all_weights`, read once: each reading recomputes parametrised weights
    states: States  # [L*D, B, H] each, rows in the order in which the sequences were packed
    reset: Tensor | None  # [T, B] bool
    packed: PackedSequence | None
    unbatched: bool  # x had no batch dimension

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors that may need a gradient."""
        return [self.x, *self.states, *(weight for each in self.weights for weight in each)]


def enter(stack: Layers, input: Tensor | PackedSequence, hx: Tensor | States | None, reset: Tensor | None) -> Batch:
    """Validate the caller's input and bring it to time-first, batched form."""
    unbatched, weights = False, stack.read_weights()
    _check_weights(stack, weights)
    if isinstance(input, PackedSequence):
        x, packed = input.data, input
        _check_input(stack, x, 2, weights[0][0])
        # A traced program must look up a shape each time; the result of int() would become a constant.
        n_steps, n_rows = len(packed.batch_sizes), x[: packed.batch_sizes[0]].shape[0]
    else:
        check_tensor(stack.cell, "input", input)
        if input.dim() not in (2, 3):
            raise ValueError(f"{stack.cell}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        _check_input(stack, input, input.dim(), weights[0][0])
        unbatched, packed = input.dim() == 2, None
        x = input.unsqueeze(1) if unbatched else input.transpose(0, 1) if stack.batch_first else input
        n_steps, n_rows = x.shape[:2]
    if n_steps == 0:
        raise ShapeError("Expected sequence length to be larger than 0, got 0")
    states = _check_state(stack, hx, x, n_rows, unbatched)
    if reset is not None:
        check_reset(stack.cell, reset, (n_steps,) if unbatched else (n_steps, n_rows), x.device)
        reset = reset.unsqueeze(1) if unbatched else reset
    return Batch(x, weights, states, reset, packed, unbatched)


def _check_weights(stack: Layers, weights: Sequence[Sequence[Tensor]]) -> None:
    """Check the weights, which may have been replaced since construction: compiled code does no bounds checks."""
    hidden, first = stack.hidden_size, weights[0][0]
    rows = stack.n_gates * hidden
    for k, (names, tensors) in enumerate(zip(stack._all_weights, weights, strict=True)):
        width = stack.input_size if k < stack.directions else hidden * stack.directions
        for name, tensor, shape in zip(names, tensors, ((rows, width), (rows, hidden), (rows,), (rows,)), strict=False):
            check_tensor(stack.cell, name, tensor)
            if tensor.shape != shape:
                raise ShapeError(f"{stack.cell}: {name}: expected shape {list(shape)}, got {list(tensor.shape)}")
            check_kind(stack.cell, name, tensor, first, names[0])


def _check_input(stack: Layers, x: Tensor, dim: int, weight: Tensor) -> None:
    if x.dim() != dim:
        raise ShapeError(f"input must have {dim} dimensions, got {x.dim()}")
    if x.shape[-1] != stack.input_size:
        raise ShapeError(f"input.size(-1) must be equal to input_size. Expected {stack.input_size}, got {x.shape[-1]}")
    check_kind(stack.cell, "input", x, weight, "the weights")


def _check_state(stack: Layers, hx: Tensor | States | None, x: Tensor, n_rows: int, unbatched: bool) -> States:
    n_states = stack.num_layers * stack.directions
    shape = (n_states, n_rows, stack.hidden_size)
    if hx is None:
        return tuple(x.new_zeros(shape) for _ in stack.state_names)
    states = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
    if len(states) != len(stack.state_names):
        got = told(hx) if len(states) == 1 else f"{len(states)} tensors"
        raise ShapeError(f"state: expected {' and '.join(stack.state_names)}, got {got}")
    expected = (n_states, stack.hidden_size) if unbatched else shape
    given = "unbatched 2-D" if unbatched else "batched 3-D"
    for name, s in zip(stack.state_names, states, strict=True):
        check_tensor(stack.cell, f"state {name}", s)
        if s.dim() != len(expected):
            raise ShapeError(
                f"state {name}: For {given} input, hx should also be {len(expected)}-D but got {s.dim()}-D tensor"
            )
        if tuple(s.shape) != expected:
            raise ShapeError(f"state {name}: Expected hidden size {expected}, got {list(s.shape)}")
        check_kind(stack.cell, f"state {name}", s, x, "the input")
    return tuple(s.unsqueeze(1) for s in states) if unbatched else states
