"""How the sampler's kernels are divided over a GPU: which rows and units a program takes.

`plan` chooses a form by the model and the device; `fitted` then adapts it to the number of sequences. A row is summed
in the same order in every adaptation of a plan, so that a sequence's text and states are the same to the bit whatever
runs beside it.

"resident", up to 128 units, 128 characters and 3 layers in 16 bits, on a device with 227 KB of shared memory a program
and 255 registers a thread (sm_90): one program runs all layers of 8 sequences, and programs are independent. All
weights stay on chip for the whole launch: those of layer 0 in registers, the others in shared memory as far as it holds
them, and the rest in registers too. Two LSTM layers of 128 units, 384 KB, and an output layer of 128 characters, 32 KB,
take six tiles of 32 KB in registers, 192 of a thread's 255, and six in shared memory. 1,024 sequences are 128 programs,
one on each multiprocessor of an H200 but four.

"program", H <= 128: one program of 16 sequences streams its weights from the L2 cache in every step, asynchronously and
ahead of the products. It is for weights that do not fit on the chip: three layers of 128 units with gates, 300
characters, float32, or sm_80. LSTMs of 128 units in 16 bits run in columns instead, for as many sequences as one launch
holds.

"columns": the units are split over the programs of a group of 64 or 128 sequences, which meet at a barrier after each
layer. Each program streams its own columns of the weights and the states of its rows from L2 in every step: in 16 bits
the five matrices of three LSTM layers of 512 units take 640 KB for 32 units. A multiprocessor's 227 KB would hold one
of these matrices, and a launch has eight groups (H200), so that eight programs need every column of weights. No weights
stay in shared memory from one step to the next. A batch that the device does not hold at once is processed group by
group in several launches.

"steps": torch's operators step by step (`gatescope.kernels.sample.Recurrence`), if the output layer does not fit into a
program's registers, or the units on the device.

Traffic through L2 for one step of L layers of H units: each program of a group reads (2 L - 1) 4 H BLOCK_H weights and
(2 L - 1) H states a row, with BLOCK_H = H if it runs by itself. For three layers of 512 and 512 sequences in groups of
64 that is 126 MB a step in a launch of 128 programs.

On an NVIDIA H200 (torch 2.11, Triton 3.6, bfloat16, h and c kept; the kernel alone, as
`python -m benchmarks.sampler_tiles` times it) sampling 1,024 sequences took, in microseconds a step, as measured before
activations became shorter (a step of 128 x 32 had 7,467 instructions and has 4,310 now):

    3 x 512   64 rows x 32 units in two launches 50.6; 64 x 64 46.2; 128 x 32 44.7, though it spills 40 bytes a thread
              (72 now, 14 loads a step); the last two in parts of 32 units 48.0 and, without spills, 46.4
    2 x 128   programs of 16 rows 13.8; columns of 32 rows x 32 units 10.4, 16 x 64 11.3, 64 x 32 12.8, 64 x 16 10.0;
              resident: not measured (801 instructions of a warp in a step, where columns of 64 x 16 had 1,335 and met
              three times; 32 of them are loads of spilled values, cells and addresses)

All of those measured gave the same characters and states to the bit. If all gates are kept, 128 rows spill 240 bytes:
not measured, and not used. Nor was a GRU measured in such tiles. Traffic alone does not bound a step: on an H100 none
of three tiles reads a given text of 3 x 512 in less than 40 us, and the choice took the other 9 to 19 us; of the 13.8
of 2 x 128 it takes 3.

Not built: processing a large batch in two phases, the products of one half while the other half waits at its barrier.
Between its arrival at a barrier and its wait there, each program already computes the next layer's recurrent product,
which needs nothing from the others: 196 KB, 4 us at that rate. The only wait that is not hidden is for the choice, once
a step. To hide it, two phases of half the rows would stream the weights once for each half, for 512 sequences 84 MB
more, 14 us at that rate; for 1,024 sequences that is no more than two launches load. Not measured; nor is multicast of
weights within a cluster, which Gluon supports from Triton 3.7 on but not in 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import triton

from gatescope.kernels.checks import N_GATES
from gatescope.kernels.gpu import H200, Device
from gatescope.kernels.plan import MIN_TILE, NARROW, SLACK, WARPS
from gatescope.kernels.sample_weights import SLOTS, block_v

LOGITS = 8192  # of a tile: the most that a program's registers hold beside their sums in float64


@dataclass(frozen=True)
class SamplePlan:
    """How the sampler runs a model."""

    form: str  # "resident", "program", "columns" or "steps"
    block_b: int = 0  # sequences in a program
    block_h: int = 0  # units of each layer in a program
    block_k: int = 0  # units of the state that are multiplied at once
    width: int = 0  # H, padded to whole blocks
    columns: int = 0  # programs that share a group of sequences
    groups: int = 0  # of sequences in one launch, at most
    stages: int = 0  # parts of a product in flight at once
    output_k: int = 0  # units that the output layer multiplies at once
    output_stages: int = 0
    resident: int = 0  # tiles of a gate's weights that stay in registers, if all weights stay on chip


STEPS = SamplePlan("steps")
FEW = 8  # sequences in a program whose weights stay on chip: the columns of a tensor core's product
WEIGHTS = 192  # of a thread's 255 registers, the most that hold weights
# Limits of models whose weights stay on chip: beyond, there is no room beside them for states and the choice.
MOST_LAYERS, MOST_CHARACTERS = 3, 128


@dataclass(frozen=True)
class ModelShape:
    """What a plan needs to know about a model.

    Args:
        cell: "lstm", "gru" or "rnn".
        hidden, layers, n_characters: H, L, V.
        itemsize: bytes of a weight.
        reset_after: for the gru.
    """

    cell: str
    hidden: int
    layers: int
    n_characters: int
    itemsize: int
    reset_after: bool = True


def plan(model: ModelShape, device: Device = H200) -> SamplePlan:
    """Choose form and tile of the sampler: a function of only the model and the device."""
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
    # Offsets into the weights have 32 bits.
    counted = (2 * model.layers - 1) * slots * width * width < 2**31
    if MIN_TILE * columns_v > LOGITS or columns > device.multiprocessors or not counted:
        return STEPS
    # As much as the registers hold. Compiled for sm_80 and sm_90 in float16 and bfloat16, nothing spills up to 256
    # characters (except 32 bytes a thread of 3 x 512); from 257 to 512 it is 120 to 850 bytes, whose cost was not
    # measured.
    large = narrow or (device.warp_groups and model.reset_after)
    block_k = min(width, 16 if itemsize == 4 else 64 if large else 32)
    # Asynchronous loads bypass the first-level cache only if they take 16 bytes, and a program has 256 threads: a part
    # is 128 units of the 16 rows that it chooses for. Within a single program the cache sees all stores.
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
    """The form whose 16-bit weights stay on chip, if they fit."""
    gates, columns_v = N_GATES[model.cell], block_v(model.n_characters)
    if model.layers > MOST_LAYERS or columns_v > MOST_CHARACTERS:
        return None
    # Units of several warps, so that states on their way to a product pass through shared memory, where the warps meet.
    tiles, width = (2 * model.layers - 1) * gates, max(2 * MIN_TILE, triton.next_power_of_2(model.hidden))
    # Shared memory takes the states on their way (with three layers, of two at a time) and sums of several warps.
    states = FEW * (2 if model.layers > 2 else 1)
    room = device.shared - 2 * width * (states + columns_v) - 1024
    resident = max(gates, tiles - room // (2 * width * width))
    # Registers of a thread: a warp has 16 units of each gate; any further warps hold the same units again.
    weights = resident * width**2 // (64 * min(WARPS, width // 16))
    return (
        SamplePlan("resident", FEW, width, width, width, columns=1, resident=resident) if weights <= WEIGHTS else None
    )


def in_columns(layout: SamplePlan, units: int, device: Device, **changed: int) -> SamplePlan:
    """A plan with columns of this many units, as many groups as the device holds, and other changes."""
    columns = layout.width // units
    places = {"block_h": units, "columns": columns, "groups": device.multiprocessors // columns}
    return replace(layout, form="columns", **places, **changed)


def fitted(layout: SamplePlan, model: ModelShape, n_rows: int, device: Device = H200, kept: int = 2) -> SamplePlan:
    """The plan for a number of sequences, whose texts are the same to the bit whatever that number is.

    Few sequences get columns of few units if all of them then run at once: 128 sequences of three LSTM layers of 512
    units took an H200 20.5 us a step in columns of 16 units, and 18.6 in columns of 8. More LSTM sequences than a
    launch holds get tiles of twice the height. LSTMs of 128 units whose weights are streamed get columns, too, as long
    as one launch holds all sequences.

    Args:
        layout: `plan`'s choice for the model and the device.
        model, device: the model and the device.
        n_rows: number of sequences.
        kept: the most arrays that are kept of a layer, plus the scores: with more than two, as with more than 128
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
    # Fewer than 16 columns take another instruction, and a GRU without reset_after has a product with a single slot.
    least = MIN_TILE if model.cell == "rnn" or not model.reset_after else 8
    for units in sorted({least, MIN_TILE}):
        few = in_columns(layout, units, device)
        if n_rows <= few.groups * few.block_b:
            return few
    tall = replace(layout, block_b=2 * layout.block_b, stages=3)
    launches, of_tall = (triton.cdiv(n_rows, each.groups * each.block_b) for each in (layout, tall))
    # A tall launch takes 44.7 us a step, the other 25.3.
    faster = 7 * of_tall < 4 * launches
    return tall if lstm and kept <= 2 and columns_v <= 128 and faster else layout
