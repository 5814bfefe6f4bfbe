"""Pieces of sequences that the sampler's kernel computes side by side, for `gatescope.engine.walk_fused`.

On a GPU a piece's states are copied to pinned memory in a stream of their own, while the next piece is computed, on
either side. Nothing that is done to begin a piece waits for the one before.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.array_name import layer_and_state
from gatescope.engine.device_memory import sent
from gatescope.engine.finite import require_characters, require_finite
from gatescope.engine.journey import GATE_PLACES, SCORES, Buffers, Deliver, Journey, Piece, weights_of
from gatescope.engine.trained_model import TrainedModel

if TYPE_CHECKING:
    from gatescope.kernels.sample_fused import Captured, FusedRecurrence
    from gatescope.kernels.sample_plan import ModelShape, SamplePlan


def shape_of(trained: TrainedModel) -> ModelShape:
    """Return what the plan of the sampler's kernel knows of a model."""
    from gatescope.kernels import sample_plan

    model, its = trained.model, trained.model.architecture
    itemsize = model.output.weight.itemsize
    return sample_plan.ModelShape(its.cell, its.hidden, its.layers, model.n_characters, itemsize, its.reset_after)


@dataclass(frozen=True, eq=False)
class Underway:
    """A piece that is being computed, or copied."""

    unread: Piece  # without its tokens
    tokens: Tensor  # int32 [S, T], on the host
    total: Tensor  # on the host, a number; if it is finite, so are all states
    done: torch.cuda.Event | None  # when all of it is there
    journey: Journey  # of which it is a part

    def piece(self, deliver: Deliver | None) -> Piece:
        """Wait for it, refuse what is not finite, and deliver it."""
        if self.done is not None:
            self.done.synchronize()
        piece = replace(self.unread, tokens=self.tokens.numpy())
        with torch.inference_mode():
            # An id drawn from states that are not finite may be no character.
            if not math.isfinite(float(self.total)) or piece.tokens.min() < 0:
                for name, values in piece.states.items():
                    require_finite(name, piece.first, piece.start, values, values, self.journey.lengths)
        require_characters(piece.tokens, self.journey.trained.model.n_characters, piece.first, piece.start)
        if deliver:
            deliver(piece)
        return piece


def _host_copy(values: Tensor, stream: torch.cuda.Stream) -> Tensor:
    """Begin a copy to the host in a stream, the current one."""
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    there.copy_(values, non_blocking=True)
    values.record_stream(stream)
    return there


class FusedPieces:
    """Computes pieces of the sequences that run side by side, one after another."""

    def __init__(self, journey: Journey, layout: SamplePlan, to_host: bool):
        self._journey, self._layout, self._to_host = journey, layout, to_host
        self._recurrence: FusedRecurrence | None = None
        self._steps = 0.0  # since the zero state, at most
        self._device = journey.trained.model.output.weight.device
        # The lengths of the sequences, for the kernel.
        self._ends = torch.from_numpy(journey.lengths).to(self._device, torch.int32)
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
    ) -> Underway:
        """Begin to compute the steps start to stop of the sequences first to behind, after warming them up at step 0.

        Args:
            state: after the step before `start`, where that was not computed here.
        """
        n, n_steps = behind - first, stop - start
        numbers = np.arange(first, behind)
        with torch.inference_mode():
            recurrence = self._warmed(numbers) if start == 0 else self._recurrence
            if state:
                recurrence = self._cleared(n)
                live = (each for states in self._state(recurrence) for each in states)
                for each, saved in zip(live, state, strict=True):
                    each.copy_(saved)
                # How many steps were taken before is not known.
                self._steps = math.inf
            assert recurrence is not None
            before = self._before(recurrence) if start == 0 else {}
            copied = self._copied[place]
            if copied is not None:
                torch.cuda.current_stream(self._device).wait_event(copied)
            states = buffers(first, n, start, stop) if buffers else self._memory(self._reused[place], n, n_steps, False)
            given = self._journey.reader.characters(numbers, start, stop)
            if given is None:
                tokens = torch.zeros(n, n_steps, dtype=torch.int32, device=self._device)
                draw = self._journey.reader.draw(first)
            else:
                tokens, draw = self._moved(given), None
            within = (self._ends[first:behind] - start).clamp_(0, n_steps)
            recurrence.advance(tokens, within, self._captured(states), draw, start)
            self._steps += n_steps
            kept = tuple(state for each in self._state(recurrence) for state in each.clone())
            piece = Piece(first, start, np.empty(0), states, before, kept)
            # With NaN or infinity in it no sum is finite.
            sums = (each.sum(dtype=torch.float64) for each in self._witnesses(recurrence, states))
            total, done = functools.reduce(torch.add, sums), None
        if self._copying is not None:
            piece, tokens, total, done = self._on_host(piece, tokens, total, self._copying, place)
        return Underway(piece, tokens, total, done, self._journey)

    def _state(self, recurrence: FusedRecurrence) -> list[Tensor]:
        """The states after the last step where they are: h, and c of an lstm, [L, n, H] each."""
        return [recurrence.h, *([] if recurrence.cells is None else [recurrence.c])]

    def _witnesses(self, recurrence: FusedRecurrence, states: dict[str, Tensor]) -> list[Tensor]:
        """Return small arrays of which one is not finite if a captured state is not, unless a token is none.

        A NaN in a step is one in its h, and then there is one in each later h of that layer, until no character can be
        drawn. But for a ReLU |h| is at most 1, and |c| grows by at most 1 a step. So the states after the last step
        say it of all, as long as c cannot have left the range of the dtype that is kept. A tile that ends before the
        others has its last h in either of the kernel's two places.
        """
        architecture = self._journey.trained.model.architecture
        relu = architecture.cell == "rnn" and architecture.nonlinearity == "relu"
        if relu or self._steps >= torch.finfo(self._journey.dtype).max:
            # Both are NaN if there is one; and nothing as large as the values is made on the way.
            return [torch.stack(torch.aminmax(values)) for values in states.values()]
        scores = [values for name, values in states.items() if name.endswith(SCORES)]
        n_rows = recurrence.n_rows
        cells = [] if recurrence.cells is None else [recurrence.cells[:, :n_rows]]
        return [*scores, recurrence.states[:, :, :n_rows], *cells]

    def _on_host(
        self, piece: Piece, tokens: Tensor, total: Tensor, stream: torch.cuda.Stream, place: int
    ) -> tuple[Piece, Tensor, Tensor, torch.cuda.Event]:
        """Bring what is small to the host in a stream of its own, and all states if they are asked for."""
        stream.wait_event(torch.cuda.current_stream(self._device).record_event())
        states, initial = piece.states, piece.initial
        with torch.cuda.stream(stream):
            tokens_there, total_there = (_host_copy(values, stream) for values in (tokens, total))
            if self._to_host:
                initial = {name: _host_copy(values, stream) for name, values in initial.items()}
                states = self._memory(self._pinned[place], len(tokens), tokens.shape[1], True)
                for name, values in piece.states.items():
                    states[name].copy_(values, non_blocking=True)
            done = self._copied[place] = stream.record_event()
        return replace(piece, states=states, initial=initial), tokens_there, total_there, done

    def _memory(self, buffer: dict[str, Tensor], n: int, n_steps: int, pinned: bool) -> dict[str, Tensor]:
        """Return memory [n, n_steps, width] for each array, made when it is first asked for."""
        for name, width in self._journey.arrays.items():
            if name not in buffer or len(buffer[name]) < n * n_steps:
                shape, device = (n * n_steps, width), "cpu" if pinned else self._device
                # Nothing is written after a sequence's end: a NaN left there would look like one of the kernel's.
                make = torch.empty if pinned else torch.zeros
                buffer[name] = make(shape, dtype=self._journey.dtype, device=device, pin_memory=pinned)
        return {name: values[: n * n_steps].view(n, n_steps, -1) for name, values in buffer.items()}

    def _warmed(self, numbers: np.ndarray) -> FusedRecurrence:
        """Return the recurrence of these sequences after what they read before they are recorded."""
        recurrence = self._cleared(len(numbers))
        self._steps = 0
        for ids in map(self._moved, self._journey.reader.warm_up(numbers)):
            n_rows, n_steps = ids.shape
            if n_steps:
                lengths = torch.full((n_rows,), n_steps, dtype=torch.int32, device=self._device)
                recurrence.advance(ids, lengths, self._captured({}))
            self._steps += n_steps
        return recurrence

    def _moved(self, ids: Tensor) -> Tensor:
        """Bring ids [T, S] to the device, int32 [S, T]."""
        return sent(ids.T.to(torch.int32).contiguous(), self._device)

    def _cleared(self, n: int) -> FusedRecurrence:
        """Return a recurrence of n sequences in the zero state."""
        # Triton is asked for where it is needed only: it is not everywhere.
        from gatescope.kernels.gpu import device_of
        from gatescope.kernels.sample_fused import FusedRecurrence
        from gatescope.kernels.sample_plan import fitted

        if self._recurrence is None or self._recurrence.n_rows != n:
            trained = self._journey.trained
            architecture, output = trained.model.architecture, trained.model.output
            layers, vectors = weights_of(trained)
            scores = sum(name.endswith(SCORES) for name in self._journey.arrays)
            kept = max(Counter(layer_and_state(name)[0] for name in self._journey.arrays).values()) + scores
            self._recurrence = FusedRecurrence(
                architecture.cell,
                layers,
                vectors,
                (output.weight.detach(), output.bias.detach()),
                n,
                architecture.reset_after,
                architecture.nonlinearity,
                fitted(self._layout, shape_of(trained), n, device_of(output.weight), kept),
            )
        else:
            self._recurrence.clear()
        return self._recurrence

    def _captured(self, states: dict[str, Tensor]) -> Captured:
        """Name the kernel's places of arrays such as layer0/c, layer1/gates/f or layer2/entropy."""
        from gatescope.kernels.sample_fused import PLACES, Captured

        places: list[Tensor | None] = [None] * (PLACES * self._journey.trained.model.architecture.layers)
        scores: dict[str, Tensor] = {}
        for name, values in states.items():
            layer, state = layer_and_state(name)
            if state in SCORES:
                scores[state] = values
            else:
                gate = state.removeprefix("gates/")
                places[PLACES * layer + ("hc".index(state) if gate == state else 2 + GATE_PLACES[gate])] = values
        return Captured(tuple(places), **scores)

    def _before(self, recurrence: FusedRecurrence) -> dict[str, Tensor]:
        """Return the states [n, H] after the last step, for arrays such as layer0/c, float32."""
        places = {name: layer_and_state(name) for name in self._journey.initial}
        states = {state for _, state in places.values()}
        copies = {state: getattr(recurrence, state).to(torch.float32, copy=True) for state in states}
        return {name: copies[state][layer] for name, (layer, state) in places.items()}
