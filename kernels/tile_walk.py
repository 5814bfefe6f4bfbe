"""A tile of sequences on its way through a stacked LSTM or GRU that reads or draws characters, on the CPU.

It works in the buffers of `gatescope.kernels.sample.Recurrence`, a layer in one call for all steps that are read. Steps
that are drawn take a call for each layer and a few for the choice: what they are given is made ready once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.kernels.choice import bounded, keep_likely
from gatescope.kernels.choice_host import pick_rows, weigh_rows
from gatescope.kernels.gru_host import gru_walk, recurrent_panels
from gatescope.kernels.host import NO_TOKENS, array, flat
from gatescope.kernels.lstm_host import lstm_walk
from gatescope.kernels.panels import packed


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
        self._walk = lstm_walk if biases is None else gru_walk
        self._options = () if biases is None else (reset_after,)
        self._output = output
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
            ids int64 [T, TILE]; V, which is none, where a logit is NaN or infinity, or all are -infinity.
        """
        assert self._output is not None
        n_steps, n_rows = uniform.shape
        # Compiled loops look at no bounds.
        if n_rows != len(self._states[0][0]) or n_steps > len(self._kept[0][0]):
            raise IndexError(f"random numbers {[n_steps, n_rows]}: expected those of all rows, and of steps to be kept")
        weight, bias = self._output
        walks, ids, read = [], torch.empty(uniform.shape, dtype=torch.int64), np.empty(n_steps * n_rows, np.int64)
        x, width, tokens = flat(None, bias), 0, read
        for given, states, kept in zip(self._given, self._states, self._kept, strict=True):
            outputs = [flat(steps) for steps in kept]
            walks.append(((x, *given, tokens, flat(None), *map(array, states), *outputs), width))
            x, width, tokens = outputs[1], states[0].shape[1], NO_TOKENS
        h, logits = self._states[-1][0], bias.new_empty(n_rows, len(bias))
        weights = torch.empty_like(logits)
        of_logits, of_weights, numbers, drawn = map(array, (logits, weights, uniform, ids))
        degree = of_logits.dtype.type(bounded(temperature))
        for t in range(n_steps):
            torch.addmm(bias, h, weight, out=logits)
            weigh_rows(of_logits, degree, of_weights)
            pick_rows(array(keep_likely(weights, top_k, top_p)), numbers[t], drawn[t])
            # Where none could be drawn, whoever asked refuses all of them.
            np.minimum(drawn[t], len(bias) - 1, out=read[t * n_rows : (t + 1) * n_rows])
            for arguments, width in walks:
                self._walk(*arguments, 1, n_rows, t * n_rows, width, *self._options)
        return ids
