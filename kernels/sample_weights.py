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
        cell, layers, vectors, output, reset_after: as `FusedRecurrence` has them.
        width: HP.
    """
    dtype, hidden, slots = layers[0][1].dtype, layers[0][1].shape[1], SLOTS[cell]
    before = cell == "gru" and not reset_after

    def slotted(rows: Tensor, slot_of: Sequence[int]) -> Tensor:
        """Rows [G*H, ...] by slot and unit, [slots, HP, ...]."""
        result = rows.new_zeros(slots, width, *rows.shape[1:])
        for slot, gate in zip(slot_of, rows.split(hidden), strict=True):
            result[slot, :hidden] = gate
        return result

    # The slots of r, z and n: n's part of h has one of its own.
    of_x, of_h = ((0, 1, 3), (0, 1, 2)) if cell == "gru" else ((range(slots),) * 2)
    matrices = []
    for layer, (w_ih, w_hh, _, _) in enumerate(layers):
        recurrent = slotted(w_hh, of_h)
        if before:
            recurrent[2] = 0
        matrices += [slotted(w_ih, of_x)] if layer else []
        matrices.append(recurrent)
    w = layers[0][1].new_zeros(len(matrices), width, slots, width)
    for place, matrix in enumerate(matrices):
        w[place, ..., : matrix.shape[2]] = matrix.transpose(0, 1)

    biases = [
        slotted(b_ih.float(), of_x) + slotted(b_hh.float(), (0, 1, 3) if before else of_h) for *_, b_ih, b_hh in layers
    ]
    first = layers[0][0].float().T if vectors is None else vectors.float() @ layers[0][0].float().T
    table = slotted(first.T.contiguous(), of_x).permute(2, 0, 1) + biases[0]
    table = torch.cat([table, *(bias[None] for bias in biases[1:])]).contiguous()

    n_characters = len(output[1])
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
