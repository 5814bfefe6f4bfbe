"""How stacked layers run in Triton kernels, side by side or one after another: the walks of `kernels.wavefront`.

Side by side, each layer has its own stream and its share of the multiprocessors. Layer l works on chunk k of CHUNK
steps while layer l + 1 works on chunk k - 1; between two layers there is one matrix product a chunk. Backward goes the
same way from the top layer's last chunk to the bottom layer's first, and stops at the lowest layer that a gradient has
to reach.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gatescope.kernels import gru_fused, lstm_fused, rnn_fused
from gatescope.kernels.checks import layer_weights
from gatescope.kernels.dropout import drop_steps
from gatescope.kernels.fused import Above
from gatescope.kernels.precision import float32_products_as_cudnn
from gatescope.kernels.schedule import CHUNK, waves

FUSED: dict[str, Any] = {"lstm": lstm_fused, "gru": gru_fused, "rnn": rnn_fused}


@cache
def _streams(device: torch.device, layers: int, thread: int) -> list[torch.cuda.Stream]:
    """The streams of a thread, the same ones in every call: cuBLAS keeps a workspace for each stream it multiplies in.

    Another thread may be recording a CUDA graph, into which what this one launches must not go.
    """
    return [torch.cuda.Stream(device) for _ in range(layers)]


class _Streams:
    """A stream for each place of the wavefront, which waits for chunks of the previous place; nothing on the CPU.

    Layers that run one after another stay in the caller's stream.
    """

    def __init__(self, layers: int, device: torch.device):
        self._on_gpu = device.type == "cuda" and layers > 1
        if self._on_gpu:
            self._main = torch.cuda.current_stream(device)
            self._streams = _streams(device, layers, threading.get_ident())
            self._done: dict[tuple[int, int], Any] = {}
            for stream in self._streams:
                stream.wait_stream(self._main)

    @contextmanager
    def working(self, place: int, chunk: int) -> Iterator[None]:
        """Work on a chunk in one place of the wavefront, after the same chunk in the previous place."""
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
        """Make later work wait for all layers."""
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


def _option(cell: str, option: str) -> tuple[Any, ...]:
    """Arguments of the cell's layer other than its tensors."""
    return {"lstm": (), "gru": (option == "after",), "rnn": (option,)}[cell]


def forward(
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
    """Run all layers forward; arguments and results are those of `wavefront`, the outputs in one list."""
    layers, hidden = len(states[0]), states[0].shape[2]
    side_by_side = waves(cell, layers, x, hidden, False)
    beside, size = (layers, CHUNK) if side_by_side else (1, len(x))
    below, outputs, of_layers = x, [], layer_weights(weights, layers)
    flags = () if cell == "rnn" else (save,)
    with torch.cuda.device_of(x), float32_products_as_cudnn(x):
        for lowest in range(0, layers, beside):
            walks: list[Any] = []
            for k in range(lowest, lowest + beside):
                first = (state[k] for state in states)
                above = Above(x.new_empty(*x.shape[:2], hidden), seeds[k], p, k) if seeds and k + 1 < layers else None
                given = (below, *first, of_layers[k], reset, *_option(cell, option), *flags)
                walks.append(FUSED[cell].Forward(*given, share=beside, above=above))
                below = walks[-1].states[1:] if above is None else above.values
            streams = _Streams(beside, x.device)
            for place, chunk, start, stop in _diagonals(beside, len(x), size):
                with streams.working(place, chunk):
                    walks[place].advance(start, stop)
            streams.join()
            outputs += [output for walk in walks for output in walk.results()]
    return outputs


def backward(
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
    """Run all layers backward.

    Args:
        gradients: of the outputs, None if there is none.
        outputs: those of `forward`, in one list.
        needs: whether the gradients of x, the states and all weights are needed, in this order.

    Returns:
        These gradients, empty if not needed.
    """
    layers, hidden = len(states[0]), states[0].shape[2]
    each = len(outputs) // layers
    lowest = _lowest(needs, len(states), layers)
    side_by_side = waves(cell, layers - lowest, x, hidden, True)
    beside, size = (layers - lowest, CHUNK) if side_by_side else (1, len(x))
    of_layers, found = layer_weights(weights, layers), {}
    # The gradient that each layer passes to the one below it; the lowest layer's goes to the caller, if needed.
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
                walks.append(FUSED[cell].Backward(*tensors, *_option(cell, option), share=beside, above=above))
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
    """Which gradients of a layer are needed: those of its states, and those of its weights and biases."""
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
    """The gradients of x, the states and all weights, in this order, empty if not needed."""
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
