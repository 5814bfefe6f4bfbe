"""A tile of sequences on its way through a stacked LSTM or GRU that reads or draws characters, on the CPU.

It works in the buffers of `gatescope.kernels.sample.Recurrence`: a layer in one call for all steps that are read, all
layers and the choice of each character in one call for all steps that are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba.extending import register_jitable
from torch import Tensor

from gatescope.kernels.choice_host import choose_rows
from gatescope.kernels.gru_host import gru_walk, recurrent_panels
from gatescope.kernels.host import NO_TOKENS, array, compiled, flat
from gatescope.kernels.lstm_host import lstm_walk
from gatescope.kernels.panels import add_product, packed, padded_width
from gatescope.kernels.steps_host import fill_row


class TileWalk:
    """Moves the states of a tile.

    Args:
        w_ih, w_hh: of each layer, [I, G*H] and [H, G*H]; the first W_ih is not read.
        starts: of each layer, what a step's input product begins with: [V, G*H] of the characters, [1, G*H] above.
        biases: of each layer's recurrent product, [3H], of a GRU; None of an LSTM, whose starts have them.
        states: h, and c, of each layer [TILE, H], moved in place.
        kept: gates [steps, TILE, 4H], a GRU's with p before them, h and c of each layer, where the steps are written.
        reset_after: of a GRU.
        output: W' [H, V] and bias [V] of what characters are drawn from, if any are.
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
        self._walk, self._draw = (lstm_walk, _lstm_draw) if biases is None else (gru_walk, _gru_draw)
        self._options = () if biases is None else (reset_after,)
        self._output = None if output is None else (packed(array(output[0])), array(output[1]))
        own: list[tuple[Any, ...]]
        if biases is None:
            own = [(packed(weight), start) for weight, start in zip(recurrent, begin, strict=True)]
        else:
            parts = zip(recurrent, begin, biases, strict=True)
            own = [(*recurrent_panels(weight), start, array(bias)) for weight, start, bias in parts]
        self._given = [(packed(weight), *rest) for weight, rest in zip(below, own, strict=True)]
        # Tensors, which a copy of the whole shares with those that the recurrence has, as arrays would not.
        self._states, self._kept = list(zip(*states, strict=True)), list(zip(*kept, strict=True))
        self._n_characters = len(begin[0])

    def __call__(self, first: int, tokens: Tensor) -> None:
        """Read characters, int64 [T, TILE], and keep their steps from the first on.

        Raises:
            IndexError: an id that is no character's, or more rows or steps than there is room for.
        """
        h = self._states[0][0]
        (n_steps, n_rows), n_kept = tokens.shape, len(self._kept[0][0])
        # Compiled loops look at no bounds.
        if n_rows != len(h) or first + n_steps > n_kept:
            raise IndexError(f"tokens {[n_steps, n_rows]}: expected at most {[n_kept - first, len(h)]}, all rows")
        if n_steps and not 0 <= int(tokens.min()) <= int(tokens.max()) < self._n_characters:
            raise IndexError(f"tokens: expected ids from 0 to {self._n_characters - 1}, got {tokens.unique().tolist()}")
        ids, no_reset, x, width = flat(tokens), flat(None), flat(None, h), 0
        for given, states, kept in zip(self._given, self._states, self._kept, strict=True):
            live, outputs = map(array, states), [flat(steps[first : first + n_steps]) for steps in kept]
            self._walk(x, *given, ids, no_reset, *live, *outputs, n_steps, n_rows, 0, width, *self._options)
            x, width, ids = outputs[1], h.shape[1], NO_TOKENS

    def draw(self, uniform: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
        """Draw characters by `gatescope.kernels.choice.choose` and read them, keeping their steps from step 0 on.

        Args:
            uniform: random numbers, float64 [T, TILE].
            temperature, top_k, top_p: see `choose`.

        Returns:
            ids int64 [T, TILE]; V, which is none, where logits are NaN or infinite.
        """
        assert self._output is not None
        n_steps, n_rows = uniform.shape
        # Compiled loops look at no bounds.
        if n_rows != len(self._states[0][0]) or n_steps > len(self._kept[0][0]):
            raise IndexError(f"random numbers {[n_steps, n_rows]}: expected those of all rows, and of steps to be kept")
        layers = tuple(
            (given, tuple(map(array, states)), tuple(map(flat, kept)))
            for given, states, kept in zip(self._given, self._states, self._kept, strict=True)
        )
        how = self._output[1].dtype.type(temperature), top_k, top_p
        ids = np.empty(n_steps * n_rows, np.int64)
        self._draw(layers, self._output, how, flat(uniform), NO_TOKENS, flat(None), ids, *self._options)
        return torch.from_numpy(ids).view(n_steps, n_rows)


@register_jitable
def _drawn(h: Any, output: Any, how: Any, uniform: Any, ids: Any, read: Any) -> None:
    """Draw the characters of a step from the topmost states.

    Args:
        h: [n, H].
        output: W' [H, V] in panels, and the bias [V].
        how: temperature, top_k and top_p.
        uniform: random numbers [n].
        ids: [n], what is drawn; V, which is none, where logits are NaN or infinite.
        read: [n], the same but for what is none.
    """
    weight, bias = output
    (n_rows, hidden), n_characters = h.shape, len(bias)
    logits = np.zeros((n_rows, padded_width(n_characters, bias.itemsize)), bias.dtype)
    for row in range(n_rows):
        fill_row(logits[row, :n_characters], bias)
    add_product(h.reshape(-1), hidden, n_rows, hidden, weight, logits)
    choose_rows(logits, n_characters, uniform, *how, ids)
    for row in range(n_rows):
        read[row] = min(ids[row], n_characters - 1)


# Of each layer: what a walk is given before the characters, its states, and where its steps are kept.
@compiled
def _lstm_draw(layers: Any, output: Any, how: Any, uniform: Any, no_tokens: Any, no_reset: Any, ids: Any) -> None:
    nothing, read, h = np.empty(0, output[1].dtype), np.empty_like(ids), layers[-1][1][0]
    n_rows, hidden = h.shape
    for first in range(0, len(ids), n_rows):
        last = first + n_rows
        _drawn(h, output, how, uniform[first:last], ids[first:last], read[first:last])
        x, width, tokens = nothing, 0, read
        for given, states, kept in layers:
            lstm_walk(x, *given, tokens, no_reset, *states, *kept, 1, n_rows, first, width)
            x, width, tokens = kept[1], hidden, no_tokens


@compiled
def _gru_draw(
    layers: Any, output: Any, how: Any, uniform: Any, no_tokens: Any, no_reset: Any, ids: Any, reset_after: bool
) -> None:
    nothing, read, h = np.empty(0, output[1].dtype), np.empty_like(ids), layers[-1][1][0]
    n_rows, hidden = h.shape
    for first in range(0, len(ids), n_rows):
        last = first + n_rows
        _drawn(h, output, how, uniform[first:last], ids[first:last], read[first:last])
        x, width, tokens = nothing, 0, read
        for given, states, kept in layers:
            gru_walk(x, *given, tokens, no_reset, *states, *kept, 1, n_rows, first, width, reset_after)
            x, width, tokens = kept[1], hidden, no_tokens
