"""Stepping a stacked recurrent network one character at a time, every state and gate at hand.

A step works on a tile of exactly TILE rows (sequences), in place, in buffers made once. Matrix products of different
heights differ in their last bits; with a fixed height, and each sequence always in the same row of its tile, its states
depend on nothing that runs beside it.

Equations and gate orders are those of `gatescope.kernels.lstm`, `.gru` and `.rnn`. The input product of the first layer
is a row of the table `E W_ih^T + b` [V, G*H], E the character vectors, made once. Per character and layer a step reads
W_hh (and W_ih above the first layer) once for the whole tile: 2 * G * H * (H + I) FLOP a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TILE = 64  # rows


class Recurrence:
    """The recurrent states of one tile of sequences, and the step that moves them.

    Args:
        cell: "lstm", "gru" or "rnn".
        layers: for each layer its weights as torch.nn has them: w_ih [G*H, I], w_hh [G*H, H], b_ih, b_hh [G*H].
        vectors: what the first layer reads for each character, [V, I]; None for one-hot characters.
        reset_after: of the gru.
        nonlinearity: of the rnn, "tanh" or "relu".
    """

    def __init__(
        self,
        cell: str,
        layers: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]],
        vectors: Tensor | None = None,
        reset_after: bool = True,
        nonlinearity: str = "tanh",
    ):
        self._step_layer = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[cell]
        self._reset_after = reset_after
        self._activation = torch.relu_ if nonlinearity == "relu" else torch.tanh_
        w_ih, w_hh = layers[0][:2]
        # The gru keeps b_hh apart, since the reset gate multiplies the part of n; the others add both at once.
        self._input_bias = [layer[2] if cell == "gru" else layer[2] + layer[3] for layer in layers]
        self._hidden_bias = [layer[3] for layer in layers]
        table = w_ih.T if vectors is None else vectors @ w_ih.T
        self._table = (table + self._input_bias[0]).contiguous()  # [V, G*H]
        self._w_ih = [layer[0].T.contiguous() for layer in layers]  # [I, G*H]
        self._w_hh = [layer[1].T.contiguous() for layer in layers]  # [H, G*H]
        hidden, width = w_hh.shape[1], w_hh.shape[0]
        self.h = [w_hh.new_zeros(TILE, hidden) for _ in layers]  # [TILE, H] each
        self.c = [w_hh.new_zeros(TILE, hidden) for _ in layers] if cell == "lstm" else []
        self.gates = [w_hh.new_zeros(TILE, width) for _ in layers]  # [TILE, G*H] each, after their activation
        self._product = w_hh.new_zeros(TILE, width)

    def clear(self, rows: Tensor | None = None) -> None:
        """Set the states of all rows, or of the rows in a bool mask [TILE], to zero."""
        for state in (*self.h, *self.c):
            if rows is None:
                state.zero_()
            else:
                state[rows] = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Read one character in every row and return the topmost hidden state, [TILE, H].

        `h`, `c` and `gates` are overwritten with the values after the character.

        Args:
            tokens: ids int64 [TILE].
        """
        below = None
        for layer, gates in enumerate(self.gates):
            if below is None:
                torch.index_select(self._table, 0, tokens, out=gates)
            else:
                torch.addmm(self._input_bias[layer], below, self._w_ih[layer], out=gates)
            self._step_layer(layer, gates)
            below = self.h[layer]
        return self.h[-1]

    def _lstm(self, layer: int, gates: Tensor) -> None:
        h, c = self.h[layer], self.c[layer]
        hidden = h.shape[1]
        gates.addmm_(h, self._w_hh[layer])
        i, f, g, o = gates.split(hidden, dim=1)
        gates[:, : 2 * hidden].sigmoid_()
        g.tanh_()
        o.sigmoid_()
        c.mul_(f).addcmul_(i, g)
        torch.tanh(c, out=h).mul_(o)

    def _gru(self, layer: int, gates: Tensor) -> None:
        h = self.h[layer]
        hidden = h.shape[1]
        r, z, n = gates.split(hidden, dim=1)
        weight, bias = self._w_hh[layer], self._hidden_bias[layer]
        if self._reset_after:
            product = torch.addmm(bias, h, weight, out=self._product)
            gates[:, : 2 * hidden].add_(product[:, : 2 * hidden]).sigmoid_()
            n.addcmul_(r, product[:, 2 * hidden :]).tanh_()
        else:
            gates[:, : 2 * hidden].add_(torch.addmm(bias[: 2 * hidden], h, weight[:, : 2 * hidden])).sigmoid_()
            n.add_(torch.addmm(bias[2 * hidden :], r * h, weight[:, 2 * hidden :])).tanh_()
        # h' = z h + (1 - z) n = n + z (h - n)
        h.sub_(n).mul_(z).add_(n)

    def _rnn(self, layer: int, gates: Tensor) -> None:
        gates.addmm_(self.h[layer], self._w_hh[layer])
        self.h[layer].copy_(self._activation(gates))


def choose(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Draw one character a row from softmax(logits / temperature) by inverting its distribution function.

    The choice is the first character whose cumulative probability, summed in id order in float64, exceeds the random
    number: where the two are equal, the later character is taken.

    Args:
        logits: [B, V].
        uniform: random numbers, float64 [B] in (0, 1).
        temperature: positive; below 1 it favours the probable.

    Returns:
        ids int64 [B].
    """
    cumulative = torch.softmax(logits.double() / temperature, dim=1).cumsum(dim=1)
    target = uniform[:, None] * cumulative[:, -1:]
    return (cumulative <= target).sum(dim=1).clamp_(max=logits.shape[1] - 1)
