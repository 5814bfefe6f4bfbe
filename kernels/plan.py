"""How a recurrent layer is cut up for a GPU: which rows and units a program has, and where its weights stand.

The grid is two-dimensional: groups of batch rows by columns of units. A plan never has more programs than the device
holds at once, one on each multiprocessor, since the columns of a group wait for each other (`gatescope.kernels.grid`).

Where the weights of a layer are few there is one column and no barrier: in 16 bits, up to 128 units have them in the
registers of each program, which then takes few rows, and as many programs as there are rows for. Where weights do not
fit on the chip, the plan is "steps": a matrix product and one pointwise kernel for each step, which a caller may record
in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import triton

from gatescope.kernels.gpu import Device

SLACK = 4096  # bytes of shared memory left to the compiler
WARPS = 8  # of a persistent program: weights pass through registers on their way to shared memory
FEW_WARPS = 4  # of one with few units or partial sums: each warp reads all of a step's states, or adds one sum more
# Most launches that a layer takes, one after another; with more, a product over all rows for each step is expected to
# be faster. Measured up to two: with 1,024 rows of 512 units in float16 an H200 has 1.27 times cuDNN's speed in an LSTM
# forward, 0.95 in a GRU.
LAUNCHES = 3
# The largest H of which one program with its weights in shared memory does all units of 16 rows; beyond it several
# programs, each with some of the units, are faster in spite of their barrier: two layers of 128 took an LSTM on an H200
# 0.72 ms forward and 1.02 back, and in columns of 32 units 0.51 and 0.75.
ALONE = 64
# The largest H whose weights in 16 bits stand in the registers of one program; compiled for sm_80 they are spilled.
NARROW = 128
MIN_TILE = 16  # rows or columns of a tensor core's product
# Where each warp takes a slice of the inner dimension: warps, and entries that each multiplies at once, by their bytes.
SLICES = {2: (FEW_WARPS, 64), 4: (WARPS, 16)}
SLICED_AHEAD = 12  # tiles of that width, of all warps, on their way at once: as many as registers hold
RESIDENT = (16, 32, 2)  # rows, units and bytes of a weight of a program that keeps weights in registers
RESIDENT_PART, RESIDENT_PARTS = 128, 3  # columns of the weights in a part, and parts that find room in registers
ON_THEIR_WAY = 65536  # bytes of tiles that a program loads at once
STATES = 65536  # bytes of a program's rows: single warps that multiply more of them in large parts spill registers
SUMS = 16384  # of a program, rows x gates x units x bytes of a weight: as many as compile without spilling registers


@dataclass(frozen=True)
class Plan:
    """How one launch works on one layer."""

    form: str  # "persistent" or "steps"
    block_b: int = 0  # batch rows in a program
    block_h: int = 0  # units in a program
    block_k: int = 0  # units of the state before that are multiplied at once
    parts: int = 0  # of that size, which cover H, or a warp's slice
    groups: int = 0  # of batch rows, in one launch
    columns: int = 0  # of units
    ahead: int = 0  # tiles [rows, block_k] on their way to shared memory at once, where they are streamed
    warp_groups: bool = False  # multiply, rather than each warp by itself
    warps: int = WARPS
    slices: int = 0  # of the inner dimension of a sum of several tiles, one for each warp; 0: the warps share the units
    resident: int = 0  # parts of the weights that stand in registers and are multiplied by the states, not they by them

    @property
    def rows(self) -> int:
        """Batch rows in one launch."""
        return self.groups * self.block_b

    def read(self, tiles: int) -> int:
        """Entries that a program reads in a step of what `tiles` tiles of the others' rows are."""
        return self.block_b * self.parts * self.block_k * (self.slices or tiles) if self.columns > 1 else 0


STEPS = Plan("steps")


@cache
def plan(
    n_rows: int,
    hidden: int,
    n_gates: int,
    itemsize: int,
    device: Device,
    tiles: int = 1,
) -> Plan:
    """Choose tile and grid for one layer.

    The weights of a narrow layer in 16 bits stand in one program's registers. Else a tile fits if its weights stand in
    shared memory beside the states that it multiplies, and its sums in registers. All units in one program need no
    barrier and come first, up to `ALONE`. Then the tile wins that takes the fewest launches, one after another, for the
    whole batch; then the fewest rows a program, since a program reads as many states a step; then, at 16 rows, weights
    in registers and the fewest units, and beyond the most units.

    Args:
        n_rows: B.
        hidden: H.
        n_gates: blocks of rows in the recurrent weights.
        itemsize: bytes of a weight.
        device: its limits.
        tiles: how many tiles [rows, H] of what is exchanged a step multiplies.

    Returns:
        A plan of the form "persistent", or `STEPS` where no tile fits or all take too many launches.
    """
    if itemsize == 2 and hidden <= NARROW and device.warp_groups:
        return _narrow(n_rows, hidden, device)
    found, alone = [], ALONE if device.warp_groups else NARROW
    for block_h in (128, 64, 32, 16):
        columns = triton.cdiv(hidden, block_h)
        if columns > device.multiprocessors or (columns == 1 and n_gates > 1 and hidden > alone):
            continue
        for block_b in (16, 32, 64):
            if block_b == 32 and n_gates == 3 and device.warp_groups:
                # A GRU of 768 units and 128 rows took 12.8 us a step so on an H200, an LSTM 6.5.
                continue
            groups = min(device.multiprocessors // columns, triton.cdiv(n_rows, block_b))
            if columns > 1 and triton.cdiv(n_rows, groups * block_b) > LAUNCHES:
                continue
            grid = Plan("persistent", block_b, block_h, groups=groups, columns=columns)
            if columns > 1 and tiles > 1 and block_b == MIN_TILE:
                each = _sliced(grid, hidden, itemsize, device, tiles)
            else:
                each = _tile(grid, hidden, n_gates, itemsize, device, tiles)
                if columns > 1 and tiles == 1 < n_gates and (block_b, block_h, itemsize) == RESIDENT:
                    each = _resident(grid, hidden, device) or each
            if each is not None:
                found.append(each)
    return min(found, key=lambda each: _rank(each, n_rows), default=STEPS)


def _tile(grid: Plan, hidden: int, n_gates: int, itemsize: int, device: Device, tiles: int) -> Plan | None:
    """The parts in which a program multiplies states by its units' weights, if these fit."""
    block_b, block_h = grid.block_b, grid.block_h
    # What the programs of several columns exchange passes through shared memory part by part, as
    # `gatescope.kernels.tiles.sum_of_loaded` has it; a program of one column keeps it in registers.
    streams = grid.columns > 1
    several = streams and tiles > 1
    warp_groups = block_b == 64 and device.warp_groups
    if several and not warp_groups:
        # Products that end in one sum are laid out by the compiler as if each were multiplied by the next: along the
        # rows where there are as many rows as units, and then warps repeat each other's work and run out of registers.
        return None
    block_k, parts = _inner(hidden, (512 if several or block_b == 64 else 1024) // itemsize)
    row_bytes = block_k * itemsize * (1 if streams else tiles * parts)
    # A GRU's gates are one product of few rows, with an empty fourth place.
    places = 4 if streams and not several and n_gates == 3 and block_b == MIN_TILE else n_gates
    free = device.shared - SLACK - places * block_h * parts * block_k * itemsize
    # 32 rows leave half the warps of a product the work of the others, and half the registers.
    sums = block_b * block_h * n_gates * (2 if block_b == 32 and n_gates > 1 else 1)
    if block_h > block_k or free < block_b * row_bytes or sums > SUMS // itemsize:
        return None
    if streams and not warp_groups and block_b * parts * block_k * itemsize > STATES:
        # Beyond these a part takes a quarter of them, so that several are on their way beside the products.
        block_k = min(block_k, STATES // 4 // (block_b * itemsize))
        parts, row_bytes = triton.cdiv(hidden, block_k), block_k * itemsize
    if streams and warp_groups and n_gates == 3 and parts > (3 if several and itemsize == 2 else 2):
        # A GRU has two sums to keep: beside them, tiles of 256 units spill a few bytes from 1024 units on. In float32
        # tiles of 128 do from 384 on; and those of 64, if there are more than eight.
        block_k = 256 // itemsize
        parts, row_bytes = triton.cdiv(hidden, block_k), block_k * itemsize
        if itemsize == 4 and parts > 8:
            return None
    most = (
        1 if several and itemsize == 2 else max(1, ON_THEIR_WAY // (2 if warp_groups else 1) // (block_b * row_bytes))
    )
    ahead = min(free // (block_b * row_bytes), tiles * parts, most) if streams else 0
    # With 8 warps and 16 rows an LSTM of 768 units took an H200 3.8 us a step, with 4 it takes 2.9; of 1024 units 4.4
    # and 3.4. Beyond, and in float32, 4 warps spill.
    few = streams and not several and (block_b, block_h, itemsize) == (MIN_TILE, 16, 2) and parts * block_k <= 1024
    warps = FEW_WARPS if few else WARPS
    return replace(grid, block_k=block_k, parts=parts, ahead=ahead, warp_groups=warp_groups, warps=warps)


def _sliced(grid: Plan, hidden: int, itemsize: int, device: Device, tiles: int) -> Plan | None:
    """The slices of a sum of several tiles of 16 rows, one for each warp, if the weights fit.

    Such a sum has work for two warps. Where all share its units, each reads all rows from shared memory, which takes
    longer than the products: 6.8 us a step of an LSTM of 512 units and 128 rows going back on an H200, 5.1 in slices.
    """
    warps, block_k = SLICES[itemsize]
    inner = warps * block_k
    # Without reset_after a GRU has two such sums, each of whole parts.
    free = device.shared - SLACK - tiles * triton.cdiv(hidden, inner) * inner * grid.block_h * itemsize
    parts = triton.cdiv(tiles * hidden, inner)
    ahead = min(free // (MIN_TILE * inner * itemsize), parts, SLICED_AHEAD)
    if ahead < 1 or grid.block_h > 32:
        return None
    return replace(grid, block_k=block_k, parts=parts, ahead=ahead, warps=warps, slices=warps)


def _resident(grid: Plan, hidden: int, device: Device) -> Plan | None:
    """Weights in registers, multiplied by the states, if most of them find room there.

    Two groups of four warps have 64 gates each. Weights in shared memory are read again in every step, and that takes
    longer than the products: 3.8 us a step of an LSTM of 512 units and 128 rows on an H200, 3.1 from registers.
    """
    parts = triton.cdiv(hidden, RESIDENT_PART)
    if parts > RESIDENT_PARTS + 1 or not device.warp_groups:
        return None
    return replace(grid, block_k=RESIDENT_PART, parts=parts, ahead=parts, resident=min(parts, RESIDENT_PARTS))


def _narrow(n_rows: int, hidden: int, device: Device) -> Plan:
    """All units in one program, its weights in registers: no barrier, and few rows, of which there are many programs.

    A step of an LSTM of 128 units is 169 instructions of each of 8 warps for four rows, and 260 for eight (float16, as
    compiled for an H200), 32 of them products either way. In columns of 32 units, which 2 x 128 was measured with
    before, it would be 185 for 16 rows, and after them the exchange through the L2 cache. Not timed yet. Eight rows of
    an odd number of units above 64 spill registers.
    """
    block_h = max(MIN_TILE, triton.next_power_of_2(hidden))
    block_b = 4 if n_rows <= 4 * device.multiprocessors else 8
    warps = WARPS if block_h == NARROW else FEW_WARPS
    return Plan("persistent", block_b, block_h, block_h, 1, triton.cdiv(n_rows, block_b), 1, warps=warps, resident=1)


def _rank(found: Plan, n_rows: int) -> tuple[bool, int, int, bool, int]:
    launches = triton.cdiv(n_rows, found.rows)
    fewest_units = found.block_b == MIN_TILE and found.columns > 1
    return (
        found.columns > 1,
        launches,
        found.block_b,
        found.resident == 0,
        found.block_h if fewest_units else -found.block_h,
    )


def _inner(hidden: int, largest: int) -> tuple[int, int]:
    """The parts in which H units are multiplied: as little beyond H as four parts allow, few first.

    At most `largest` units in a part: a larger tile of 64 rows would take the registers that its sums need.
    """
    if hidden <= 128:
        return max(MIN_TILE, triton.next_power_of_2(hidden)), 1
    sizes = [size for size in (512, 256, 128) if size <= largest and triton.cdiv(hidden, size) <= 4] or [largest]
    size = min(sizes, key=lambda size: triton.cdiv(hidden, size) * size)
    return size, triton.cdiv(hidden, size)
