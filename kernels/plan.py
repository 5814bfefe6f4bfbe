"""How a recurrent layer is divided over a GPU: which rows and units a program takes, and where its weights are kept.

The grid is two-dimensional: groups of batch rows by columns of units. A plan never has more programs than the device
holds at once, one on each multiprocessor, since the columns of a group wait for each other (`gatescope.kernels.grid`).

A layer with few weights takes one column and no barrier: up to 128 units of 16-bit weights fit in the registers of each
program, which then takes few rows, and there are as many programs as the rows need. If the weights do not fit on the
chip, the plan is "steps": a matrix product and one pointwise kernel for each step, which a caller may record in a CUDA
graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import triton

from gatescope.kernels.gpu import Device

SLACK = 4096  # bytes of shared memory left to the compiler
WARPS = 8  # of a persistent program: weights pass through registers on their way to shared memory
FEW_WARPS = 4  # with few units or partial sums: each further warp reads all of a step's states, or adds one more sum
# The most launches that a layer takes, one after another. With more, a product over all rows in each step is expected
# to be faster. Measured up to two: with 1,024 rows of 512 units in float16, an H200 reaches 1.27 times cuDNN's speed in
# an LSTM forward, and 0.95 times in a GRU.
LAUNCHES = 3
# The largest H for which one program, with its weights in shared memory, takes all units of 16 rows. Beyond it several
# programs, each with some of the units, are faster in spite of their barrier: an LSTM of two layers of 128 units took
# an H200 0.72 ms forward and 1.02 back, and in columns of 32 units 0.51 and 0.75.
ALONE = 64
# The largest H whose 16-bit weights fit in the registers of one program; compiled for sm_80 they spill.
NARROW = 128
MIN_TILE = 16  # rows or columns of a tensor core's product
# If each warp takes a slice of the inner dimension: warps, and entries that each multiplies at once, by bytes a weight.
SLICES = {2: (FEW_WARPS, 64), 4: (WARPS, 16)}
SLICED_AHEAD = 12  # tiles of that width, of all warps, in flight at once: as many as the registers hold
RESIDENT = (16, 32, 2)  # rows, units and bytes of a weight of a program that keeps weights in registers
RESIDENT_PART, RESIDENT_PARTS = 128, 3  # columns of the weights in a part, and parts that fit in registers
ON_THEIR_WAY = 65536  # bytes of tiles that a program loads at once
STATES = 65536  # bytes of a program's rows: single warps that multiply more of them in large parts spill registers
SUMS = 16384  # rows x gates x units x bytes of a weight in a program: the most that compile without spilling registers


@dataclass(frozen=True)
class Plan:
    """How one launch computes one layer."""

    form: str  # "persistent" or "steps"
    block_b: int = 0  # batch rows in a program
    block_h: int = 0  # units in a program
    block_k: int = 0  # units of the previous state that are multiplied at once
    parts: int = 0  # of that size, which cover H, or a warp's slice
    groups: int = 0  # of batch rows, in one launch
    columns: int = 0  # of units
    ahead: int = 0  # tiles [rows, block_k] in flight to shared memory at once, if they are streamed
    warp_groups: bool = False  # whether warp groups multiply, rather than each warp by itself
    warps: int = WARPS
    slices: int = 0  # of the inner dimension of a sum of several tiles, one for each warp; 0: the warps share the units
    resident: int = 0  # parts of the weights kept in registers, as the left factor of the product

    @property
    def rows(self) -> int:
        """Batch rows in one launch."""
        return self.groups * self.block_b

    def read(self, tiles: int) -> int:
        """Entries that a program reads in a step, if it multiplies `tiles` tiles [rows, H] that its group exchanges."""
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
    """Choose the tile and the grid for one layer.

    The 16-bit weights of a narrow layer are kept in one program's registers. Otherwise a tile fits if its weights and
    the states that they multiply fit in shared memory, and its sums in registers. A program that takes all units needs
    no barrier and is preferred, up to `ALONE`. Of the other tiles, the one with the fewest launches, one after another,
    for the whole batch wins; then the one with the fewest rows a program, since a program reads as many states in a
    step; then, at 16 rows, the one with weights in registers and the fewest units, and beyond 16 rows the one with the
    most units.

    Args:
        n_rows: B.
        hidden: H.
        n_gates: blocks of rows in the recurrent weights.
        itemsize: bytes of a weight.
        device: its limits.
        tiles: how many exchanged tiles [rows, H] a step multiplies.

    Returns:
        A plan of the form "persistent", or `STEPS` if no tile fits or all take too many launches.
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
                # On an H200 this takes a GRU of 768 units and 128 rows 12.8 us a step; an LSTM takes 6.5.
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
    """The parts in which a program multiplies states by its units' weights, if they fit."""
    block_b, block_h = grid.block_b, grid.block_h
    # The states that several columns exchange pass through shared memory part by part, as
    # `gatescope.kernels.tiles.sum_of_loaded` reads them; a program of one column keeps its own in registers.
    streams = grid.columns > 1
    several = streams and tiles > 1
    warp_groups = block_b == 64 and device.warp_groups
    if several and not warp_groups:
        # The compiler mistakes products that add up to one sum for a chain, each a factor of the next. With as many
        # rows as units it lays their warps out along the rows: they repeat each other's work and run out of registers.
        return None
    block_k, parts = _inner(hidden, (512 if several or block_b == 64 else 1024) // itemsize)
    row_bytes = block_k * itemsize * (1 if streams else tiles * parts)
    # With few rows a GRU's gates come from one product of four places, the fourth empty.
    places = 4 if streams and not several and n_gates == 3 and block_b == MIN_TILE else n_gates
    free = device.shared - SLACK - places * block_h * parts * block_k * itemsize
    # With 32 rows, half the warps of a product repeat the work of the other half, which leaves half the registers.
    sums = block_b * block_h * n_gates * (2 if block_b == 32 and n_gates > 1 else 1)
    if block_h > block_k or free < block_b * row_bytes or sums > SUMS // itemsize:
        return None
    if streams and not warp_groups and block_b * parts * block_k * itemsize > STATES:
        # Beyond STATES a part takes a quarter of it, so that several are in flight beside the products.
        block_k = min(block_k, STATES // 4 // (block_b * itemsize))
        parts, row_bytes = triton.cdiv(hidden, block_k), block_k * itemsize
    if streams and warp_groups and n_gates == 3 and parts > (3 if several and itemsize == 2 else 2):
        # A GRU keeps two sums. Beside them, tiles of 256 units spill a few bytes from 1024 units on. In float32 tiles
        # of 128 spill from 384 units on, and tiles of 64 if there are more than eight.
        block_k = 256 // itemsize
        parts, row_bytes = triton.cdiv(hidden, block_k), block_k * itemsize
        if itemsize == 4 and parts > 8:
            return None
    most = (
        1 if several and itemsize == 2 else max(1, ON_THEIR_WAY // (2 if warp_groups else 1) // (block_b * row_bytes))
    )
    ahead = min(free // (block_b * row_bytes), tiles * parts, most) if streams else 0
    # With 8 warps and 16 rows an LSTM of 768 units takes an H200 3.8 us a step, with 4 warps 2.9; one of 1024 units 4.4
    # and 3.4. With more units, and in float32, 4 warps spill.
    few = streams and not several and (block_b, block_h, itemsize) == (MIN_TILE, 16, 2) and parts * block_k <= 1024
    warps = FEW_WARPS if few else WARPS
    return replace(grid, block_k=block_k, parts=parts, ahead=ahead, warp_groups=warp_groups, warps=warps)


def _sliced(grid: Plan, hidden: int, itemsize: int, device: Device, tiles: int) -> Plan | None:
    """The slices of a sum of several tiles of 16 rows, one for each warp, if the weights fit.

    Such a sum has work for only two warps. If all warps share its units, each reads all rows from shared memory, which
    takes longer than the products: going back through an LSTM of 512 units and 128 rows takes an H200 6.8 us a step,
    and 5.1 in slices.
    """
    warps, block_k = SLICES[itemsize]
    inner = warps * block_k
    # Without reset_after a GRU has two such sums, each padded to whole parts.
    free = device.shared - SLACK - tiles * triton.cdiv(hidden, inner) * inner * grid.block_h * itemsize
    parts = triton.cdiv(tiles * hidden, inner)
    ahead = min(free // (MIN_TILE * inner * itemsize), parts, SLICED_AHEAD)
    if ahead < 1 or grid.block_h > 32:
        return None
    return replace(grid, block_k=block_k, parts=parts, ahead=ahead, warps=warps, slices=warps)


def _resident(grid: Plan, hidden: int, device: Device) -> Plan | None:
    """Weights kept in registers, on the left of the product, if most of them fit there.

    Each of two groups of four warps takes 64 gates. Weights in shared memory are read again in every step, which takes
    longer than the products: 3.8 us a step for an LSTM of 512 units and 128 rows on an H200, against 3.1 from
    registers.
    """
    parts = triton.cdiv(hidden, RESIDENT_PART)
    if parts > RESIDENT_PARTS + 1 or not device.warp_groups:
        return None
    return replace(grid, block_k=RESIDENT_PART, parts=parts, ahead=parts, resident=min(parts, RESIDENT_PARTS))


def _narrow(n_rows: int, hidden: int, device: Device) -> Plan:
    """All units in one program with its weights in registers: no barrier, and many programs of few rows each.

    A step of an LSTM of 128 units takes each of 8 warps 169 instructions for four rows, and 260 for eight (float16, as
    compiled for an H200); 32 of them are products either way. In columns of 32 units, as 2 x 128 was measured before,
    it would take 185 for 16 rows, followed by the exchange through the L2 cache. Not timed yet. Eight rows of an odd
    number of units above 64 spill registers.
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
    """Size and number of the parts of H: at most four if the size allows, with the least padding, the fewest first.

    A part has at most `largest` units: a larger tile of 64 rows would take the registers that its sums need.
    """
    if hidden <= 128:
        return max(MIN_TILE, triton.next_power_of_2(hidden)), 1
    sizes = [size for size in (512, 256, 128) if size <= largest and triton.cdiv(hidden, size) <= 4] or [largest]
    size = min(sizes, key=lambda size: triton.cdiv(hidden, size) * size)
    return size, triton.cdiv(hidden, size)
