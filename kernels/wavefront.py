"""Stacked layers that run at the same time, each a chunk of steps behind the one below it.

Layer after layer, L layers of T steps take L T steps one after another, each of which waits longer than it computes. In
a wavefront layer l works on chunk k while layer l + 1 works on chunk k - 1, which takes T + (L - 1) CHUNK steps. The
kernels apply the dropout between layers themselves, from counters, to states going up and to gradients coming down.

The operator takes all layers of one direction and computes what they compute one after another. It also runs them one
after another, forward or backward, if `gatescope.kernels.schedule` finds this faster. That is decided when it runs:
torch.compile traces one operator, whatever the device and the sizes. Chunks and streams are in
`gatescope.kernels.wavefront_walk`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gatescope.kernels.backend import choose_backend
from gatescope.kernels.checks import ShapeError, check_layer, check_operands, check_reset, layer_weights
from gatescope.kernels.operators import (
    differentiable,
    fake_gradients,
    fake_states,
    refuse_second_derivative,
    register_autocast,
    unread,
)

STATES = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}
OPTIONS = {"lstm": ("",), "gru": ("after", "before"), "rnn": ("tanh", "relu")}


@torch.library.custom_op("gatescope::wavefront", mutates_args=())
def _wavefront_op(
    cell: str,
    option: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    reset: Tensor | None,
    seeds: Sequence[Tensor],
    p: float,
    save: bool,
) -> list[Tensor]:
    # Triton is not available on every platform.
    from gatescope.kernels import wavefront_walk

    _check_names_and_counts(cell, option, states, weights, seeds, p)
    for _, first, of_layer, below in _layers(x, states, weights):
        check_operands(cell, first, of_layer, below, reset)
    return wavefront_walk.forward(cell, option, x, states, weights, reset, seeds, p, save)


@_wavefront_op.register_fake
def _(cell: str, option: str, x: Tensor, states: Sequence[Tensor], *rest: Any) -> list[Tensor]:
    (layers, _, hidden), save = states[0].shape, rest[-1]
    outputs = []
    for _ in range(layers):
        y = fake_states(x, hidden, "triton")
        cells = [torch.empty_like(y, dtype=torch.float32)] if cell == "lstm" else []
        shape = (*x.shape[:2], 4, hidden) if save else (0,)
        outputs += [y, *cells, *([] if cell == "rnn" else [x.new_empty(shape)])]
    return outputs


@torch.library.custom_op("gatescope::wavefront_backward", mutates_args=())
def _wavefront_backward_op(
    cell: str,
    option: str,
    gradients: Sequence[Tensor | None],
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    reset: Tensor | None,
    seeds: Sequence[Tensor],
    p: float,
    outputs: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor]:
    # Triton is not available on every platform.
    from gatescope.kernels import wavefront_walk

    return wavefront_walk.backward(cell, option, gradients, x, states, weights, reset, seeds, p, outputs, needs)


@_wavefront_backward_op.register_fake
def _(
    cell: str,
    option: str,
    gradients: Sequence[Tensor | None],
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    *rest: Any,
) -> list[Tensor]:
    return list(fake_gradients([each.shape for each in (x, *states, *weights)], rest[-1], x))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.cell, ctx.option, x, states, weights, reset, seeds, ctx.p, save = inputs
    if not save and ctx.cell != "rnn":
        raise RuntimeError("gatescope::wavefront: expected save=True where a gradient is wanted, got save=False")
    ctx.counts = (len(states), len(weights), len(seeds))
    ctx.set_materialize_grads(False)
    # Versions of torch differ in how they nest `ctx.needs_input_grad` here.
    ctx.save_for_backward(unread(x, weights[0].requires_grad), *states, *weights, *seeds, reset, *output)


def _backward(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    n_states, n_weights, n_seeds = ctx.counts
    x, *rest = ctx.saved_tensors
    states, rest = rest[:n_states], rest[n_states:]
    weights, rest = rest[:n_weights], rest[n_weights:]
    seeds, (reset, *outputs) = rest[:n_seeds], rest[n_seeds:]
    asked = ctx.needs_input_grad
    needs = [bool(asked[2]), *map(bool, asked[3]), *map(bool, asked[4])]
    given = (ctx.cell, ctx.option, list(gradients), x, states, weights, reset, seeds, ctx.p, outputs, needs)
    found = [g if need else None for g, need in zip(_wavefront_backward_op(*given), needs, strict=True)]
    of_states, of_weights = found[1 : 1 + n_states], found[1 + n_states :]
    return None, None, found[0], of_states, of_weights, None, [None] * n_seeds, None, None


_wavefront_op.register_autograd(_backward, setup_context=_setup_context)
_wavefront_backward_op.register_autograd(refuse_second_derivative("wavefront", "a module with backend='reference'"))
register_autocast("wavefront")


def wavefront(
    cell: str,
    option: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    reset: Tensor | None = None,
    seeds: Sequence[Tensor] = (),
    p: float = 0.0,
    save: bool = True,
) -> list[tuple[Tensor, ...]]:
    """Run stacked layers of one direction as a wavefront, in Triton kernels.

    Args:
        cell: "lstm", "gru" or "rnn".
        option: for the gru "after" or "before" (its reset gate), for the rnn "tanh" or "relu", else "".
        x: [T, B, I].
        states: initial states, each [L, B, H].
        weights: layer by layer w_ih, w_hh and, with bias, b_ih, b_hh.
        reset: [T, B] bool or None.
        seeds: of the masks between layers, int64 [1] each, L - 1 of them; none without dropout.
        p: share that is dropped between layers, 0 <= p < 1.
        save: whether the gates are kept; they always are if a gradient is wanted.

    Returns:
        For each layer, what the cell's operator returns for one layer.

    Raises:
        ValueError: for a name, shape, dtype or device that does not fit.
    """
    _check_names_and_counts(cell, option, states, weights, seeds, p)
    for k, first, of_layer, below in _layers(x, states, weights):
        named = {f"state {name} of layer {k}": state for name, state in zip(STATES[cell], first, strict=True)}
        check_layer(cell, named, of_layer, below)
    check_reset(cell, reset, x.shape[:2], x.device)
    choose_backend("triton", x, *states, *weights)
    save = save or differentiable(x, *states, *weights)
    outputs = _wavefront_op(cell, option, x, list(states), list(weights), reset, list(seeds), p, save)
    each = len(outputs) // len(states[0])
    return [tuple(outputs[k : k + each]) for k in range(0, len(outputs), each)]


def _check_names_and_counts(
    cell: str,
    option: str,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    seeds: Sequence[Tensor],
    p: float,
) -> None:
    if option not in OPTIONS.get(cell, ()):
        known = "; ".join(f"{name}: {' or '.join(map(repr, options))}" for name, options in OPTIONS.items())
        raise ValueError(f"wavefront: expected a cell and its option ({known}), got {cell!r} and {option!r}")
    whole = all(state.dim() == 3 and 0 < len(state) == len(states[0]) for state in states)
    if len(states) != len(STATES[cell]) or not whole:
        got = [list(state.shape) for state in states]
        raise ShapeError(f"wavefront: states: expected {' and '.join(STATES[cell])} of shape [L, B, H] each, got {got}")
    layers = len(states[0])
    if len(weights) not in (2 * layers, 4 * layers):
        raise ShapeError(f"wavefront: weights: expected {2 * layers} or {4 * layers}, got {len(weights)}")
    if len(seeds) not in (0, layers - 1) or not 0 <= p < 1:
        raise ValueError(
            f"wavefront: expected no seeds or {layers - 1} and 0 <= p < 1, got {len(seeds)} seeds and p = {p}"
        )


def _layers(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> Iterator[tuple[int, list[Tensor], list[Tensor | None], Tensor]]:
    """Yield each layer's number, initial states and weights, and a tensor of the shape of what it reads."""
    below = x
    for k, of_layer in enumerate(layer_weights(weights, len(states[0]))):
        first = [state[k] for state in states]
        yield k, first, of_layer, below
        below = first[0].expand(*x.shape[:2], first[0].shape[-1])
