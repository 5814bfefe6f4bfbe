"""Stacked layers that run at the same time, each a chunk of steps behind the one below it.

Layer after layer, L layers of T steps take L T steps one after another, each of which waits more than it computes. In a
wavefront layer l works on chunk k while layer l + 1 works on chunk k - 1: T + (L - 1) CHUNK steps. Each layer has a
stream of its own and its share of the multiprocessors; between two layers stands one matrix product a chunk. The
kernels draw the dropout between layers by counters themselves, of states going up and of gradients coming down.
Backward runs the same way from the top layer's last chunk to the bottom layer's first.

The operator takes all layers of one direction; what it computes is what the layers compute one after another. That is
also how it runs them, forward or backward, where `gatescope.kernels.schedule` finds this faster. It decides when it
runs: what torch.compile traces is one operator, whatever the device and the sizes. Backward stops at the lowest layer
of which something wants its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gatescope.kernels.checks import ShapeError, check_layer, check_reset
from gatescope.kernels.dropout import drop_steps
from gatescope.kernels.precision import float32_products_as_cudnn
from gatescope.kernels.sequence import (
    choose_backend,
    differentiable,
    fake_states,
    refuse_second_derivative,
    register_autocast,
)

CHUNK = 25  # steps that a layer is ahead of the next
OUTPUTS = {"lstm": 3, "gru": 2, "rnn": 1}  # of a layer: y, then c, then the gates
GATES = {"lstm": 4, "gru": 3, "rnn": 1}  # blocks of rows in the weights
OPTIONS = {"lstm": ("",), "gru": ("after", "before"), "rnn": ("tanh", "relu")}


def _waves(cell: str, layers: int, x: Tensor, hidden: int, backward: bool) -> bool:
    """Whether layers run side by side rather than one after another."""
    # Triton is not there on every platform.
    from gatescope.kernels.schedule import waves

    return waves(cell, layers, x, hidden, backward)


class _Streams:
    """A stream for each place of the wavefront, which waits for chunks of the place before; nothing on the CPU.

    Layers one after another stay in the caller's stream.
    """

    def __init__(self, layers: int, device: torch.device):
        self._on_gpu = device.type == "cuda" and layers > 1
        if self._on_gpu:
            self._main = torch.cuda.current_stream(device)
            self._streams = [torch.cuda.Stream(device) for _ in range(layers)]
            self._done: dict[tuple[int, int], Any] = {}
            for stream in self._streams:
                stream.wait_stream(self._main)

    @contextmanager
    def working(self, place: int, chunk: int) -> Iterator[None]:
        """Work on a chunk in a place of the wavefront, after the same chunk in the place before."""
        if not self._on_gpu:
            yield
            return
        stream = self._streams[place]
        if place > 0:
            stream.wait_event(self._done[place - 1, chunk])
        with torch.cuda.stream(stream):
            yield
            self._done[place, chunk] = stream.record_event()

    def join(self) -> None:
        """Let what comes next wait for all layers."""
        if self._on_gpu:
            for stream in self._streams:
                self._main.wait_stream(stream)


def _diagonals(layers: int, n_steps: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Place in the wavefront (0 is first), chunk, first step and the one after the last, along the diagonals."""
    chunks = [(start, min(start + size, n_steps)) for start in range(0, n_steps, size)]
    for diagonal in range(len(chunks) + layers - 1):
        for place in range(layers):
            if 0 <= diagonal - place < len(chunks):
                yield place, diagonal - place, *chunks[diagonal - place]


def _fused(cell: str) -> Any:
    # Triton is not there on every platform.
    from gatescope.kernels import gru_fused, lstm_fused, rnn_fused

    return {"lstm": lstm_fused, "gru": gru_fused, "rnn": rnn_fused}[cell]


def _option(cell: str, option: str) -> tuple[Any, ...]:
    """What a layer of the cell takes beside its tensors."""
    return {"lstm": (), "gru": (option == "after",), "rnn": (option,)}[cell]


def _layer_weights(weights: Sequence[Tensor], layers: int) -> list[list[Tensor | None]]:
    each = len(weights) // layers
    return [[*weights[k * each : (k + 1) * each], *[None] * (4 - each)] for k in range(layers)]


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
    # Triton is not there on every platform.
    from gatescope.kernels.fused import Above

    layers, hidden = len(states[0]), states[0].shape[2]
    side_by_side = _waves(cell, layers, x, hidden, False)
    beside, size = (layers, CHUNK) if side_by_side else (1, len(x))
    below, outputs, of_layers = x, [], _layer_weights(weights, layers)
    flags = () if cell == "rnn" else (save,)
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        for lowest in range(0, layers, beside):
            walks: list[Any] = []
            for k in range(lowest, lowest + beside):
                first = (state[k] for state in states)
                above = Above(x.new_empty(*x.shape[:2], hidden), seeds[k], p, k) if seeds and k + 1 < layers else None
                given = (below, *first, of_layers[k], reset, *_option(cell, option), *flags)
                walks.append(_fused(cell).Forward(*given, share=beside, above=above))
                below = walks[-1].states[1:] if above is None else above.values
            streams = _Streams(beside, x.device)
            for place, chunk, start, stop in _diagonals(beside, len(x), size):
                with streams.working(place, chunk):
                    walks[place].advance(start, stop)
            streams.join()
            outputs += [output for walk in walks for output in walk.results()]
    return outputs


@_wavefront_op.register_fake
def _(
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
    layers, _, hidden = states[0].shape
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
    # Triton is not there on every platform.
    from gatescope.kernels.fused import Above

    layers, each, hidden = len(states[0]), OUTPUTS[cell], states[0].shape[2]
    lowest = _lowest(needs, len(states), layers)
    side_by_side = _waves(cell, layers - lowest, x, hidden, True)
    beside, size = (layers - lowest, CHUNK) if side_by_side else (1, len(x))
    of_layers, found = _layer_weights(weights, layers), {}
    # What each layer tells the one below it; the lowest tells the caller, if that asks.
    downs = [x.new_empty(*x.shape[:2], hidden) if k > lowest else None for k in range(layers)]
    downs[0] = x.new_empty(x.shape) if needs[0] else None
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        for top in range(layers - 1, lowest - 1, -beside):
            walks: list[Any] = []
            for k in range(top, top - beside, -1):
                y, *saved = outputs[k * each : (k + 1) * each]
                given, *others = gradients[k * each : (k + 1) * each]
                below = x if k == 0 else outputs[(k - 1) * each]
                if seeds and k > 0:
                    below = drop_steps(below, seeds[k - 1], p, k - 1, 0)
                down = downs[k + 1] if k + 1 < layers else None
                above = None if down is None else Above(down, seeds[k] if seeds else None, p if seeds else 0.0, k)
                first = (state[k] for state in states)
                tensors = (given, *others, below, *first, *of_layers[k][:2], y, *saved, reset)
                walks.append(_fused(cell).Backward(*tensors, *_option(cell, option), share=beside, above=above))
            streams = _Streams(beside, x.device)
            for place, chunk, start, stop in _diagonals(beside, len(x), size):
                start, stop = len(x) - stop, len(x) - start
                with streams.working(place, chunk):
                    walks[place].retreat(start, stop)
                    down = downs[top - place]
                    if down is not None:
                        walks[place].input_gradient(start, stop, down)
            streams.join()
            for place, walk in enumerate(walks):
                found[top - place] = walk.results(_wanted(needs, len(states), layers, top - place))
    return _collected(downs[0], found, states, weights, needs)


def _wanted(needs: Sequence[bool], n_states: int, layers: int, k: int) -> tuple[bool, ...]:
    """Which gradients of a layer are needed: those of its states and of its weights and biases."""
    each = (len(needs) - 1 - n_states) // layers
    place = 1 + n_states + k * each
    return (*needs[1 : 1 + n_states], *needs[place : place + each], *[False] * (4 - each))


def _lowest(needs: Sequence[bool], n_states: int, layers: int) -> int:
    """The lowest layer that a gradient has to reach."""
    if needs[0]:
        return 0
    return next(k for k in range(layers) if any(_wanted(needs, n_states, layers, k)))


def _collected(
    dx: Tensor | None,
    found: Mapping[int, Sequence[Any]],
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor]:
    """The gradients of x, the states and all weights, in this order, empty where not needed."""
    n_states, layers = len(states), len(states[0])
    each = len(weights) // layers
    joined = [
        torch.stack([found[k][place].to(state.dtype) for k in range(layers)]) if needs[1 + place] else None
        for place, state in enumerate(states)
    ]
    nothing = (None,) * (n_states + each)
    of_weights = [g for k in range(layers) for g in found.get(k, nothing)[n_states : n_states + each]]
    like = states[0]
    return [like.new_empty(0) if g is None else g.to(like.dtype) for g in (dx, *joined, *of_weights)]


@_wavefront_backward_op.register_fake
def _(
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
    return [x.new_empty(t.shape if need else (0,)) for t, need in zip((x, *states, *weights), needs, strict=True)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.cell, ctx.option, x, states, weights, reset, seeds, ctx.p, save = inputs
    if not save and ctx.cell != "rnn":
        raise RuntimeError("gatescope::wavefront: expected save=True where a gradient is wanted, got save=False")
    ctx.counts = (len(states), len(weights), len(seeds))
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, *states, *weights, *seeds, reset, *output)


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
        option: of the gru "after" or "before" (its reset gate), of the rnn "tanh" or "relu", else "".
        x: [T, B, I].
        states: initial states, each [L, B, H].
        weights: layer by layer w_ih, w_hh and, with bias, b_ih, b_hh.
        reset: [T, B] bool or None.
        seeds: of the masks between layers, int64 [1] each, L - 1 of them; none without dropout.
        p: share that is dropped between layers, 0 <= p < 1.
        save: whether the gates are kept; they always are where a gradient is wanted.

    Returns:
        What the cell's operator returns for one layer, for each layer.

    Raises:
        ValueError: for a name, shape, dtype or device that does not fit.
    """
    _check(cell, option, x, states, weights, reset, seeds, p)
    save = save or differentiable(x, *states, *weights)
    outputs = _wavefront_op(cell, option, x, list(states), list(weights), reset, list(seeds), p, save)
    each = OUTPUTS[cell]
    return [tuple(outputs[k : k + each]) for k in range(0, len(outputs), each)]


def _check(
    cell: str,
    option: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    reset: Tensor | None,
    seeds: Sequence[Tensor],
    p: float,
) -> None:
    if option not in OPTIONS.get(cell, ()):
        known = "; ".join(f"{name}: {' or '.join(map(repr, options))}" for name, options in OPTIONS.items())
        raise ValueError(f"wavefront: expected a cell and its option ({known}), got {cell!r} and {option!r}")
    names = ("h", "c") if cell == "lstm" else ("h",)
    if len(states) != len(names) or any(state.dim() != 3 or len(state) == 0 for state in states):
        got = [list(state.shape) for state in states]
        raise ShapeError(f"wavefront: states: expected {' and '.join(names)} of shape [L, B, H] each, got {got}")
    layers = len(states[0])
    if len(weights) not in (2 * layers, 4 * layers):
        raise ShapeError(f"wavefront: weights: expected {2 * layers} or {4 * layers}, got {len(weights)}")
    if len(seeds) not in (0, layers - 1) or not 0 <= p < 1:
        raise ValueError(
            f"wavefront: expected no seeds or {layers - 1} and 0 <= p < 1, got {len(seeds)} seeds and p = {p}"
        )
    below = x
    for k, of_layer in enumerate(_layer_weights(weights, layers)):
        first = {f"state {name} of layer {k}": state[k] for name, state in zip(names, states, strict=True)}
        check_layer(cell, GATES[cell], first, of_layer, below)
        below = states[0][k].expand(*x.shape[:2], states[0].shape[2])
    check_reset(cell, reset, x)
    choose_backend("triton", x)
