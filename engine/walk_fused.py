"""Walking a model over many sequences at once with the sampler's kernel (`gatescope.kernels.sample_fused`).

Where `gatescope.engine.walk` has one tile of sequences on each core, the kernel has hundreds of tiles in one launch,
each launch a block of steps, and writes states straight into their place. A sequence stands in the same row of its tile
here, too, whatever runs beside it.

On a GPU a piece's states are copied to pinned memory in a stream of their own, while the next piece is computed: two
pieces exist at a time, on either side.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.finite import are_finite, require_characters, require_finite
from gatescope.engine.resume_points import ResumePoint
from gatescope.engine.walk import GATE_PLACES, SCORES, Buffers, Deliver, Journey, Piece, weights_of

if TYPE_CHECKING:
    from gatescope.kernels.sample_fused import Captured, FusedRecurrence, SamplePlan

# States of one piece: on a GPU, where a launch should have many steps and many sequences.
PIECE_BYTES = 512 << 20
MOST_SEQUENCES = 4096  # side by side
MOST_STEPS = 512  # of one launch, so that the first of a long text comes out soon


def walk_fused(
    journey: Journey,
    layout: SamplePlan,
    *,
    first: int = 0,
    begun: Sequence[ResumePoint] = (),
    buffers: Buffers | None = None,
    deliver: Deliver | None = None,
    to_host: bool = True,
) -> Generator[Piece, None, None]:
    """Compute sequences and yield their pieces, as `gatescope.engine.walk.walk` does.

    Args:
        journey, buffers, deliver: as `walk` has them; buffers are on the model's device, and the thread that asks for
            a piece delivers it.
        layout: how the kernel works on the model.
        first: the sequence to begin with, a multiple of the plan's block_b.
        begun: whole tiles that are not to begin at their first step; the first of them begins at `first`.
        to_host: bring states to the CPU, unless `buffers` has a place for them.

    Yields:
        Pieces with states on the CPU, or where `buffers` has put them, or on the model's device: there they stay as
        they are for what is put into the current stream before the next piece is asked for. Rows behind the end of a
        sequence are not written.
    """
    lengths = journey.lengths
    walker = _FusedWalker(journey, layout, to_host and buffers is None)
    # States that have a place already take no memory of a piece's own.
    row_bytes = 0 if buffers else sum(journey.arrays.values()) * journey.dtype.itemsize
    height, size = _cut(layout, len(lengths) - first, int(lengths[first:].max()), row_bytes)
    points = {point.first: point for point in begun}
    behind: _Underway | None = None
    for turn, (start, stop, begin, end) in enumerate(_pieces(lengths, first, height, size, points)):
        point = points.get(start)
        state = point.state if point and point.step == begin else ()
        ahead = walker.submit(start, stop, begin, end, turn % 2, buffers, state)
        if behind is not None:
            yield behind.piece(deliver)
        behind = ahead
    if behind is not None:
        yield behind.piece(deliver)


def _cut(layout: SamplePlan, n_sequences: int, longest: int, row_bytes: int) -> tuple[int, int]:
    """Return how many sequences, whole tiles, run side by side, and how many steps of them make a piece."""
    tile, most = layout.block_b, MOST_SEQUENCES
    if row_bytes:
        # Whole sequences, if they fit: they go into the dump as they come.
        most = min(most, PIECE_BYTES // (row_bytes * min(longest, MOST_STEPS)))
    height = min(max(tile, most // tile * tile), -(-n_sequences // tile) * tile)
    size = PIECE_BYTES // (row_bytes * height) if row_bytes else MOST_STEPS
    return height, max(1, min(MOST_STEPS, size))


def _pieces(
    lengths: np.ndarray, first: int, height: int, size: int, points: Mapping[int, ResumePoint]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the first sequence of each piece, the one behind its last, its first step and the one behind its last."""
    start = first
    while start < len(lengths):
        point = points.get(start)
        step, stop = 0, min([start + height, len(lengths), *(each for each in points if each > start)])
        if point is not None:
            step, stop = point.step, start + point.n
        longest = int(lengths[start:stop].max())
        yield from ((start, stop, begin, min(begin + size, longest)) for begin in range(step, longest, size))
        start = stop


class _Underway:
    """A piece that is being computed, or copied."""

    def __init__(self, piece: Piece, tokens: Tensor, done: torch.cuda.Event | None, lengths: np.ndarray, n: int):
        self._piece, self._tokens, self._done, self._lengths, self._n_characters = piece, tokens, done, lengths, n

    def piece(self, deliver: Deliver | None) -> Piece:
        """Wait for it, refuse what is not finite, and deliver it."""
        if self._done is not None:
            self._done.synchronize()
        piece, tokens = self._piece, self._tokens.numpy()
        with torch.inference_mode():
            if not are_finite(piece.states.values()):
                for name, values in piece.states.items():
                    require_finite(name, piece.first, piece.start, values, values, self._lengths)
        require_characters(tokens, self._n_characters, piece.first, piece.start)
        piece = replace(piece, tokens=tokens)
        if deliver:
            deliver(piece)
        return piece


class _FusedWalker:
    """The sequences that run side by side."""

    def __init__(self, journey: Journey, layout: SamplePlan, to_host: bool):
        self._lengths, self._reader = journey.lengths, journey.reader
        self._trained, self._layout, self._to_host = journey.trained, layout, to_host
        self._arrays, self._initial, self._dtype = journey.arrays, journey.initial, journey.dtype
        self._recurrence: FusedRecurrence | None = None
        self._device = journey.trained.model.output.weight.device
        self._copying = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._reused: list[dict[str, Tensor]] = [{}, {}]
        self._pinned: list[dict[str, Tensor]] = [{}, {}]
        self._copied: list[torch.cuda.Event | None] = [None, None]

    def submit(
        self,
        first: int,
        behind: int,
        start: int,
        stop: int,
        place: int,
        buffers: Buffers | None,
        state: tuple[Tensor, ...],
    ) -> _Underway:
        """Begin to compute the steps start to stop of the sequences first to behind, after warming them up at step 0.

        Args:
            state: behind the step before `start`, where that was not computed here.
        """
        n, n_steps, lengths = behind - first, stop - start, self._lengths[first:behind]
        numbers = np.arange(first, behind)
        with torch.inference_mode():
            recurrence = self._warmed(numbers) if start == 0 else self._recurrence
            if state:
                recurrence = self._cleared(n)
                for each, saved in zip(self._state(recurrence), state, strict=True):
                    each.copy_(saved)
            assert recurrence is not None
            before = {name: self._live(recurrence, name) for name in self._initial} if start == 0 else {}
            copied = self._copied[place]
            if copied is not None:
                torch.cuda.current_stream(self._device).wait_event(copied)
            states = buffers(first, n, start, stop) if buffers else self._memory(self._reused[place], n, n_steps, False)
            given = self._reader.characters(numbers, start, stop)
            if given is None:
                tokens = torch.zeros(n, n_steps, dtype=torch.int32, device=self._device)
                draw = self._reader.draw(first)
            else:
                tokens, draw = given.T.to(self._device, torch.int32).contiguous(), None
            within = torch.from_numpy((lengths - start).clip(0, n_steps).astype(np.int32)).to(self._device)
            recurrence.advance(tokens, within, self._captured(states), draw, start)
            piece = Piece(
                first, start, np.empty(0), states, before, tuple(each.clone() for each in self._state(recurrence))
            )
        if self._copying is None:
            return self._underway(piece, tokens, None)
        return self._copy(piece, tokens, place)

    def _underway(self, piece: Piece, tokens: Tensor, done: torch.cuda.Event | None) -> _Underway:
        return _Underway(piece, tokens, done, self._lengths, self._trained.model.n_characters)

    def _state(self, recurrence: FusedRecurrence) -> tuple[Tensor, ...]:
        """The states after the last step where they are: h of every layer, then c, [n, H] each."""
        cells = map(recurrence.c, range(self._n_layers)) if recurrence.cells is not None else ()
        return (*map(recurrence.h, range(self._n_layers)), *cells)

    def _copy(self, piece: Piece, tokens: Tensor, place: int) -> _Underway:
        """Bring the tokens, and the states if they are asked for, to the host in a stream of their own."""
        assert self._copying is not None
        computed = torch.cuda.current_stream(self._device).record_event()
        states = piece.states
        with torch.cuda.stream(self._copying):
            self._copying.wait_event(computed)
            host_tokens = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            host_tokens.copy_(tokens, non_blocking=True)
            tokens.record_stream(self._copying)
            if self._to_host:
                states = self._memory(self._pinned[place], len(tokens), tokens.shape[1], True)
                for name, values in piece.states.items():
                    states[name].copy_(values, non_blocking=True)
            done = self._copying.record_event()
        self._copied[place] = done
        return self._underway(replace(piece, states=states), host_tokens, done)

    def _memory(self, buffer: dict[str, Tensor], n: int, n_steps: int, pinned: bool) -> dict[str, Tensor]:
        """Return memory [n, n_steps, width] for each array, made when it is first asked for."""
        for name, width in self._arrays.items():
            if name not in buffer or len(buffer[name]) < n * n_steps:
                device = "cpu" if pinned else self._device
                buffer[name] = torch.empty(n * n_steps, width, dtype=self._dtype, device=device, pin_memory=pinned)
        return {name: values[: n * n_steps].view(n, n_steps, -1) for name, values in buffer.items()}

    def _warmed(self, numbers: np.ndarray) -> FusedRecurrence:
        """Return the recurrence of these sequences after what they read before they are recorded."""
        recurrence = self._cleared(len(numbers))
        ids = self._reader.warm_up(numbers).T.to(self._device, torch.int32).contiguous()
        if ids.shape[1]:
            lengths = torch.full((len(ids),), ids.shape[1], dtype=torch.int32, device=self._device)
            recurrence.advance(ids, lengths, self._captured({}))
        return recurrence

    def _cleared(self, n: int) -> FusedRecurrence:
        """Return a recurrence of n sequences in the zero state."""
        # Triton is asked for where it is needed only: it is not everywhere.
        from gatescope.kernels.plan import device_of
        from gatescope.kernels.sample_fused import FusedRecurrence, spread

        if self._recurrence is None or self._recurrence.n_rows != n:
            architecture, (layers, vectors) = self._trained.model.architecture, weights_of(self._trained)
            output = self._trained.model.output
            self._recurrence = FusedRecurrence(
                architecture.cell,
                layers,
                vectors,
                (output.weight.detach(), output.bias.detach()),
                n,
                architecture.reset_after,
                architecture.nonlinearity,
                spread(self._layout, architecture.cell, architecture.reset_after, n, device_of(output.weight)),
            )
        self._recurrence.clear()
        return self._recurrence

    @property
    def _n_layers(self) -> int:
        return self._trained.model.architecture.layers

    def _captured(self, states: dict[str, Tensor]) -> Captured:
        """Name the kernel's places of arrays such as layer0/c, layer1/gates/f or layer2/entropy."""
        from gatescope.kernels.sample_fused import PLACES, Captured

        places: list[Tensor | None] = [None] * (PLACES * self._n_layers)
        scores: dict[str, Tensor] = {}
        for name, values in states.items():
            layer, state, *gate = name.removeprefix("layer").split("/")
            if state in SCORES:
                scores[state] = values
            else:
                places[PLACES * int(layer) + (2 + GATE_PLACES[gate[0]] if gate else "hc".index(state))] = values
        return Captured(tuple(places), **scores)

    def _live(self, recurrence: FusedRecurrence, name: str) -> Tensor:
        """Return the state [n, H] after the last step behind an array such as layer0/c, float32."""
        layer, state = name.removeprefix("layer").split("/")
        return getattr(recurrence, state)(int(layer)).float().clone()
