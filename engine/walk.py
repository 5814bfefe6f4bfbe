"""Walking a model over sequences, tile by tile on as many threads as there are cores, in pieces of bounded size.

Sequence s always runs in row s mod TILE of tile s // TILE (`gatescope.kernels.sample`), and its text and states are the
same whatever runs beside it. Where there are fewer tiles than cores, several threads share the rows of each. Tiles that
run side by side make a round of pieces together. The states of a piece are delivered by the thread that computed them
(another would wait for a core, and for the interpreter's lock at every file), and the rest leaves in the order of the
sequences while the next rounds are computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.array_name import layer_and_state
from gatescope.engine.finite import is_finite, require_characters, require_finite
from gatescope.engine.journey import GATE_PLACES, SCORES, Buffers, Deliver, Journey, Piece, weights_of
from gatescope.engine.resume_points import ResumePoint
from gatescope.engine.trained_model import TrainedModel
from gatescope.kernels.host import by_shares, empty
from gatescope.kernels.sample import TILE, Recurrence

# Steps that are computed in float32 before they are rounded into a piece: few enough to stay in the cache.
STEPS = 32
# States of the pieces of all threads. Where whole sequences fit, a dump's blocks come at once, and need not be read
# again to be sealed.
PIECE_BYTES = 512 << 20
MOST_STEPS = 16_384  # of a piece, so that the first of a long text comes out soon


class _Walker:
    """A tile on its way, and the threads that share its rows where there are more of them than tiles."""

    def __init__(self, journey: Journey, n_threads: int):
        self._journey, self._recurrence = journey, recurrence_of(journey.trained, STEPS)
        self._n_threads = n_threads
        self._round = _rounding(journey)
        self._scores = None
        if any(name.endswith(SCORES) for name in journey.arrays):
            self._scores = _Scores(journey.trained, self._recurrence)

    def piece(
        self, first: int, n: int, start: int, stop: int, states: dict[str, Tensor], state: tuple[Tensor, ...] = ()
    ) -> Piece:
        """Compute steps start to stop of the sequences first to first + n, after warming them up if start is 0.

        Args:
            state: after the step before `start`, where that was not computed here.
        """
        # Products of torch have one order of summation on one core.
        torch.set_num_threads(1)
        self._recurrence.use(n, self._n_threads)
        reader, n_characters = self._journey.reader, self._journey.trained.model.n_characters
        before: dict[str, Tensor] = {}
        with torch.inference_mode():
            numbers = np.arange(first, first + TILE)
            if start == 0:
                self._warm(reader.warm_up(numbers))
                before = {name: _live(self._recurrence, name)[:n].clone() for name in self._journey.initial}
            live = (*self._recurrence.h, *self._recurrence.c)
            for each, saved in zip(live, state, strict=bool(state)):
                each.copy_(saved)
            tokens = np.empty((n, stop - start), np.int64)
            for begin in range(start, stop, STEPS):
                end = min(begin + STEPS, stop)
                self._recurrence.rewind()
                if self._scores:
                    self._scores.begin()
                ids = reader.run(self._recurrence, numbers, begin, end)
                tokens[:, begin - start : end - start] = ids[:, :n].T.cpu().numpy()
                parts = {name: out[:, begin - start : end - start] for name, out in states.items()}
                self._keep(first, n, begin, end - begin, parts, ids)
                require_characters(tokens[:, begin - start : end - start], n_characters, first, begin)
            behind = tuple(each.clone() for each in (*self._recurrence.h, *self._recurrence.c))
        return Piece(first, start, tokens, states, before, behind)

    def _keep(self, first: int, n: int, begin: int, steps: int, out: dict[str, Tensor], ids: Tensor) -> None:
        """Round the kept steps into [n, steps, H] of the arrays, and refuse what is not finite there."""
        lengths, scores = self._journey.lengths, self._scores.of(ids) if self._scores else {}
        exact = {}
        for name in out:
            if name.endswith(SCORES):
                exact[name] = scores[layer_and_state(name)[1]][:, :n, None]
            else:
                width = self._journey.arrays[name]
                kept, place = _source(self._recurrence, name)
                exact[name] = kept[:steps, :n, place * width : (place + 1) * width]

        def share(low: int, high: int) -> list[str]:
            return [name for name in out if not self._round(exact[name][:, low:high], out[name][low:high])]

        doubtful = set(chain.from_iterable(by_shares(share, n, self._n_threads)))
        for name in filter(doubtful.__contains__, out):
            require_finite(name, first, begin, exact[name].transpose(0, 1), out[name], lengths)

    def _warm(self, pieces: Iterator[Tensor]) -> None:
        """Read the warm-up from the zero state; a row whose warm-up has not begun (-1) stays at zero."""
        self._recurrence.clear()
        for tokens in chain.from_iterable(piece.split(STEPS) for piece in pieces):
            # To the bit what steps leave, whatever other rows wait for.
            if self._recurrence.is_compiled and (tokens >= 0).all():
                self._recurrence.read(tokens)
                continue
            for column in tokens.to(self._recurrence.h[0].device):
                self._recurrence.step(column.clamp(min=0))
                waiting = column < 0
                if waiting.any():
                    self._recurrence.clear(waiting)


class _Scores:
    """The log-probability of each character of a tile, and the entropy, from the topmost states before it."""

    def __init__(self, trained: TrainedModel, recurrence: Recurrence):
        output = trained.model.output
        self._weight, self._bias = output.weight.detach().T, output.bias.detach()
        self._recurrence = recurrence
        self._before = torch.zeros_like(recurrence.kept_h[-1])

    def begin(self) -> None:
        """Remember the states before the first step."""
        self._before[0] = self._recurrence.h[-1]

    def of(self, ids: Tensor) -> dict[str, Tensor]:
        """Return the scores of characters [T, TILE] that were read since, in nats, [T, TILE] each."""
        # All steps, however many were read: a product of another height has other bits.
        self._before[1:] = self._recurrence.kept_h[-1][:-1]
        p = (self._before.flatten(0, 1) @ self._weight + self._bias).log_softmax(dim=1)
        entropy = -torch.special.xlogy(p.exp(), p.exp()).sum(dim=1)
        # Ids that are no characters are refused at the end.
        ids = ids.clamp(max=p.shape[1] - 1)
        chosen = p.view(STEPS, TILE, -1)[: len(ids)].gather(2, ids[..., None])[..., 0]
        return {"log_probability": chosen, "entropy": entropy.view(STEPS, TILE)[: len(ids)]}


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
        self._walkers = [_Walker(journey, n) for n in shares]
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


def recurrence_of(trained: TrainedModel, steps: int) -> Recurrence:
    """Return a tile of zero states that steps with the model's weights."""
    architecture, (layers, vectors) = trained.model.architecture, weights_of(trained)
    output = trained.model.output.weight.detach(), trained.model.output.bias.detach()
    options = architecture.reset_after, architecture.nonlinearity, steps, output
    return Recurrence(architecture.cell, layers, vectors, *options)


def _rounding(journey: Journey) -> Callable[[Tensor, Tensor], bool]:
    """Return what rounds kept steps [T, B, H] into [B, T, H] of the arrays, and says whether all are finite there."""
    weight = journey.trained.model.output.weight
    if weight.is_cpu:
        # Half a second, that of Numba, which a GPU does without.
        from gatescope.kernels.rounding_host import round_steps, rounds

        if rounds(weight.dtype, journey.dtype):
            return round_steps

    def copy(kept: Tensor, out: Tensor) -> bool:
        return is_finite(out.copy_(kept.transpose(0, 1)))

    return copy


def _source(recurrence: Recurrence, name: str) -> tuple[Tensor, int]:
    """Return what holds the kept steps of an array such as layer0/c or layer1/gates/f, and its place in there."""
    layer, state = layer_and_state(name)
    kind, _, gate = state.partition("/")
    kept = {"h": recurrence.kept_h, "c": recurrence.kept_c, "gates": recurrence.kept_gates}[kind][layer]
    return kept, GATE_PLACES[gate] if gate else 0


def _live(recurrence: Recurrence, name: str) -> Tensor:
    """Return the state [TILE, H] after the last step, for an array such as layer0/c."""
    layer, state = layer_and_state(name)
    return getattr(recurrence, state)[layer]
