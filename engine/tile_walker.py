"""One tile of sequences on its way through a model, with the states and scores that are kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.array_name import layer_and_state
from gatescope.engine.finite import is_finite, require_characters, require_finite
from gatescope.engine.journey import GATE_PLACES, SCORES, Journey, Piece, weights_of
from gatescope.engine.trained_model import TrainedModel
from gatescope.kernels.host import by_shares
from gatescope.kernels.sample import TILE, Recurrence

# Steps that are computed in float32 before they are rounded into a piece: few enough to stay in the cache.
STEPS = 32


class TileWalker:
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
            states: take what is kept, [n, stop - start, H] by name.
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
