"""How a recurrent layer is spread over a GPU: tiles, the grid, and the barrier between its programs.

A persistent kernel is launched once for a whole sequence. Its grid is two-dimensional: groups of batch rows by columns
of units. A program keeps the recurrent weights of its units on chip for all steps. Within a step it needs the state of
its rows from every column, and nothing from other groups, so the barrier of a step spans the columns of one group.

The barrier is a counter per group that only grows: a program adds one when its part of the step is in memory (release),
and goes on when all columns have (acquire). The counters are fresh and zeroed for each launch, in the launch's stream,
so a CUDA graph repeats the zeroing with the launch. A spinning program needs the others to run: the plan never has more
programs than the device holds at once, one on each multiprocessor, and the launch is cooperative, so that the driver
refuses what would not fit rather than let it hang.

Where the weights of a layer fit into one program there is one column and no barrier. Where they do not fit on the chip,
the plan says "steps": a matrix product and one pointwise kernel for each step, which a caller may record in a CUDA
graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

COUNTER_STRIDE = tl.constexpr(32)  # int32 between the counters of two groups: each on a cache line of its own
SLACK = 4096  # bytes of shared memory left to the compiler
RUNTIME = ["t0", "t1", "row0", "n_rows", "n_steps", "first_row", "layer"]  # arguments whose values make no new kernel
WARPS = 8  # of a persistent program: weights pass through registers on their way to shared memory
MIN_TILE = 16  # rows or columns of a tensor core's product


@dataclass(frozen=True)
class Device:
    """What a plan needs to know of a GPU."""

    multiprocessors: int
    shared: int  # bytes of shared memory that one program may have


A100 = Device(108, 163 * 1024)
H200 = Device(132, 227 * 1024)


@dataclass(frozen=True)
class Plan:
    """How one launch works on one layer."""

    form: str  # "persistent" or "steps"
    block_b: int = 0  # batch rows in a program
    block_h: int = 0  # units in a program
    block_k: int = 0  # units of the state before that are multiplied at once
    parts: int = 0  # of that size, which cover H
    groups: int = 0  # of batch rows, in one launch
    columns: int = 0  # of units

    @property
    def rows(self) -> int:
        """Batch rows in one launch."""
        return self.groups * self.block_b


STEPS = Plan("steps")


def device_of(x: Tensor) -> Device:
    """The limits of the GPU that holds a tensor; an H200's where there is none, for the interpreter."""
    return _limits(x.device.index or 0) if x.is_cuda else H200


@cache
def _limits(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    shared = getattr(properties, "shared_memory_per_block_optin", 48 * 1024)
    return Device(properties.multi_processor_count, shared)


def plan(n_rows: int, hidden: int, n_gates: int, itemsize: int, device: Device, tiles: int = 1) -> Plan:
    """Choose tile and grid for one layer.

    A tile fits if its weights stand in shared memory beside the states that it multiplies. All units in one program
    need no barrier and come first. Else the smallest tile wins with which 16 batch rows a program cover the whole
    batch in one launch, since a step reads a program's weights once; and for larger batches the largest tile, with as
    many rows as it takes, up to 64. What is left of the batch takes further launches.

    Args:
        n_rows: B.
        hidden: H.
        n_gates: blocks of rows in the recurrent weights.
        itemsize: bytes of a weight.
        device: its limits.
        tiles: how many tiles [rows, H] of what is exchanged stand in shared memory at once.

    Returns:
        A plan of the form "persistent", or `STEPS` where no tile fits.
    """
    block_k, parts = _inner(hidden)
    row_bytes = tiles * parts * block_k * itemsize
    fitting = []
    for block_h in (128, 64, 32, 16):
        columns = triton.cdiv(hidden, block_h)
        weights = n_gates * block_h * parts * block_k * itemsize
        room = (device.shared - SLACK - weights) // row_bytes
        if block_h <= block_k and columns <= device.multiprocessors and room >= MIN_TILE:
            fitting.append((block_h, columns, room))
    if not fitting:
        return STEPS
    least_groups = triton.cdiv(n_rows, MIN_TILE)
    covering = [each for each in fitting if each[1] * least_groups <= device.multiprocessors]
    block_h, columns, room = fitting[0] if fitting[0][1] == 1 or not covering else covering[-1]
    groups = device.multiprocessors // columns
    most = 2 ** (min(room, 64).bit_length() - 1)
    block_b = min(most, max(MIN_TILE, triton.next_power_of_2(triton.cdiv(n_rows, groups))))
    groups = min(groups, triton.cdiv(n_rows, block_b))
    return Plan("persistent", block_b, block_h, block_k, parts, groups, columns)


def _inner(hidden: int) -> tuple[int, int]:
    """The parts in which H units are multiplied: as little beyond H as four parts of at most 512 allow, few first."""
    if hidden <= 128:
        return max(MIN_TILE, triton.next_power_of_2(hidden)), 1
    sizes = [size for size in (512, 256, 128) if triton.cdiv(hidden, size) <= 4] or [512]
    size = min(sizes, key=lambda size: triton.cdiv(hidden, size) * size)
    return size, triton.cdiv(hidden, size)


@dataclass(frozen=True)
class Launch:
    """A kernel with everything that it is called with; the compiler's tests read tile and signature from here."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]  # tensors, None and integers, in the kernel's order
    constants: dict[str, Any]
    cooperative: bool = False
    warps: int = WARPS

    @property
    def options(self) -> dict[str, Any]:
        """What the compiler is told."""
        return {"num_warps": self.warps, "num_stages": 1, "launch_cooperative_grid": self.cooperative}

    def __call__(self, **changed: Any) -> None:
        self.kernel[self.grid](**(self.arguments | self.constants | changed), **self.options)


def counters(groups: int, like: Tensor) -> Tensor:
    """Fresh zeroed counters, one for each group."""
    return torch.zeros(groups * COUNTER_STRIDE.value, dtype=torch.int32, device=like.device)


@triton.jit
def arrive(counter_ptr):
    """Say that this program's stores of the step are done: all its threads first, then one release."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")


@triton.jit
def wait(counter_ptr, arrivals, INTERPRET: tl.constexpr):
    """Wait until a counter has reached a number of arrivals.

    Every thread polls by itself, so every thread's later loads come after what the arrived have released. The
    interpreter runs programs one after another and one step a launch, so that there is nothing to wait for.
    """
    if not INTERPRET:
        tl.inline_asm_elementwise(
            """
            {
            .reg .pred %waiting;
            .reg .s32 %seen;
            again:
            ld.acquire.gpu.global.s32 %seen, [$1];
            setp.lt.s32 %waiting, %seen, $2;
            @%waiting bra again;
            mov.s32 $0, %seen;
            }
            """,
            "=r,l,r",
            [counter_ptr, arrivals],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
