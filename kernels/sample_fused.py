"""Sampling and reading in one launch for a whole block of steps.

The module holds the states of many sequences, and launches a kernel in the tiles of a plan
(`gatescope.kernels.sample_plan`): either the one whose weights stay on chip (`gatescope.kernels.sample_resident`) or
the other (`gatescope.kernels.sample_kernels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from gatescope.kernels.backend import interpreting
from gatescope.kernels.choice import Draw, bounded
from gatescope.kernels.gpu import device_of
from gatescope.kernels.grid import Launch, counters
from gatescope.kernels.plan import MIN_TILE
from gatescope.kernels.sample_kernels import CAPTURED, GRU, GRU_BEFORE, LSTM, RNN, RNN_RELU, WHOLE, sample_kernel
from gatescope.kernels.sample_plan import ModelShape, SamplePlan, fitted, plan
from gatescope.kernels.sample_resident import resident_kernel
from gatescope.kernels.sample_weights import Weights, block_v, packed_weights

PLACES = CAPTURED.value  # captured arrays of a layer: h, c, and up to four gates in the order of the weights


@dataclass(frozen=True)
class Captured:
    """Where captured states are written, if anywhere.

    Args:
        states: PLACES for each layer (h, c, gates in the order of the weights), each None or [n_rows, T, H], contiguous
            except for the stride between sequences, which they have in common.
        log_probability, entropy: of each character under softmax(logits), in nats, None or [n_rows, T, 1] likewise.
    """

    states: tuple[Tensor | None, ...]
    log_probability: Tensor | None = None
    entropy: Tensor | None = None

    def stride(self) -> int:
        """The stride between sequences in memory, in steps."""
        for each in (*self.states, self.log_probability, self.entropy):
            if each is not None:
                return each.stride(0) // each.shape[2]
        return 0


class FusedRecurrence:
    """The recurrent states of many sequences, and the kernel that takes all of them through a block of steps.

    Equations and gate orders are those of `gatescope.kernels.sample.Recurrence`. Probabilities differ from its own by
    rounding, so a random number within that rounding of the border between two characters may choose differently;
    everything after it then differs too.

    Args:
        cell: "lstm", "gru" or "rnn".
        layers: for each layer w_ih [G*H, I], w_hh [G*H, H], b_ih, b_hh [G*H], as in torch.nn; products have their dtype
            and are summed in float32.
        vectors: the first layer's input for each character, [V, I]; None for one-hot characters.
        output: weight [V, H] and bias [V] of the output layer.
        n_rows: number of sequences.
        reset_after: for the gru.
        nonlinearity: for the rnn, "tanh" or "relu".
        layout: the kernel's plan; `plan`'s choice by default.

    Raises:
        ValueError: for more sequences than the kernel can count, some millions.
    """

    def __init__(
        self,
        cell: str,
        layers: Sequence[Weights],
        vectors: Tensor | None,
        output: tuple[Tensor, Tensor],
        n_rows: int,
        reset_after: bool = True,
        nonlinearity: str = "tanh",
        layout: SamplePlan | None = None,
    ):
        w_hh = layers[0][1]
        hidden, n_characters = w_hh.shape[1], len(output[1])
        if layout is None:
            model = ModelShape(cell, hidden, len(layers), n_characters, w_hh.itemsize, reset_after)
            device = device_of(w_hh)
            layout = fitted(plan(model, device), model, n_rows, device, PLACES)
        self.layout, self.n_rows, self.taken = layout, n_rows, 0
        self._groups = min(layout.groups, triton.cdiv(n_rows, layout.block_b))
        if layout.columns == 1:
            self._groups = triton.cdiv(n_rows, layout.block_b)
        rows = self._groups * layout.block_b
        self._padded = triton.cdiv(n_rows, rows) * rows
        widest = max(layout.width, block_v(n_characters))
        if self._padded * widest >= 2**31:
            most = (2**31 - 1) // widest // layout.block_b * layout.block_b
            raise ValueError(f"n_rows: expected at most {most} sequences side by side, got {n_rows}")
        before = cell == "gru" and not reset_after
        width, shape = layout.width, (len(layers), self._padded, layout.width)
        self.states = w_hh.new_zeros(len(layers), 2, *shape[1:])
        self.cells = w_hh.new_zeros(shape, dtype=torch.float32) if cell == "lstm" else None
        kind = {"lstm": LSTM, "gru": GRU_BEFORE if before else GRU, "rnn": RNN_RELU if nonlinearity == "relu" else RNN}
        packed = packed_weights(cell, layers, vectors, output, reset_after, width)
        self._tensors = packed | {
            "states_ptr": self.states,
            "cells_ptr": self.cells,
            "kept_ptr": w_hh.new_zeros(shape) if before else None,
            "logits_ptr": w_hh.new_empty(self._padded, block_v(n_characters), dtype=torch.float32),
        }
        self._constants = {
            "CELL": kind[cell].value,
            "LAYERS": len(layers),
            "H": hidden,
            "HP": width,
            "V": n_characters,
            "BLOCK_V": block_v(n_characters),
            "BLOCK_B": layout.block_b,
            "BLOCK_C": MIN_TILE,
            "BLOCK_H": layout.block_h,
            "BLOCK_K": layout.block_k,
            "COLUMNS": layout.columns,
            "STAGES": layout.stages,
            "OUTPUT_K": layout.output_k,
            "OUTPUT_STAGES": layout.output_stages,
            "RESIDENT": layout.resident,
        }
        self._phases = 1 + len(layers) * (2 if before else 1)

    def clear(self) -> None:
        """Set all states to zero."""
        self.states.zero_()
        if self.cells is not None:
            self.cells.zero_()

    @property
    def h(self) -> Tensor:
        """A view of the hidden states after the last step, [L, n_rows, H]."""
        return self.states[:, self.taken % 2, : self.n_rows, : self._constants["H"]]

    @property
    def c(self) -> Tensor:
        """A view of the cells of an lstm after the last step, [L, n_rows, H], float32."""
        assert self.cells is not None
        return self.cells[:, : self.n_rows, : self._constants["H"]]

    def advance(
        self, tokens: Tensor, lengths: Tensor, captured: Captured, draw: Draw | None = None, first_step: int = 0
    ) -> None:
        """Take every sequence through a block of steps, and keep what is asked for.

        Args:
            tokens: int32 [n_rows, T], contiguous: the characters to read (if negative, the row has not begun and its
                states stay zero), or with `draw`, the output for those drawn.
            lengths: of the sequences within the block, int32 [n_rows]: nothing is kept from there on, and once all
                sequences of a group have ended, its states no longer move.
            captured: where states are written.
            draw: how to draw the characters; None if they are given.
            first_step: number of the first step, for the random numbers.
        """
        launch = self.launch(tokens, lengths, captured, draw, first_step)
        with torch.cuda.device_of(tokens):
            if self.layout.form == "resident":
                launch()
            else:
                self._in_groups(launch, tokens)
        self.taken += tokens.shape[1]

    def _in_groups(self, launch: Launch, tokens: Tensor) -> None:
        """Launch the kernel for as many groups of rows at a time as the device holds."""
        n_steps = tokens.shape[1]
        for row0 in range(0, self.n_rows, self._groups * self.layout.block_b):
            if not interpreting():
                launch(counter_ptr=counters(self._groups, tokens), t1=n_steps, row0=row0)
                continue
            for t in range(n_steps if self.layout.columns > 1 else 1):
                span = {"t0": t, "t1": t + 1} if self.layout.columns > 1 else {"t0": 0, "t1": n_steps}
                for phase in range(self._phases) if self.layout.columns > 1 else (WHOLE.value,):
                    launch(counter_ptr=counters(self._groups, tokens), row0=row0, PHASE=phase, **span)

    def launch(
        self, tokens: Tensor, lengths: Tensor, captured: Captured, draw: Draw | None = None, first_step: int = 0
    ) -> Launch:
        """The kernel on these tensors; `_in_groups` fills in steps, rows and counters when it runs."""
        seed = draw.seed - (draw.seed >> 63 << 64) if draw else 0
        others: dict[str, Any] = {
            "tokens_ptr": tokens,
            "lengths_ptr": lengths,
            "captured": captured.states,
            "log_probability_ptr": captured.log_probability,
            "entropy_ptr": captured.entropy,
            "counter_ptr": None,
            "t0": 0,
            "t1": 0,
            "row0": 0,
            "n_rows": self.n_rows,
            "n_padded": self._padded,
            "n_tokens": tokens.shape[1],
            "taken": self.taken,
            "first_step": first_step,
            "first_sequence": draw.first_sequence if draw else 0,
            "stride": captured.stride(),
            "seed": seed,
            # Padded characters have logits of -infinity, which divided by an infinite temperature would be NaN.
            "temperature": bounded(draw.temperature) if draw else 1.0,
            "top_k": draw.top_k if draw else 0,
            "top_p": float(draw.top_p) if draw else 1.0,
        }
        cut_k = draw is not None and 0 < draw.top_k < self._constants["V"]
        constants = {"GIVEN": draw is None, "TOP_K": cut_k, "TOP_P": draw is not None and draw.top_p < 1}
        constants = self._constants | constants | {"PHASE": WHOLE.value}
        grid = (self._groups, self.layout.columns)
        kernel = resident_kernel if self.layout.form == "resident" else sample_kernel
        arguments, constants = (
            {name: value for name, value in given.items() if name in kernel.arg_names}
            for given in (self._tensors | others, constants)
        )
        return Launch(kernel, grid, arguments, constants, self.layout.columns > 1)
