"""A tile of sequences moved through a stacked LSTM or GRU that reads or draws characters, on the CPU.

It works in the buffers of `gatescope.kernels.sample.Recurrence`. To read, one call takes a layer through all steps; to
draw, one call takes all layers and the choice through all steps (`gatescope.kernels.draw_host`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.kernels.choice import bounded
from gatescope.kernels.draw_host import gru_draw, lstm_draw
from gatescope.kernels.gru_host import gru_walk, recurrent_panels
from gatescope.kernels.host import NO_TOKENS, array, by_shares, flat
from gatescope.kernels.lstm_host import lstm_walk
from gatescope.kernels.panels import packed, padded_width


class TileWalk:
    """Moves the states of a tile.

    Args:
        w_ih, w_hh: of each layer, [I, G*H] and [H, G*H]; the first W_ih is not read.
        starts: of each layer, the initial value of a step's input product: [V, G*H] by character in the first layer,
            [1, G*H] above.
        biases: of each layer's recurrent product, [3H], for a GRU; None for an LSTM, whose starts include them.
        states: h, and c, of each layer [TILE, H], moved in place.
        kept: gates [steps, TILE, 4H] (a GRU's preceded by p), h and c of each layer, to which the steps are written.
        reset_after: of a GRU.
        output: W' [H, V] and bias [V] of the layer that characters are drawn from, if any are.
    """

    def __init__(
        self,
        w_ih: Sequence[Tensor],
        w_hh: Sequence[Tensor],
        starts: Sequence[Tensor],
        biases: Sequence[Tensor] | None,
        states: Sequence[Sequence[Tensor]],
        kept: Sequence[Sequence[Tensor]],
        reset_after: bool,
        output: tuple[Tensor, Tensor] | None,
    ):
        below, begin, recurrent = ([array(each) for each in part] for part in (w_ih, starts, w_hh))
        below[0] = below[0][:0]
        self._walk, self._draw = (lstm_walk, lstm_draw) if biases is None else (gru_walk, gru_draw)
        self._options = () if biases is None else (reset_after,)
        # W' in panels, and the bias.
        self._output = output and (packed(array(output[0])), array(output[1]))
        own: list[tuple[Any, ...]]
        if biases is None:
            own = [(packed(weight), start) for weight, start in zip(recurrent, begin, strict=True)]
        else:
            parts = zip(recurrent, begin, biases, strict=True)
            own = [(*recurrent_panels(weight), start, array(bias)) for weight, start, bias in parts]
        self._given = [(packed(weight), *rest) for weight, rest in zip(below, own, strict=True)]
        # Tensors, which deepcopy keeps shared with those of the recurrence; arrays would not be.
        self._states, self._kept = list(zip(*states, strict=True)), list(zip(*kept, strict=True))
        self._n_characters = len(begin[0])
        self.use(len(self._states[0][0]), 1)

    def use(self, n_rows: int, n_threads: int) -> None:
        """Move only the first rows from now on, shared among at most so many threads; each row is moved by itself."""
        self._n_rows, self._n_threads = n_rows, n_threads

    def __call__(self, first: int, tokens: Tensor) -> None:
        """Read characters, int64 [T, TILE], and keep their steps from the first on.

        Raises:
            IndexError: for an id that is no character's, or more rows or steps than there is room for.
        """
        h = self._states[0][0]
        (n_steps, n_rows), n_kept = tokens.shape, len(self._kept[0][0])
        # Compiled loops do no bounds checks.
        if n_rows != len(h) or first + n_steps > n_kept:
            raise IndexError(f"tokens {[n_steps, n_rows]}: expected at most {[n_kept - first, len(h)]}, all rows")
        if n_steps and not 0 <= int(tokens.min()) <= int(tokens.max()) < self._n_characters:
            raise IndexError(f"tokens: expected ids from 0 to {self._n_characters - 1}, got {tokens.unique().tolist()}")
        no_reset, layers = flat(None), self._layers(flat(tokens), first, first + n_steps)

        def share(low: int, high: int) -> None:
            for *given, ids, states, outputs, width in layers:
                live = (state[low:high] for state in states)
                self._walk(*given, ids, no_reset, *live, *outputs, n_steps, n_rows, low, width, *self._options)

        by_shares(share, self._n_rows, self._n_threads)

    def draw(self, uniform: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
        """Draw characters by `gatescope.kernels.choice.choose` and read them, keeping their steps from step 0 on.

        Args:
            uniform: random numbers, float64 [T, TILE].
            temperature, top_k, top_p: see `choose`.

        Returns:
            ids int64 [T, TILE]; V, which is no character, if a logit is NaN or infinity, or all are -infinity; 0 in
            rows not in use.
        """
        assert self._output is not None
        n_steps, n_rows = uniform.shape
        # Compiled loops do no bounds checks.
        if n_rows != len(self._states[0][0]) or n_steps > len(self._kept[0][0]):
            raise IndexError(f"random numbers {[n_steps, n_rows]}: expected those of all rows, and of steps to be kept")
        weight, bias = self._output
        ids, read = torch.zeros(uniform.shape, dtype=torch.int64), np.zeros(n_steps * n_rows, np.int64)
        layers, numbers, no_reset = self._layers(read, 0, n_steps), (array(uniform), read, array(ids)), flat(None)
        choice = weight, bias, bias.dtype.type(bounded(temperature))
        cuts = (top_k, float(top_p)) if 0 < top_k < len(bias) or top_p < 1 else None

        def share(low: int, high: int) -> None:
            parts = tuple(
                (*given, ids, *(state[low:high] for state in states), *outputs, width)
                for *given, ids, states, outputs, width in layers
            )
            logits = np.zeros((high - low, padded_width(len(bias), bias.itemsize)), bias.dtype)
            room = logits, np.empty((high - low, len(bias)), bias.dtype)
            self._draw(parts, no_reset, choice, cuts, numbers, room, low, *self._options)

        by_shares(share, self._n_rows, self._n_threads)
        return ids

    def _layers(self, tokens: Any, start: int, stop: int) -> list[tuple[Any, ...]]:
        """Return the arguments of each layer's walk for the steps that are kept from `start` up to `stop`.

        These are x and the fixed arrays, the characters, the states, the kept arrays, and the width of x.
        """
        layers, x, width = [], flat(None, self._states[0][0]), 0
        for given, states, kept in zip(self._given, self._states, self._kept, strict=True):
            outputs = [flat(steps[start:stop]) for steps in kept]
            layers.append((x, *given, tokens, [array(state) for state in states], outputs, width))
            x, width, tokens = outputs[1], states[0].shape[1], NO_TOKENS
        return layers
