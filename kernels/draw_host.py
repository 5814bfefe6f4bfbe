"""A tile of sequences that draw characters and read them, on the CPU, all steps in one call that Numba compiles.

A step is the output layer's product, the choice (`gatescope.kernels.choice_host`), and one step of each layer's walk
(`lstm_host`, `gru_host`). Called from Python, these would be some eight calls a step, between which the threads of two
tiles would wait for the GIL.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from gatescope.kernels.choice_host import cut_rows, pick_rows, weigh_rows
from gatescope.kernels.gru_host import gru_walk
from gatescope.kernels.host import compiled
from gatescope.kernels.lstm_host import lstm_walk
from gatescope.kernels.panels import add_product
from gatescope.kernels.steps_host import fill_row


@compiled
def lstm_draw(layers: Any, reset: Any, choice: Any, cuts: Any, numbers: Any, room: Any, first: int) -> None:
    """Draw a character in some rows of a batch and read it, step by step.

    Args:
        layers: for each layer x, w_ih, w_hh, starts, tokens, h, c, gates, y and cells, as in `lstm_walk`, and the width
            of x; the first layer's tokens are those that are read.
        reset: empty.
        choice: W' [H, V] of the output layer in panels, its bias [V], and the temperature, in their dtype.
        cuts: top_k and top_p, or None, for which no cutting is compiled.
        numbers: random numbers, float64 [T, B]; the characters that are read, int64, flat, [T, B]; and those that are
            drawn, int64 [T, B]: V, which is no character, if none can be drawn, and then the last character is read.
        room: buffers for logits, [n, V and a panel's zero columns], and for weights, [n, V].
        first: batch index of the first of these rows.
    """
    n_steps, n_rows = numbers[0].shape
    # Not a literal, for which the walk would be compiled anew.
    one = min(n_steps, 1)
    for t in range(n_steps):
        at = _draw_step(layers[-1][5], choice, cuts, numbers, room, t, first)
        for k in range(len(layers)):
            x, w_ih, w_hh, starts, tokens, h, c, gates, y, cells, width = layers[k]
            lstm_walk(x, w_ih, w_hh, starts, tokens, reset, h, c, gates, y, cells, one, n_rows, at, width)


@compiled
def gru_draw(
    layers: Any, reset: Any, choice: Any, cuts: Any, numbers: Any, room: Any, first: int, reset_after: bool
) -> None:
    """Do the same with a GRU, whose layers have x, w_ih, w_rz, w_n, starts, bias, tokens, h, saved, y and the width."""
    n_steps, n_rows = numbers[0].shape
    one = min(n_steps, 1)
    for t in range(n_steps):
        at = _draw_step(layers[-1][7], choice, cuts, numbers, room, t, first)
        for k in range(len(layers)):
            x, w_ih, w_rz, w_n, starts, bias, tokens, h, saved, y, width = layers[k]
            gru_walk(x, w_ih, w_rz, w_n, starts, bias, tokens, reset, h, saved, y, one, n_rows, at, width, reset_after)


@register_jitable
def _draw_step(h: Any, choice: Any, cuts: Any, numbers: Any, room: Any, t: int, first: int) -> int:
    """Draw a step's characters from the previous states of the top layer; return the rows' first index among [T, B]."""
    weight, bias, temperature = choice
    uniform, read, ids = numbers
    logits, weights = room
    n, n_characters = weights.shape
    for i in range(n):
        fill_row(logits[i, :n_characters], bias)
    add_product(h.reshape(-1), h.shape[1], n, h.shape[1], weight, logits)
    weigh_rows(logits, temperature, weights)
    if cuts is not None:
        cut_rows(weights, cuts[0], cuts[1])
    pick_rows(weights, uniform[t, first:], ids[t, first:])
    at = t * ids.shape[1] + first
    for i in range(n):
        # If none could be drawn, the caller rejects them all.
        read[at + i] = min(ids[t, first + i], n_characters - 1)
    return at
