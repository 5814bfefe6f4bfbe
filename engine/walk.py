"""Walking a model over sequences, tile by tile on as many threads as there are cores, in pieces of bounded size.

Sequence s always runs in row s mod TILE of tile s // TILE (`gatescope.kernels.sample`), and its text and states are the
same whatever runs beside it. Where there are fewer tiles than cores, several threads share the rows of each. Tiles that
run side by side make a round of pieces together. The states of a piece are delivered by the thread that computed them
(another would wait for a core, and for the interpreter's lock at every file), and the rest leaves in the order of the
sequences while the next rounds are computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.journey import Buffers, Deliver, Journey, Piece
from gatescope.engine.resume_points import ResumePoint
from gatescope.engine.tile_walker import STEPS, TileWalker
from gatescope.kernels.host import empty
from gatescope.kernels.sample import TILE

# States of the pieces of all threads. Where whole sequences fit, a dump's blocks come at once, and need not be read
# again to be sealed.
PIECE_BYTES = 512 << 20
MOST_STEPS = 16_384  # of a piece, so that the first of a long text comes out soon


def walk(
    journey: Journey,
    *,
    first: int = 0,
    begun: Sequence[ResumePoint] = (),
    buffers: Buffers | None = None,
    deliver: Deliver | None = None,
) -> Generator[Piece, None, None]:
    """Compute sequences and yield their pieces; within a tile in the order of steps, and tiles of a round in turn.

    Args:
        journey: the sequences, and what is kept of them.
        first: the sequence to begin with, a multiple of TILE.
        begun: tiles that are not to begin at their first step.
        buffers: where states go, by first sequence, number of sequences, first step and step after the last: tensors
            [S, T, H] by name. Without them states are delivered.
        deliver: takes the states of a piece from memory that is used again; called by the thread that computed them.

    Yields:
        Pieces; those of a sequence that is shorter than the longest of its tile hold rows after its end.
    """
    n_threads = torch.get_num_threads()
    tiles = _Tiles(journey, first // TILE, begun, buffers, deliver)
    try:
        with ExitStack() as stack:
            # A thread of its own for each of them: none waits until all have finished a round.
            threads = [ThreadPoolExecutor(1, "walk") for _ in range(tiles.side_by_side)]
            for thread in threads:
                stack.callback(thread.shutdown)
            # All of them are told to stop before any is waited for.
            for thread in threads:
                stack.callback(thread.shutdown, wait=False, cancel_futures=True)
            ahead: deque[list[Future[Piece]]] = deque()
            for starts in tiles.rounds():
                ahead.append(tiles.submit(threads, starts))
                if len(ahead) > 2:
                    yield from (each.result() for each in ahead.popleft())
            yield from (each.result() for each in chain.from_iterable(ahead))
    finally:
        # New threads begin with the number that was set last, wherever that was.
        torch.set_num_threads(n_threads)


class _Tiles:
    """The tiles of a walk, as many side by side as there are threads."""

    def __init__(
        self,
        journey: Journey,
        first: int,
        begun: Sequence[ResumePoint],
        buffers: Buffers | None,
        deliver: Deliver | None,
    ):
        self._journey, self._buffers, self._deliver = journey, buffers, deliver
        self._range = range(first, -(-len(journey.lengths) // TILE))
        on_gpu = journey.trained.model.output.weight.is_cuda  # of a model that the sampler's kernel does not take
        self.side_by_side = max(1, min(1 if on_gpu else torch.get_num_threads(), len(self._range)))
        row_bytes = TILE * sum(journey.arrays.values()) * journey.dtype.itemsize
        fit = PIECE_BYTES // self.side_by_side // row_bytes // STEPS * STEPS
        self._size = min(max(STEPS, fit), MOST_STEPS)
        # As even as it comes, those that are one more for the first tiles: the last may have few rows.
        n_threads = self.side_by_side if on_gpu else max(self.side_by_side, torch.get_num_threads())
        shares = [len(range(place, n_threads, self.side_by_side)) for place in range(self.side_by_side)]
        self._walkers = [TileWalker(journey, n) for n in shares]
        self._reused: list[dict[str, Tensor]] = [{} for _ in range(self.side_by_side)]
        self._points = {point.first // TILE: point for point in begun}

    def rounds(self) -> Iterator[dict[int, int]]:
        """Yield the tiles of each round, with the step at which their pieces begin."""
        steps = {tile: point.step for tile, point in self._points.items()}
        return _rounds(self._journey.lengths, steps, self._range, self.side_by_side, self._size)

    def submit(self, threads: Sequence[ThreadPoolExecutor], starts: dict[int, int]) -> list[Future[Piece]]:
        """Let the threads compute the pieces of a round after those that they have yet to compute."""
        return [threads[self._place(tile)].submit(self._piece, tile, start) for tile, start in starts.items()]

    def _place(self, tile: int) -> int:
        """Which of the tiles that run side by side it is."""
        return (tile - self._range.start) % self.side_by_side

    def _piece(self, tile: int, start: int) -> Piece:
        first, lengths = tile * TILE, self._journey.lengths[tile * TILE : (tile + 1) * TILE]
        n, stop = len(lengths), min(start + self._size, int(lengths.max()))
        states = (self._buffers or self._memory)(first, n, start, stop)
        point = self._points.get(tile)
        state = point.state if point and point.step == start else ()
        piece = self._walkers[self._place(tile)].piece(first, n, start, stop, states, state)
        if self._deliver:
            self._deliver(piece)
        return piece

    def _memory(self, first: int, n: int, start: int, stop: int) -> dict[str, Tensor]:
        """Return memory of the tile's thread, made when it is first asked for."""
        buffer, n_steps = self._reused[self._place(first // TILE)], stop - start
        for name, width in self._journey.arrays.items():
            if name not in buffer or len(buffer[name]) < n * n_steps:
                buffer[name] = empty(self._journey.dtype, torch.device("cpu"), n * n_steps, width)
        return {name: values[: n * n_steps].view(n, n_steps, -1) for name, values in buffer.items()}


def _rounds(
    lengths: np.ndarray, begun: Mapping[int, int], tiles: range, abreast: int, size: int
) -> Iterator[dict[int, int]]:
    """Yield the tiles of each round, with the step at which their pieces begin."""
    for low in tiles[::abreast]:
        starts = {
            tile: range(begun.get(tile, 0), int(lengths[tile * TILE : (tile + 1) * TILE].max()), size)
            for tile in range(low, min(low + abreast, tiles.stop))
        }
        for turn in range(max(map(len, starts.values()))):
            yield {tile: each[turn] for tile, each in starts.items() if turn < len(each)}
