"""Stacked layers that run at the same time, each a chunk of steps behind the one below it.

Layer after layer, L layers of T steps take L T steps one after another, each of which waits more than it computes. In a
wavefront layer l works on chunk k while layer l + 1 works on chunk k - 1: T + (L - 1) CHUNK steps. Each layer has a
stream of its own and its share of the multiprocessors; between two layers stands one matrix product a chunk. The
kernels draw the dropout between layers by counters themselves, of states going up and of gradients coming down.
Backward runs the same way from the top layer's last chunk to the bottom layer's first.

The operator takes all layers of one direction; what it computes is what the layers compute one after another. That is
also how it runs them forward or backward where `gatescope.kernels.schedule` finds this faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gatescope.kernels.dropout import drop_steps
from gatescope.kernels.sequence import fake_states, refuse_second_derivative, register_autocast

CHUNK = 25  # steps that a layer is ahead of the next
OUTPUTS = {"lstm": 3, "gru": 2, "rnn": 1}  # of a layer: y, then c, then the gates


def pays(cell: str, layers: int, x: Tensor, hidden: int) -> bool:
    """Whether all layers of a stack are better run by one operator: in one direction at least, side by side.

    Args:
        cell: "lstm", "gru" or "rnn".
        layers: L.
        x: [T, B, I].
        hidden: H.
    """
    if layers < 2 or not x.is_cuda:
        return False
    return any(_waves(cell, layers, x, hidden, backward) for backward in (False, True))


def _waves(cell: str, layers: int, x: Tensor, hidden: int, backward: bool) -> bool:
    # Triton is not there on every platform.
    from gatescope.kernels.schedule import waves

    return waves(cell, layers, x, hidden, backward)


class _Streams:
    """A stream for each layer, which waits for chunks of the neighbour that it reads from; nothing on the CPU.

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
    def working(self, layer: int, chunk: int, neighbour: int) -> Iterator[None]:
        """Work on a chunk of a layer after the same chunk of a neighbour."""
        if not self._on_gpu:
            yield
            return
        stream = self._streams[layer]
        if (neighbour, chunk) in self._done:
            stream.wait_event(self._done[neighbour, chunk])
        with torch.cuda.stream(stream):
            yield
            self._done[layer, chunk] = stream.record_event()

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
    share, size = (layers, CHUNK) if side_by_side else (1, len(x))
    walks: list[Any] = []
    below = x
    flags = () if cell == "rnn" else (save,)
    for k, layer_weights in enumerate(_layer_weights(weights, layers)):
        first = (state[k] for state in states)
        above = Above(x.new_empty(*x.shape[:2], hidden), seeds[k], p, k) if seeds and k + 1 < layers else None
        given = (below, *first, layer_weights, reset, *_option(cell, option), *flags)
        walks.append(_fused(cell).Forward(*given, share=share, above=above))
        below = walks[-1].states[1:] if above is None else above.values
    streams = _Streams(share, x.device)
    for k, chunk, start, stop in _diagonals(layers, len(x), size):
        with streams.working(k, chunk, k - 1):
            walks[k].advance(start, stop)
    streams.join()
    return [output for walk in walks for output in walk.results()]


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

    layers, each = len(states[0]), OUTPUTS[cell]
    top = layers - 1
    side_by_side = _waves(cell, layers, x, states[0].shape[2], True)
    share, size = (layers, CHUNK) if side_by_side else (1, len(x))
    walks: list[Any] = [None] * layers
    aboves: list[Any] = [None] * layers
    for k, layer_weights in enumerate(_layer_weights(weights, layers)):
        y, *saved = outputs[k * each : (k + 1) * each]
        given, *others = gradients[k * each : (k + 1) * each]
        below = x if k == 0 else outputs[(k - 1) * each]
        if seeds and k > 0:
            below = drop_steps(below, seeds[k - 1], p, k - 1, 0)
        if k < top:
            seed = seeds[k] if seeds else None
            aboves[k] = Above(y.new_empty(y.shape), seed, p if seeds else 0.0, k)
        first = (state[k] for state in states)
        tensors = (given, *others, below, *first, *layer_weights[:2], y, *saved, reset)
        walks[k] = _fused(cell).Backward(*tensors, *_option(cell, option), share=share, above=aboves[k])
    dx = x.new_empty(x.shape) if needs[0] else None
    streams = _Streams(share, x.device)
    for place, chunk, start, stop in _diagonals(layers, len(x), size):
        k, n_steps = top - place, len(x)
        start, stop = n_steps - stop, n_steps - start
        with streams.working(k, chunk, k + 1):
            walks[k].retreat(start, stop)
            if k > 0:
                walks[k].input_gradient(start, stop, aboves[k - 1].values)
            elif dx is not None:
                walks[0].input_gradient(start, stop, dx)
    streams.join()
    return _collected(dx, walks, states, weights, needs)


def _collected(
    dx: Tensor | None,
    walks: Sequence[Any],
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor]:
    """The gradients of x, the states and all weights, in this order, empty where not needed."""
    n_states, layers = len(states), len(walks)
    each = len(weights) // layers
    of_weights, of_states = [], []
    for k, walk in enumerate(walks):
        place = 1 + n_states + k * each
        wanted = (*needs[1 : 1 + n_states], *needs[place : place + each], *[False] * (4 - each))
        found = walk.results(wanted)
        of_states.append(found[:n_states])
        of_weights += found[n_states : n_states + each]
    joined = [
        torch.stack([g.to(state.dtype) for g in layer]) if need else None
        for layer, state, need in zip(zip(*of_states, strict=True), states, needs[1:], strict=False)
    ]
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
_wavefront_backward_op.register_autograd(refuse_second_derivative("wavefront"))
register_autocast("wavefront")


def wavefront(
    cell: str,
    option: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    reset: Tensor | None,
    seeds: Sequence[Tensor],
    p: float,
    save: bool,
) -> list[tuple[Tensor, ...]]:
    """Run stacked layers of one direction as a wavefront.

    Args:
        cell: "lstm", "gru" or "rnn".
        option: of the gru "after" or "before" (its reset gate), of the rnn "tanh" or "relu", else "".
        x: [T, B, I].
        states: initial states, each [L, B, H].
        weights: layer by layer w_ih, w_hh and, with bias, b_ih, b_hh.
        reset: [T, B] bool or None.
        seeds: of the masks between layers, int64 [1] each, L - 1 of them; none without dropout.
        p: share that is dropped between layers.
        save: whether the gates are kept.

    Returns:
        What the cell's operator returns for one layer, for each layer.
    """
    outputs = _wavefront_op(cell, option, x, list(states), list(weights), reset, list(seeds), p, save)
    each = OUTPUTS[cell]
    return [tuple(outputs[k : k + each]) for k in range(0, len(outputs), each)]
