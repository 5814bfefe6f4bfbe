"""Stepping a stacked recurrent network one character at a time in torch's operators, keeping every state and gate.

This is the path on a CPU, and on a GPU if `gatescope.kernels.sample_fused`, which takes whole blocks of steps in one
launch, has no plan. Both draw by the rule of `gatescope.kernels.choice`. Their probabilities differ by rounding, so a
random number within that rounding of the border between two characters may choose differently: texts of a CPU and a GPU
agree up to that point.

A step works on a tile of TILE rows (sequences), in buffers allocated once. On a CPU the steps of an LSTM or a GRU are
one compiled walk, drawn characters included (`gatescope.kernels.tile_walk`): with an operator for every product and
gate, the threads of tiles would wait for the GIL. The walk moves each row by itself, in one order of summation. Only
rows in use are moved, and threads without a tile of their own share the rows of another (`Recurrence.use`). In torch's
operators a step takes all TILE rows: products of different heights would differ in their last bits. Either way the
states of a sequence do not depend on what runs beside it.

Equations and gate orders are those of `gatescope.kernels.lstm`, `.gru` and `.rnn`. The input product of the first layer
is a row of the table `E W_ih^T + b` [V, G*H], with the character vectors E, computed once. Per character and layer a
step reads W_hh (and W_ih above the first layer) once for the whole tile: 2 * G * H * (H + I) FLOP a row. Given
characters are read layer by layer; in torch's operators the input product is computed for many steps at once, which
leaves one product a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatescope.kernels.choice import Draw, choose
from gatescope.kernels.lstm_loop import activate
from gatescope.kernels.philox import uniform

TILE = 100  # rows: a fixed height of every product; two tiles are the 200 sequences that are sampled by default


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one step of one layer writes its values, as views made once."""

    gates: Tensor  # [TILE, G*H]
    parts: tuple[Tensor, ...]  # G of [TILE, H]
    h: Tensor  # [TILE, H]
    c: Tensor | None


class Recurrence:
    """The recurrent states of one tile of sequences, and the step that moves them.

    Args:
        cell: "lstm", "gru" or "rnn".
        layers: for each layer its weights as in torch.nn: w_ih [G*H, I], w_hh [G*H, H], b_ih, b_hh [G*H].
        vectors: the first layer's input for each character, [V, I]; None for one-hot characters.
        reset_after: for the gru.
        nonlinearity: for the rnn, "tanh" or "relu".
        steps: how many steps are kept before the first of them is overwritten.
        output: weight [V, H] and bias [V] of the layer that characters are drawn from, if any are.
    """

    def __init__(
        self,
        cell: str,
        layers: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]],
        vectors: Tensor | None = None,
        reset_after: bool = True,
        nonlinearity: str = "tanh",
        steps: int = 1,
        output: tuple[Tensor, Tensor] | None = None,
    ):
        # Not a bound method: an object that refers to itself would wait for the garbage collector, with its buffers.
        self._step_layer = {"lstm": Recurrence._lstm, "gru": Recurrence._gru, "rnn": Recurrence._rnn}[cell]
        self._reset_after = reset_after
        self._relu = nonlinearity == "relu"
        w_ih, w_hh = layers[0][:2]
        # The gru keeps b_hh separate, since the reset gate multiplies n's part of it; the others add both at once.
        self._input_bias = [layer[2] if cell == "gru" else layer[2] + layer[3] for layer in layers]
        self._hidden_bias = [layer[3] for layer in layers]
        table = w_ih.T if vectors is None else vectors @ w_ih.T
        self._table = (table + self._input_bias[0]).contiguous()  # [V, G*H]
        hidden, width = w_hh.shape[1], w_hh.shape[0]
        self.steps = steps
        below, recurrent = ([layer[k].T.contiguous() for layer in layers] for k in (0, 1))
        compiled = cell != "rnn" and w_hh.is_cpu and w_hh.dtype in (torch.float32, torch.float64)
        # A compiled GRU writes p, which is not used here, before r, z, n.
        wide = 4 * hidden if compiled else width
        buffers = [w_hh.new_zeros(steps, TILE, wide) for _ in layers]
        self.kept_gates = [buffer[:, :, wide - width :] for buffer in buffers]  # [steps, TILE, G*H] each
        self.kept_h = [w_hh.new_zeros(steps, TILE, hidden) for _ in layers]
        self.kept_c = [w_hh.new_zeros(steps, TILE, hidden) for _ in layers] if cell == "lstm" else []
        self._product = w_hh.new_zeros(TILE, width)
        self._places = [[self._place(layer, step) for layer in range(len(layers))] for step in range(steps)]
        self._next = 0
        last = self._places[-1]
        self.h = [place.h for place in last]  # [TILE, H] each, after the last step, as are the next ones
        self.c = [place.c for place in last if place.c is not None]
        self.gates = [place.gates for place in last]  # [TILE, G*H] each, after their activation
        self._output = None if output is None else (output[0].T, output[1])
        self._walk = None
        # [I, G*H] and [H, G*H] of each layer; a compiled walk keeps its own copies, in panels.
        self._w_ih, self._w_hh = ([], []) if compiled else (below, recurrent)
        if compiled:
            # Importing Numba takes half a second, which a GPU does not need.
            from gatescope.kernels.tile_walk import TileWalk

            self.h, self.c = ([torch.zeros_like(state) for state in states] for states in (self.h, self.c))
            starts = [self._table, *(bias.unsqueeze(0) for bias in self._input_bias[1:])]
            weights = below, recurrent, starts, self._hidden_bias if cell == "gru" else None
            used = 3 if cell == "lstm" else 2
            states, kept = (self.h, self.c)[: used - 1], (buffers, self.kept_h, self.kept_c)[:used]
            self._walk = TileWalk(*weights, states, kept, reset_after, self._output)

    def _place(self, layer: int, step: int) -> _Place:
        gates, h = self.kept_gates[layer][step], self.kept_h[layer][step]
        parts = gates.split(h.shape[1], dim=1)
        return _Place(gates, parts, h, self.kept_c[layer][step] if self.kept_c else None)

    def use(self, n_rows: int, n_threads: int = 1) -> None:
        """Set how many of the first rows are sequences, and how many threads may share them.

        A compiled walk moves only these rows, each by itself. torch's products include all rows.
        """
        if self._walk is not None:
            self._walk.use(n_rows, n_threads)

    def clear(self, rows: Tensor | None = None) -> None:
        """Set the states of all rows, or of the rows in a bool mask [TILE], to zero."""
        for state in (*self.h, *self.c):
            if rows is None:
                state.zero_()
            else:
                state[rows] = 0

    @property
    def is_compiled(self) -> bool:
        """Whether the steps are a compiled walk, in which many at once leave the same values as one after another."""
        return self._walk is not None

    def rewind(self) -> None:
        """Make the next step the first that is kept."""
        self._next = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Read one character in every row and return the top layer's hidden state, [TILE, H].

        `h`, `c` and `gates` become the values after the character; the next step may overwrite them.

        Args:
            tokens: ids int64 [TILE].
        """
        if self._walk is not None:
            self._walk(self._next, tokens.unsqueeze(0))
            self._kept_up_to(self._next + 1)
            return self.h[-1]
        places = self._places[self._next]
        below = None
        for layer, place in enumerate(places):
            if below is None:
                torch.index_select(self._table, 0, tokens, out=place.gates)
            else:
                torch.addmm(self._input_bias[layer], below, self._w_ih[layer], out=place.gates)
            self._step_layer(self, layer, place)
            below = place.h
        self._next = (self._next + 1) % self.steps
        return self.h[-1]

    def read(self, tokens: Tensor) -> None:
        """Read given characters; step t of the kept ones holds the values after character t.

        The states are those that the same number of calls of `step` leaves, in a compiled walk to the bit.

        Args:
            tokens: ids int64 [T, TILE], T at most `steps`.
        """
        if self._walk is not None:
            self._walk(0, tokens)
            self._kept_up_to(len(tokens))
            return
        for layer, (gates, bias) in enumerate(zip(self.kept_gates, self._input_bias, strict=True)):
            if layer == 0:
                torch.index_select(self._table, 0, tokens.flatten(), out=gates[: len(tokens)].flatten(0, 1))
            else:
                # All the kept steps, however many are read: a product of another height would differ in its last bits.
                torch.addmm(bias, self.kept_h[layer - 1].flatten(0, 1), self._w_ih[layer], out=gates.flatten(0, 1))
            for places in self._places[: len(tokens)]:
                self._step_layer(self, layer, places[layer])
        self._next = len(tokens) % self.steps

    def draw(self, how: Draw, start: int, stop: int) -> Tensor:
        """Draw a character in every row and read it, step by step; step t of the kept ones is the t-th of these.

        Args:
            how: how the characters are drawn.
            start, stop: numbers of the first step and of the one after the last, for the random numbers; at most
                `steps` steps.

        Returns:
            ids int64 [T, TILE]; V, which is no character, if a logit is NaN or infinity, or all are -infinity.
        """
        assert self._output is not None
        weight, bias = self._output
        rows = torch.arange(how.first_sequence, how.first_sequence + TILE)
        random = uniform(how.seed, rows, torch.arange(start, stop))
        settings = how.temperature, how.top_k, how.top_p
        if self._walk is not None:
            ids = self._walk.draw(random, *settings)
            self._kept_up_to(len(ids))
            return ids
        self.rewind()
        tokens = []
        for numbers in random.to(bias.device):
            tokens.append(choose(torch.addmm(bias, self.h[-1], weight), numbers, *settings))
            # If none could be drawn, the caller rejects them all.
            self.step(tokens[-1].clamp(max=len(bias) - 1))
        return torch.stack(tokens)

    def _kept_up_to(self, stop: int) -> None:
        """Record that the step before `stop` is the last that a compiled walk has kept."""
        self._next = stop % self.steps
        self.gates = [place.gates for place in self._places[stop - 1]]

    def _lstm(self, layer: int, place: _Place) -> None:
        assert place.c is not None
        place.gates.addmm_(self.h[layer], self._w_hh[layer])
        activate(place.gates, self.c[layer], place.c, place.h)
        self.h[layer], self.c[layer], self.gates[layer] = place.h, place.c, place.gates

    def _gru(self, layer: int, place: _Place) -> None:
        h, (r, z, n) = self.h[layer], place.parts
        width = 2 * h.shape[1]
        both = place.gates[:, :width]
        weight, bias = self._w_hh[layer], self._hidden_bias[layer]
        if self._reset_after:
            product = torch.addmm(bias, h, weight, out=self._product)
            both.add_(product[:, :width]).sigmoid_()
            n.addcmul_(r, product[:, width:])
        else:
            both.add_(torch.addmm(bias[:width], h, weight[:, :width])).sigmoid_()
            n.add_(torch.addmm(bias[width:], r * h, weight[:, width:]))
        torch.tanh(n, out=n)
        # h' = z h + (1 - z) n = n + z (h - n)
        torch.sub(h, n, out=place.h).mul_(z).add_(n)
        self.h[layer], self.gates[layer] = place.h, place.gates

    def _rnn(self, layer: int, place: _Place) -> None:
        place.gates.addmm_(self.h[layer], self._w_hh[layer])
        if self._relu:
            torch.relu_(place.gates)
        else:
            torch.tanh(place.gates, out=place.gates)
        self.h[layer], self.gates[layer] = place.h.copy_(place.gates), place.gates
