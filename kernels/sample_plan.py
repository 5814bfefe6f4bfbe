"""How the sampler's kernels are cut up for a GPU: which rows and units a program has.

`plan` chooses a form by the model and the device; `fitted` then cuts the same work up for the number of sequences. A
row is summed in the same order in all that it makes of a plan, so that a sequence's text and states are the same to the
bit whatever runs beside it.

"resident", up to 128 units, 128 characters and 3 layers in 16 bits, where a program has 227 KB of shared memory and
255 registers a thread (sm_90): one program runs all layers of 8 sequences, and programs know nothing of each other.
All weights stay on chip for the whole launch, first those of layer 0 in registers and what shared memory holds of the
others there: of two LSTM layers of 128 units, 384 KB, and an output layer of 128 characters, 32 KB, six tiles of 32 KB
are in registers, 192 of a thread's 255, and six in shared memory. 1,024 sequences are 128 programs, one on each
multiprocessor of an H200 but four.

"program", H <= 128: one program of 16 sequences streams its weights from the L2 cache in every step, asynchronously and
ahead of the products, where they find no room on the chip: three layers of 128 units with gates, 300 characters,
float32, or sm_80. Of such LSTMs of 128 units in 16 bits, as many as a launch holds stand in columns.

"columns": the units are split over the programs of a group of 64 or 128 sequences, which meet at a barrier after each
layer. Each program streams its own columns of the weights and the states of its rows from L2 in every step: the five
matrices of three LSTM layers of 512 units are 640 KB for 32 units in 16 bits, of which a multiprocessor's 227 KB would
hold one matrix, and the launch takes eight groups (H200), so that every column of weights is wanted by eight
programs. Nothing of the weights stays in shared memory from one step to the next. A batch that the device does not hold
at once is worked group by group in several launches.

"steps": torch's operators step by step (`gatescope.kernels.sample.Recurrence`), where the output layer does not fit
into a program's registers, or the units not on the device.

Traffic through L2 for one step of L layers of H units: each of the programs of a group reads (2 L - 1) 4 H BLOCK_H
weights and (2 L - 1) H states a row, BLOCK_H = H in a program by itself. For three layers of 512 and 512 sequences in
groups of 64 that is 126 MB a step in a launch of 128 programs.

On an NVIDIA H200 (torch 2.11, Triton 3.6, bfloat16, h and c kept; the kernel alone, as `python -m
benchmarks.sampler_tiles` times it) 1,024 sequences took, in microseconds a step to sample, as measured before
activations became shorter (a step of 128 x 32 was of 7,467 instructions and is of 4,310 now):

    3 x 512   64 rows x 32 units in two launches 50.6; 64 x 64 46.2; 128 x 32 44.7, though it spills 40 bytes a thread
              (72 now, 14 loads a step); the last two in parts of 32 units 48.0 and, without spills, 46.4
    2 x 128   programs of 16 rows 13.8; columns of 32 rows x 32 units 10.4, 16 x 64 11.3, 64 x 32 12.8, 64 x 16 10.0;
              resident: not measured (801 instructions of a warp in a step, where columns of 64 x 16 had 1,335 and met
              three times; 32 of them are loads of what is spilled, cells and addresses)

and each that was measured gave the same characters and states to the bit. Where all gates are kept, 128 rows spill 240
bytes: not measured, and not used. Nor was a GRU measured in such tiles. Bytes alone do not bound a step: on an H100
none of three reads a given text of 3 x 512 faster than in 40 us, and the choice took the other 9 to 19 us; of the 13.8
of 2 x 128 it is 3.

Not built: working a large batch in two phases, one half's products while the other half waits at its barrier. Between
its arrival at a barrier and its wait there each program already does the next layer's recurrent product, which needs no
news: 196 KB, 4 us at that rate. What the others wait for in full is the choice, once a step. To hide it two phases of
half the rows would stream the weights once for each half, for 512 sequences 84 MB more, 14 us at that rate; for 1,024
sequences that is no more than two launches load. Not measured; nor is multicast of weights within a cluster, which
Gluon has from Triton 3.7 on and 3.6 has not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import triton

from gatescope.kernels.checks import N_GATES
from gatescope.kernels.gpu import H200, Device
from gatescope.kernels.plan import MIN_TILE, NARROW, SLACK, WARPS
from gatescope.kernels.sample_weights import SLOTS, block_v

LOGITS = 8192  # of a tile, that the registers of a program hold beside their sums in float64


@dataclass(frozen=True)
class SamplePlan:
    """How the sampler works on a model."""

    form: str  # "resident", "program", "columns" or "steps"
    block_b: int = 0  # sequences in a program
    block_h: int = 0  # units of each layer in a program
    block_k: int = 0  # units of the state that are multiplied at once
    width: int = 0  # H, padded to whole blocks
    columns: int = 0  # programs that share a group of sequences
    groups: int = 0  # of sequences in one launch, at most
    stages: int = 0  # parts of a product that are on their way at once
    output_k: int = 0  # units that the output layer multiplies at once
    output_stages: int = 0
    resident: int = 0  # tiles of a gate's weights that stay in registers, where all weights stay on chip


STEPS = SamplePlan("steps")
FEW = 8  # sequences in a program whose weights stay on chip: the columns of a tensor core's product
WEIGHTS = 192  # of a thread's 255 registers, that hold weights at most
# Of models whose weights stay on chip: beyond, their states and the choice of a character find no room beside them.
MOST_LAYERS, MOST_CHARACTERS = 3, 128


@dataclass(frozen=True)
class ModelShape:
    """What a plan needs to know of a model.

    Args:
        cell: "lstm", "gru" or "rnn".
        hidden, layers, n_characters: H, L, V.
        itemsize: bytes of a weight.
        reset_after: of the gru.
    """

    cell: str
    hidden: int
    layers: int
    n_characters: int
    itemsize: int
    reset_after: bool = True


def plan(model: ModelShape, device: Device = H200) -> SamplePlan:
    """Choose form and tile of the sampler: a function of the model and the device alone."""
    if not device.tensor_cores:
        return STEPS
    if model.hidden <= NARROW and model.itemsize == 2 and device.warp_groups:
        found = _resident(model, device)
        if found is not None:
            return found
    return streaming(model, device)


def streaming(model: ModelShape, device: Device = H200) -> SamplePlan:
    """`plan`'s choice among the forms whose weights are read from memory in every step."""
    hidden, itemsize = model.hidden, model.itemsize
    columns_v, slots = block_v(model.n_characters), SLOTS[model.cell]
    narrow = hidden <= NARROW
    block_b = MIN_TILE if narrow else 64
    block_h = max(MIN_TILE, triton.next_power_of_2(hidden)) if narrow else 32
    width = block_h if narrow else triton.cdiv(hidden, 128) * 128
    columns = width // block_h
    # Offsets among the weights are of 32 bits.
    counted = (2 * model.layers - 1) * slots * width * width < 2**31
    if MIN_TILE * columns_v > LOGITS or columns > device.multiprocessors or not counted:
        return STEPS
    # As much as the registers hold: compiled for sm_80 and sm_90 with float16 and bfloat16, nothing is spilled of up to
    # 256 characters (but 32 bytes a thread of 3 x 512); of 257 to 512 it is 120 to 850, whose cost was not measured.
    large = narrow or (device.warp_groups and model.reset_after)
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


def _resident(model: ModelShape, device: Device) -> SamplePlan | None:
    """The form whose weights of 16 bits stay on chip, if they find room there."""
    gates, columns_v = N_GATES[model.cell], block_v(model.n_characters)
    if model.layers > MOST_LAYERS or columns_v > MOST_CHARACTERS:
        return None
    # Units of several warps, so that states on their way to a product pass through shared memory, where the warps meet.
    tiles, width = (2 * model.layers - 1) * gates, max(2 * MIN_TILE, triton.next_power_of_2(model.hidden))
    # States pass through shared memory, with three layers those of two at a time, and sums of several warps.
    states = FEW * (2 if model.layers > 2 else 1)
    room = device.shared - 2 * width * (states + columns_v) - 1024
    resident = max(gates, tiles - room // (2 * width * width))
    # Of a thread: a warp has 16 units of each gate, and where there are more warps than that takes, some have the same.
    weights = resident * width**2 // (64 * min(WARPS, width // 16))
    return (
        SamplePlan("resident", FEW, width, width, width, columns=1, resident=resident) if weights <= WEIGHTS else None
    )


def in_columns(layout: SamplePlan, units: int, device: Device, **changed: int) -> SamplePlan:
    """A plan with columns of some units, as many groups as the device holds, and what else is changed."""
    columns = layout.width // units
    places = {"block_h": units, "columns": columns, "groups": device.multiprocessors // columns}
    return replace(layout, form="columns", **places, **changed)


def fitted(layout: SamplePlan, model: ModelShape, n_rows: int, device: Device = H200, kept: int = 2) -> SamplePlan:
    """The plan for a number of sequences, whose text is the same to the bit whatever that number is.

    Few sequences have columns of few units, where all of them run at once: 128 of three LSTM layers of 512 units took
    an H200 20.5 us a step in columns of 16 units, and 18.6 in columns of 8. More LSTM sequences than a launch holds
    have tiles of twice the height. LSTMs of 128 units whose weights are streamed have columns, too, as long as one
    launch holds all sequences.

    Args:
        layout: `plan`'s choice for the model and the device.
        model, device: these.
        n_rows: number of sequences.
        kept: arrays of a layer that are kept, at most, and scores: with more than two, as with more than 128
            characters, a program of 128 rows spills more registers than has been measured.
    """
    lstm = model.cell == "lstm" and model.itemsize == 2 and device.warp_groups
    columns_v = block_v(model.n_characters)
    if layout.form == "program" and layout.width == 128 and lstm:
        part = 128 * model.itemsize * (columns_v + MIN_TILE)
        output = {"output_k": 128, "output_stages": min(2, (device.shared - SLACK) // part)}
        narrow = in_columns(layout, MIN_TILE, device, block_b=64, stages=3, **output)
        return narrow if n_rows <= narrow.groups * narrow.block_b else layout
    if layout.form != "columns":
        return layout
    # Fewer than 16 columns are another instruction's, and a GRU without reset_after has a product of a single slot.
    least = MIN_TILE if model.cell == "rnn" or not model.reset_after else 8
    for units in sorted({least, MIN_TILE}):
        few = in_columns(layout, units, device)
        if n_rows <= few.groups * few.block_b:
            return few
    tall = replace(layout, block_b=2 * layout.block_b, stages=3)
    launches, of_tall = (triton.cdiv(n_rows, each.groups * each.block_b) for each in (layout, tall))
    # Each of the second kind takes 44.7 us a step, of the first 25.3.
    faster = 7 * of_tall < 4 * launches
    return tall if lstm and kept <= 2 and columns_v <= 128 and faster else layout
