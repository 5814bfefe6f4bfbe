"""What both walks share: what is to be computed, what is read, and the pieces that come out.

`gatescope.engine.walk` walks a model tile by tile on the cores of a CPU, `gatescope.engine.walk_fused` with the
sampler's kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.model import CELLS
from gatescope.engine.trained_model import TrainedModel
from gatescope.kernels.choice import Draw
from gatescope.kernels.sample import Recurrence

# The place of each gate in the weights.
GATE_PLACES = {gate: place for cell in CELLS.values() for place, gate in enumerate(cell.gate_names)}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# What the output layer gives for each character, beside the recurrent states.
SCORES = ("log_probability", "entropy")


class Reader(Protocol):
    """What decides which characters the sequences of a tile read."""

    def warm_up(self, numbers: np.ndarray) -> Iterator[Tensor]:
        """Yield the ids that sequences [B] read before they are recorded, in pieces int64 [W, B] on the CPU.

        -1: not begun.
        """

    def characters(self, numbers: np.ndarray, start: int, stop: int) -> Tensor | None:
        """Return the ids that sequences [B] read in the steps from start up to stop, int64 [T, B] on the CPU.

        None: they are drawn.
        """

    def draw(self, first: int) -> Draw:
        """Say how characters are drawn for the sequences from the first on."""

    def run(self, recurrence: Recurrence, numbers: np.ndarray, start: int, stop: int) -> Tensor:
        """Move a tile over the steps from start up to stop, at most `walk.STEPS`; return their ids, int64 [T, TILE]."""


@dataclass(frozen=True)
class Piece:
    """Some steps of the sequences of a tile."""

    first: int  # number of the first sequence
    start: int  # the first step in each
    tokens: np.ndarray  # [S, T]
    states: dict[str, Tensor]  # [S, T, H or 1] each; once they are delivered others take their place
    initial: dict[str, Tensor]  # [S, H] each, before step 0; empty in later pieces
    state: tuple[Tensor, ...]  # after the last step: h of every layer, then c, [TILE, H] each, or of a GPU [S, H]


@dataclass(frozen=True, eq=False)
class Journey:
    """What a walk is to compute.

    Args:
        trained: the model.
        arrays: the states to keep and their width.
        initial: those of them that are also given before the first step.
        dtype: of the states.
        lengths: of the sequences [S], in characters.
        reader: what they read.
    """

    trained: TrainedModel
    arrays: dict[str, int]
    initial: list[str]
    dtype: torch.dtype
    lengths: np.ndarray
    reader: Reader


Buffers = Callable[[int, int, int, int], dict[str, Tensor]]
Deliver = Callable[[Piece], None]


def weights_of(trained: TrainedModel) -> tuple[list[tuple[Tensor, Tensor, Tensor, Tensor]], Tensor | None]:
    """Return w_ih, w_hh, b_ih and b_hh of each layer, and the character vectors or None for one-hot characters."""
    model = trained.model
    weights = {name: weight.detach() for name, weight in model.rnn.named_parameters()}
    layers = [
        (
            weights[f"weight_ih_l{layer}"],
            weights[f"weight_hh_l{layer}"],
            weights[f"bias_ih_l{layer}"],
            weights[f"bias_hh_l{layer}"],
        )
        for layer in range(model.architecture.layers)
    ]
    return layers, None if model.embedding is None else model.embedding.weight.detach()
