"""The launch of a persistent kernel, and the barrier between its programs.

A persistent kernel is launched once for a whole sequence. A program keeps the recurrent weights of its units on chip.
Within a step it needs the state of its rows from every column of units, and nothing from other groups of rows, so the
barrier of a step spans the columns of one group (`gatescope.kernels.plan`).

The barrier is a counter per group that only grows: a program adds one when its part of the step is in memory (release),
and goes on when all columns have (acquire). The counters are fresh and zeroed for each launch, in the launch's stream,
so a CUDA graph repeats the zeroing with the launch. A spinning program needs the others to run: the plan has no more
programs than the device holds at once, and the launch is cooperative, so that the driver refuses what would not fit
rather than let it hang.

What the kernels of all cells are given beside their tensors (`gatescope.kernels.fused.persistent`): `t0`, `t1`, the
steps of the launch, and `row0`, its first row; `n_rows` B and `n_steps` T; `first_row`, the number of the batch's first
row among those of all processes, and `layer`, for the random numbers of dropout with probability `P`; and what
`gatescope.kernels.plan.Plan` says of H: BLOCK_B, BLOCK_H, BLOCK_K, PARTS, COLUMNS, AHEAD, WARP_GROUPS, RESIDENT and
SLICES.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatescope.kernels.backend import interpreting
from gatescope.kernels.plan import FEW_WARPS, WARPS

COUNTER_STRIDE = tl.constexpr(32)  # int32 between the counters of two groups: each on a cache line of its own
# Arguments whose values make no new kernel.
RUNTIME = ["t", "t0", "t1", "row0", "n_rows", "n_steps", "first_step", "first_row", "layer"]
INTERPRETED = tl.constexpr(interpreting())  # as kernels see it, which become what they are when they are imported
REGISTERS = 255  # of a thread, the most there are: only one program at a time runs on a multiprocessor


@dataclass(frozen=True)
class Launch:
    """A kernel with everything that it is called with; the compiler's tests read tile and signature from here."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]  # tensors, None and numbers
    constants: dict[str, Any]
    cooperative: bool = False
    warps: int = WARPS
    # What runs the compiled kernel, and its arguments but for those that change, by the kind of the latter.
    _compiled: dict[tuple[Any, ...], tuple[Any, dict[str, Any]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def options(self) -> dict[str, Any]:
        """What the compiler is told."""
        return {
            "num_warps": self.warps,
            "num_stages": 1,
            "launch_cooperative_grid": self.cooperative,
            # All registers that a thread can have: by itself the compiler spills to make room for a second program.
            "maxnreg": REGISTERS if self.warps >= FEW_WARPS else None,
        }

    def __call__(self, **changed: Any) -> None:
        """Launch it on the current device, some tensors and numbers that make no new kernel changed.

        Triton takes longer to bind the arguments of a call, and to find the kernel that they ask for, than a GPU for a
        step: that is done once for all launches of a kind, and the compiled kernel launched from then on.
        """
        if interpreting():
            self.kernel[self.grid](**(self.arguments | self.constants | changed), **self.options)
            return
        kind = tuple(map(_kind, changed.values()))
        if kind not in self._compiled:
            given = self.arguments | self.constants
            # Unlike the kernel, what runs the compiled one knows its arguments by their places alone.
            self._compiled[kind] = self._runner(changed), {name: given[name] for name in self.kernel.arg_names}
        run, given = self._compiled[kind]
        run(*(given | changed).values())

    def _runner(self, changed: dict[str, Any]) -> Any:
        """What runs the compiled kernel, in this process compiled or found once."""
        arguments = self.arguments | changed
        kinds = (_kind(arguments[n]) if n in arguments else self.constants[n] for n in self.kernel.arg_names)
        device = torch.cuda.current_device() if torch.cuda.is_available() else None
        key = (self.kernel, device, *self.options.values(), *kinds)
        if key not in _COMPILED:
            _COMPILED[key] = self.kernel.warmup(grid=self.grid, **arguments, **self.constants, **self.options)
        return _COMPILED[key][(*self.grid, 1, 1)[:3]]


# Kernels by all that makes another.
_COMPILED: dict[tuple[Any, ...], Any] = {}


def _kind(value: Any) -> Any:
    """What of an argument makes another kernel; the values of numbers make none."""
    if isinstance(value, Tensor):
        # One for whole vectors of 16 bytes is another than for tensors that begin anywhere.
        return value.dtype, value.data_ptr() % 16 == 0
    if isinstance(value, tuple):
        return tuple(map(_kind, value))
    if isinstance(value, int):
        return type(value), "i32" if -(2**31) <= value < 2**31 else "i64" if value < 2**63 else "u64"
    return type(value)


def counters(groups: int, like: Tensor) -> Tensor:
    """Fresh zeroed counters, one for each group."""
    return torch.zeros(groups * COUNTER_STRIDE.value, dtype=torch.int32, device=like.device)


@triton.jit
def arrive(counter_ptr):
    """Say that this program's stores of the step are done: all its threads first, then one release."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")


@triton.jit
def wait(counter_ptr, arrivals):
    """Wait until a counter has reached a number of arrivals.

    Every thread polls by itself, so every thread's later loads come after what the arrived have released. The
    interpreter runs programs one after another and one step a launch, so that there is nothing to wait for.
    """
    if not INTERPRETED:
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
