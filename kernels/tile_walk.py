"""A tile of sequences on its way through a stacked LSTM or GRU that reads characters, on the CPU.

It works in the buffers of `gatescope.kernels.sample.Recurrence`, a layer in one call for all steps that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gatescope.kernels.gru_host import gru_walk, recurrent_panels
from gatescope.kernels.host import array, flat
from gatescope.kernels.lstm_host import NO_TOKENS, lstm_walk
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
    ):
        below, begin, recurrent = ([array(each) for each in part] for part in (w_ih, starts, w_hh))
        self._walk = lstm_walk if biases is None else gru_walk
        self._options = () if biases is None else (reset_after,)
        own: list[tuple[Any, ...]]
        if biases is None:
            own = [(packed(weight), start) for weight, start in zip(recurrent, begin, strict=True)]
        else:
            parts = zip(recurrent, begin, biases, strict=True)
            own = [(*recurrent_panels(weight), start, array(bias)) for weight, start, bias in parts]
        self._given = [(packed(weight), *rest) for weight, rest in zip(below, own, strict=True)]
        self._states = [[array(state) for state in each] for each in zip(*states, strict=True)]
        self._kept = [[array(steps).reshape(len(steps), -1) for steps in each] for each in zip(*kept, strict=True)]
        self._height, self._hidden = states[0][0].shape

    def __call__(self, first: int, tokens: Tensor) -> None:
        """Read characters, int64 [T, TILE], and keep their steps from the first on."""
        n_steps, ids, no_reset = len(tokens), flat(tokens), flat(None)
        x, width = self._states[0][0].reshape(-1)[:0], 0
        for given, states, kept in zip(self._given, self._states, self._kept, strict=True):
            outputs = [steps[first : first + n_steps].reshape(-1) for steps in kept]
            sizes = n_steps, self._height, 0, width
            self._walk(x, *given, ids, no_reset, *states, *outputs, *sizes, *self._options)
            x, width, ids = outputs[1], self._hidden, NO_TOKENS
