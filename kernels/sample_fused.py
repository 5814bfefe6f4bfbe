"""Sampling and reading in one launch for a whole block of steps: plans and launches.

Two forms of one kernel (`gatescope.kernels.sample_kernels`). `plan` chooses by the model and the device; `fitted` then
cuts the same work up for the number of sequences. A row is summed in the same order in all of these, so that a
sequence's text and states are the same to the bit whatever runs beside it.

"program", H <= 128: one program runs all layers of 16 sequences, and programs know nothing of each other. Two LSTM
layers of 128 units have 384 KB of weights in 16 bits, more than a multiprocessor holds, so that they are streamed from
the L2 cache in every step, asynchronously and ahead of the products. 1,024 sequences are 64 programs. Up to as many
LSTMs of 128 units stand in columns.

"columns": the units are split over the programs of a group of 64 or 128 sequences, which meet at a barrier after each
layer. Each program streams its own columns of the weights and the states of its rows from L2 in every step: the five
matrices of three LSTM layers of 512 units are 640 KB for 32 units in 16 bits, of which a multiprocessor's 227 KB would
hold one matrix, and the launch takes eight groups (H200), so that every column of weights is wanted by eight
programs. Nothing of the weights stays in shared memory from one step to the next. A batch that the device does not hold
at once is worked group by group in several launches.

"steps": torch's operators step by step (`gatescope.kernels.sample.Recurrence`), where the output layer does not fit
into a program's registers, or the units not on the device.

Traffic through L2 for one step of L layers of H units: each of the programs of a group reads (2 L - 1) 4 H BLOCK_H
weights and (2 L - 1) H states a row, BLOCK_H = H in the first form. For three layers of 512 and 512 sequences in groups
of 64 that is 126 MB a step in a launch of 128 programs.

On an NVIDIA H200 (torch 2.11, Triton 3.6, bfloat16, h and c kept; the kernel alone, as `python -m
benchmarks.sampler_tiles` times it) 1,024 sequences took, in microseconds a step to sample:

    3 x 512   64 rows x 32 units in two launches 50.6; 64 x 64 46.2; 128 x 32 44.7, though it spills 32 bytes a thread;
              the last two in parts of 32 units without spills 48.0 and 46.4
    2 x 128   programs of 16 rows 13.8; columns of 32 rows x 32 units 10.4, 16 x 64 11.3, 64 x 32 12.8, 64 x 16 10.0

and each of these gave the same characters and states to the bit. Where all gates are kept, 128 rows spill 240 bytes:
not measured, and not used. Nor was a GRU measured in such tiles. Bytes alone do not bound a step: on an H100 none of
three reads a given text of 3 x 512 faster than in 40 us, and the choice took the other 9 to 19 us; of the 13.8 of 2 x
128 it is 3.

Not built: working a large batch in two phases, one half's products while the other half waits at its barrier. Between
its arrival at a barrier and its wait there each program already does the next layer's recurrent product, which needs no
news: 196 KB, 4 us at that rate. What the others wait for in full is the choice, once a step. To hide it two phases of
half the rows would stream the weights once for each half, for 512 sequences 84 MB more, 14 us at that rate; for 1,024
sequences that is no more than two launches load. Not measured; nor is multicast of weights within a cluster, which
Gluon has from Triton 3.7 on and 3.6 has not; nor weights of narrow layers that stay in shared memory: in columns of 32
units two layers of 128 have 96 KB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from torch import Tensor

from gatescope.kernels.choice import Draw, bounded
from gatescope.kernels.grid import Launch, counters
from gatescope.kernels.plan import H200, MIN_TILE, SLACK, WARPS, Device, device_of
from gatescope.kernels.sample_kernels import CAPTURED, GRU, GRU_BEFORE, LSTM, RNN, RNN_RELU, WHOLE, sample_kernel
from gatescope.kernels.sample_weights import SLOTS, Weights, block_v, packed_weights
from gatescope.kernels.sequence import interpreting

PLACES = CAPTURED.value  # of a layer among what is captured: h, c, and up to four gates in the order of the weights
LOGITS = 8192  # of a tile, that the registers of a program hold beside their sums in float64


@dataclass(frozen=True)
class SamplePlan:
    """How the sampler works on a model."""

    form: str  # "program", "columns" or "steps"
    block_b: int = 0  # sequences in a program
    block_h: int = 0  # units of each layer in a program
    block_k: int = 0  # units of the state that are multiplied at once
    width: int = 0  # H, padded to whole blocks
    columns: int = 0  # programs that share a group of sequences
    groups: int = 0  # of sequences in one launch, at most
    stages: int = 0  # parts of a product that are on their way at once
    output_k: int = 0  # units that the output layer multiplies at once
    output_stages: int = 0


STEPS = SamplePlan("steps")


def plan(
    cell: str,
    hidden: int,
    layers: int,
    n_characters: int,
    itemsize: int,
    device: Device = H200,
    reset_after: bool = True,
) -> SamplePlan:
    """Choose form and tile of the sampler: a function of the model and the device alone.

    Args:
        cell: "lstm", "gru" or "rnn".
        hidden, layers, n_characters: H, L, V.
        itemsize: bytes of a weight.
        device: its limits.
        reset_after: of the gru.
    """
    columns_v, slots = block_v(n_characters), SLOTS[cell]
    narrow = hidden <= 128
    block_b = MIN_TILE if narrow else 64
    block_h = max(MIN_TILE, triton.next_power_of_2(hidden)) if narrow else 32
    width = block_h if narrow else triton.cdiv(hidden, 128) * 128
    columns = width // block_h
    # Offsets among the weights are of 32 bits.
    counted = (2 * layers - 1) * slots * width * width < 2**31
    if MIN_TILE * columns_v > LOGITS or columns > device.multiprocessors or not counted:
        return STEPS
    # As much as the registers hold: compiled for sm_80 and sm_90 with float16 and bfloat16, nothing is spilled.
    large = narrow or (device.warp_groups and reset_after)
    block_k = min(width, 16 if itemsize == 4 else 64 if large else 32)
    # Asynchronous loads go past the first-level cache only 16 bytes at a time, and a program has 256 threads: 128 units
    # of the 16 rows that it chooses for. Within one program the cache sees all stores.
    output_k = block_k if narrow else 128
    room = device.shared - SLACK
    stages, output_stages = (
        min(most, room // (units * itemsize * rows))
        for most, units, rows in (
            (2 if narrow else 4, block_k, slots * block_h + block_b),
            (2 if narrow else 3, output_k, columns_v + MIN_TILE),
        )
    )
    if min(stages, output_stages) == 0:
        return STEPS
    form, groups = "program" if narrow else "columns", device.multiprocessors // columns
    return SamplePlan(form, block_b, block_h, block_k, width, columns, groups, stages, output_k, output_stages)


def fitted(
    layout: SamplePlan,
    cell: str,
    n_characters: int,
    n_rows: int,
    itemsize: int,
    device: Device = H200,
    reset_after: bool = True,
    kept: int = 2,
) -> SamplePlan:
    """The plan for a number of sequences, whose text is the same to the bit whatever that number is.

    Few sequences have columns of few units, where all of them run at once: 128 of three LSTM layers of 512 units took
    an H200 20.5 us a step in columns of 16 units, and 18.6 in columns of 8. More LSTM sequences than a launch holds
    have tiles of twice the height. LSTMs of 128 units have columns, too, as long as one launch holds all sequences.

    Args:
        layout: `plan`'s choice.
        cell, n_characters, itemsize, device, reset_after: as `plan` has them.
        n_rows: number of sequences.
        kept: arrays of a layer that are kept, at most, and scores: with more than two, as with more than 128
            characters, a program of 128 rows spills more registers than has been measured.
    """
    lstm = cell == "lstm" and itemsize == 2 and device.warp_groups
    if layout.form == "program" and layout.width == 128 and lstm:
        columns = layout.width // MIN_TILE
        groups, part = device.multiprocessors // columns, 128 * itemsize * (block_v(n_characters) + MIN_TILE)
        output = {"output_k": 128, "output_stages": min(2, (device.shared - SLACK) // part)}
        narrow = replace(layout, form="columns", block_b=64, block_h=MIN_TILE, columns=columns, groups=groups, **output)
        return replace(narrow, stages=3) if n_rows <= groups * narrow.block_b else layout
    if layout.form != "columns":
        return layout
    # Fewer than 16 columns are another instruction's, and a GRU without reset_after has a product of a single slot.
    least = MIN_TILE if cell == "rnn" or not reset_after else 8
    for units in sorted({least, MIN_TILE}):
        columns = layout.width // units
        if triton.cdiv(n_rows, layout.block_b) * columns <= device.multiprocessors:
            return replace(layout, block_h=units, columns=columns, groups=device.multiprocessors // columns)
    tall = replace(layout, block_b=2 * layout.block_b, stages=3)
    launches, of_tall = (triton.cdiv(n_rows, each.groups * each.block_b) for each in (layout, tall))
    # Each of the second kind takes 44.7 us a step, of the first 25.3.
    faster = 7 * of_tall < 4 * launches
    return tall if lstm and kept <= 2 and block_v(n_characters) <= 128 and faster else layout


def describe_sampler(
    cell: str, hidden: int, layers: int, n_characters: int, n_rows: int, dtype: torch.dtype, device: Device = H200
) -> str:
    """Say how a model would be sampled on a GPU.

    >>> print(describe_sampler("lstm", 512, 3, 96, 128, torch.bfloat16))
    columns: 2 groups of 64 sequences x 64 programs of 8 units, a barrier after each layer, 1 launch for 128 sequences

    Args:
        cell: "lstm", "gru" or "rnn".
        hidden, layers, n_characters, n_rows: H, L, V, and the number of sequences.
        dtype: of the weights.
        device: the GPU's limits.
    """
    found = plan(cell, hidden, layers, n_characters, dtype.itemsize, device)
    found = fitted(found, cell, n_characters, n_rows, dtype.itemsize, device)
    if found == STEPS:
        return "steps: torch's operators for each step"
    groups = triton.cdiv(n_rows, found.block_b)
    if found.form == "program":
        return f"program: {groups} programs of {found.block_b} sequences x {hidden} units, no barrier, 1 launch"
    launches = triton.cdiv(groups, found.groups)
    return (
        f"columns: {min(groups, found.groups)} groups of {found.block_b} sequences x {found.columns} programs of "
        f"{found.block_h} units, a barrier after each layer, {launches} launch{'es' * (launches > 1)} for {n_rows} "
        "sequences"
    )


@dataclass(frozen=True)
class Captured:
    """Where states go, if anywhere.

    Args:
        states: PLACES for each layer (h, c, gates in the order of the weights), None or [n_rows, T, H], contiguous but
            for the distance from a sequence to the next, which all have in common.
        log_probability, entropy: of each character under softmax(logits), in nats, None or [n_rows, T, 1] alike.
    """

    states: tuple[Tensor | None, ...]
    log_probability: Tensor | None = None
    entropy: Tensor | None = None

    def stride(self) -> int:
        """Steps from a sequence to the next in memory."""
        for each in (*self.states, self.log_probability, self.entropy):
            if each is not None:
                return each.stride(0) // each.shape[2]
        return 0


class FusedRecurrence:
    """The recurrent states of many sequences, and the kernel that moves all of them over a block of steps.

    Equations and gate orders are those of `gatescope.kernels.sample.Recurrence`. Where its probabilities and the
    kernel's differ by their rounding, a random number that lies within that rounding of a border between two characters
    may choose differently; everything after it then differs too.

    Args:
        cell: "lstm", "gru" or "rnn".
        layers: for each layer w_ih [G*H, I], w_hh [G*H, H], b_ih, b_hh [G*H], as torch.nn has them; their dtype is that
            of the products, which are summed in float32.
        vectors: what the first layer reads for each character, [V, I]; None for one-hot characters.
        output: weight [V, H] and bias [V] of the output layer.
        n_rows: number of sequences.
        reset_after: of the gru.
        nonlinearity: of the rnn, "tanh" or "relu".
        layout: how the kernel works; default: `plan`'s choice.
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
            device = device_of(w_hh)
            layout = plan(cell, hidden, len(layers), n_characters, w_hh.itemsize, device, reset_after)
            layout = fitted(layout, cell, n_characters, n_rows, w_hh.itemsize, device, reset_after, PLACES)
        self.layout, self.n_rows, self.taken = layout, n_rows, 0
        self._groups = min(layout.groups, triton.cdiv(n_rows, layout.block_b))
        if layout.columns == 1:
            self._groups = triton.cdiv(n_rows, layout.block_b)
        rows = self._groups * layout.block_b
        self._padded = triton.cdiv(n_rows, rows) * rows
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
        }
        self._phases = 1 + len(layers) * (2 if before else 1)

    def clear(self) -> None:
        """Set all states to zero."""
        self.states.zero_()
        if self.cells is not None:
            self.cells.zero_()

    @property
    def h(self) -> Tensor:
        """The hidden states after the last step where they are, [L, n_rows, H]."""
        return self.states[:, self.taken % 2, : self.n_rows, : self._constants["H"]]

    @property
    def c(self) -> Tensor:
        """The cells of an lstm after the last step where they are, [L, n_rows, H], float32."""
        assert self.cells is not None
        return self.cells[:, : self.n_rows, : self._constants["H"]]

    def advance(
        self, tokens: Tensor, lengths: Tensor, captured: Captured, draw: Draw | None = None, first_step: int = 0
    ) -> None:
        """Take every sequence through a block of steps, and keep what is asked for.

        Args:
            tokens: int32 [n_rows, T], contiguous: to be read, where below 0 the row has not begun and its states stay
                zero; with `draw`, where the characters go.
            lengths: of the sequences within the block, int32 [n_rows]: nothing is kept from there on, and the states of
                a group of which none is left stand still.
            captured: where states go.
            draw: draw the characters; else they are given.
            first_step: the number of the first step, for the random numbers.
        """
        launch = self.launch(tokens, lengths, captured, draw, first_step)
        n_steps, rows = tokens.shape[1], self._groups * self.layout.block_b
        with torch.cuda.device_of(tokens):
            for row0 in range(0, self.n_rows, rows):
                if not interpreting():
                    launch(counter_ptr=counters(self._groups, tokens), t1=n_steps, row0=row0)
                    continue
                for t in range(n_steps if self.layout.columns > 1 else 1):
                    span = {"t0": t, "t1": t + 1} if self.layout.columns > 1 else {"t0": 0, "t1": n_steps}
                    for phase in range(self._phases) if self.layout.columns > 1 else (WHOLE.value,):
                        launch(counter_ptr=counters(self._groups, tokens), row0=row0, PHASE=phase, **span)
        self.taken += n_steps

    def launch(
        self, tokens: Tensor, lengths: Tensor, captured: Captured, draw: Draw | None = None, first_step: int = 0
    ) -> Launch:
        """The kernel on these tensors; time, rows and counters are filled in when it runs."""
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
            # What is padded has logits of minus infinity.
            "temperature": bounded(draw.temperature) if draw else 1.0,
            "top_k": draw.top_k if draw else 0,
            "top_p": float(draw.top_p) if draw else 1.0,
        }
        cut_k = draw is not None and 0 < draw.top_k < self._constants["V"]
        constants = {"GIVEN": draw is None, "TOP_K": cut_k, "TOP_P": draw is not None and draw.top_p < 1}
        constants = self._constants | constants | {"PHASE": WHOLE.value, "INTERPRET": interpreting()}
        grid = (self._groups, self.layout.columns)
        return Launch(sample_kernel, grid, self._tensors | others, constants, self.layout.columns > 1, WARPS)
