"""A model's weights in the order of the sampler's kernel (`gatescope.kernels.sample_kernels`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from gatescope.kernels.plan import MIN_TILE

SLOTS = {"lstm": 4, "gru": 4, "rnn": 1}
Weights = tuple[Tensor, Tensor, Tensor, Tensor]  # w_ih, w_hh, b_ih, b_hh


def block_v(n_characters: int) -> int:
    """V, padded to the columns of a tile."""
    return max(MIN_TILE, triton.next_power_of_2(n_characters))


def packed_weights(
    cell: str,
    layers: Sequence[Weights],
    vectors: Tensor | None,
    output: tuple[Tensor, Tensor],
    reset_after: bool,
    width: int,
) -> dict[str, Tensor | None]:
    """A model's weights in the kernel's order: see `gatescope.kernels.sample_kernels`.

    Args:
        cell, layers, vectors, output, reset_after: as in `FusedRecurrence`.
        width: HP.
    """
    dtype, hidden, slots = layers[0][1].dtype, layers[0][1].shape[1], SLOTS[cell]
    before = cell == "gru" and not reset_after
    # Runs of gates, and the slots that they go to; the part of x in a gru's n has a slot of its own.
    of_x = [(0, 0, 2), (2, 3, 1)] if cell == "gru" else [(0, 0, slots)]
    of_h = [(0, 0, 2 if before else 3)] if cell == "gru" else of_x

    def place(matrix: Tensor, rows: Tensor, runs: Sequence[tuple[int, int, int]]) -> None:
        """Write rows [G*H, I] to the slots of a matrix [HP, slots, HP]."""
        gates = rows.unflatten(0, (-1, hidden)).transpose(0, 1)
        for gate, slot, n in runs:
            matrix[:hidden, slot : slot + n, : rows.shape[1]] = gates[:, gate : gate + n]

    w = layers[0][1].new_zeros(2 * len(layers) - 1, width, slots, width)
    for layer, (w_ih, w_hh, _, _) in enumerate(layers):
        place(w[2 * layer], w_hh, of_h)
        if layer:
            place(w[2 * layer - 1], w_ih, of_x)

    biases = w.new_zeros(len(layers), slots, width, dtype=torch.float32)
    for part, runs in ((2, of_x), (3, of_x if before else of_h)):
        gates = torch.stack([weights[part] for weights in layers]).unflatten(1, (-1, hidden))
        for gate, slot, n in runs:
            biases[:, slot : slot + n, :hidden].add_(gates[:, gate : gate + n])
    first = layers[0][0].T if vectors is None else vectors.float() @ layers[0][0].float().T
    n_characters = len(first)
    table = biases.new_zeros(n_characters + len(layers) - 1, slots, width)
    gates = first.unflatten(1, (-1, hidden))
    for gate, slot, n in of_x:
        table[:n_characters, slot : slot + n, :hidden] = gates[:, gate : gate + n]
    table[:n_characters].add_(biases[0])
    table[n_characters:] = biases[1:]

    weight = output[0].new_zeros(block_v(n_characters), width, dtype=dtype)
    weight[:n_characters, :hidden] = output[0]
    bias = output[1].new_full((len(weight),), -torch.inf, dtype=torch.float32)
    bias[:n_characters] = output[1]
    w_n = None
    if before:
        w_n = w.new_zeros(len(layers), width, width)
        for layer, (_, w_hh, _, _) in enumerate(layers):
            w_n[layer, :hidden, :hidden] = w_hh[2 * hidden :]
    return {"table_ptr": table, "w_ptr": w, "w_n_ptr": w_n, "output_ptr": weight, "bias_ptr": bias}
