"""The launch of a persistent kernel, and the barrier between its programs.

A persistent kernel is launched once for a whole sequence. A program keeps the recurrent weights of its units on chip.
Within a step it needs the states of its rows from every column of units, and nothing from other groups of rows, so the
barrier of a step spans the columns of one group (`gatescope.kernels.plan`).

The barrier is one monotone counter per group: a program adds one when its part of the step is in memory (release), and
continues when all columns have done so (acquire). The counters are allocated and zeroed for each launch, in the
launch's stream, so a CUDA graph repeats the zeroing with the launch. A spinning program needs the others to run. The
plan therefore has no more programs than the device holds at once, and the launch is cooperative: the driver refuses a
grid that does not fit instead of letting it hang.

Besides their tensors, the kernels of all cells take (`gatescope.kernels.fused.persistent`): `t0`, `t1`, the steps of
the launch, and `row0`, its first row; `n_rows` B and `n_steps` T; `first_row`, the number of the batch's first row
among those of all processes, and `layer`, for the random numbers of dropout with probability `P`; and from
`gatescope.kernels.plan.Plan`, with H: BLOCK_B, BLOCK_H, BLOCK_K, PARTS, COLUMNS, AHEAD, WARP_GROUPS, RESIDENT and
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

COUNTER_STRIDE = tl.constexpr(32)  # int32 between the counters of two groups: each has a cache line of its own
# Arguments on whose values kernels are not specialised.
RUNTIME = ["t", "t0", "t1", "row0", "n_rows", "n_steps", "first_step", "first_row", "layer"]
INTERPRETED = tl.constexpr(interpreting())  # for kernels, which are compiled or interpreted as decided at their import
REGISTERS = 255  # of a thread, the most there are: only one program at a time runs on a multiprocessor


@dataclass(frozen=True)
class Launch:
    """A kernel with all its arguments; the compiler's tests read tile and signature from here."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]  # tensors, None and numbers
    constants: dict[str, Any]
    cooperative: bool = False
    warps: int = WARPS
    # The runner of the compiled kernel, and its arguments other than the changed ones, by the kinds of the changed
    # ones.
    _compiled: dict[tuple[Any, ...], tuple[Any, dict[str, Any]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the compiler."""
        return {
            "num_warps": self.warps,
            "num_stages": 1,
            "launch_cooperative_grid": self.cooperative,
            # All registers that a thread can have: left alone, the compiler spills to make room for a second program.
            "maxnreg": REGISTERS if self.warps >= FEW_WARPS else None,
        }

    def __call__(self, **changed: Any) -> None:
        """Launch it on the current device, with some tensors and numbers changed that require no new kernel.

        Triton takes longer to bind a call's arguments and look up the kernel for them than a GPU takes for a step. This
        is done once for all launches of a kind; from then on the compiled kernel is launched directly.
        """
        if interpreting():
            self.kernel[self.grid](**(self.arguments | self.constants | changed), **self.options)
            return
        kind = tuple(map(_kind, changed.values()))
        if kind not in self._compiled:
            given = self.arguments | self.constants
            # Unlike the kernel, the runner of the compiled one takes its arguments by position only.
            self._compiled[kind] = self._runner(changed), {name: given[name] for name in self.kernel.arg_names}
        run, given = self._compiled[kind]
        run(*(given | changed).values())

    def _runner(self, changed: dict[str, Any]) -> Any:
        """The runner of the compiled kernel, which is compiled or looked up once in this process."""
        arguments = self.arguments | changed
        kinds = (_kind(arguments[n]) if n in arguments else self.constants[n] for n in self.kernel.arg_names)
        device = torch.cuda.current_device() if torch.cuda.is_available() else None
        key = (self.kernel, device, *self.options.values(), *kinds)
        if key not in _COMPILED:
            _COMPILED[key] = self.kernel.warmup(grid=self.grid, **arguments, **self.constants, **self.options)
        return _COMPILED[key][(*self.grid, 1, 1)[:3]]


# Compiled kernels, by everything on which they are specialised.
_COMPILED: dict[tuple[Any, ...], Any] = {}


def _kind(value: Any) -> Any:
    """The part of an argument on which a kernel is specialised; it does not include the values of numbers."""
    if isinstance(value, Tensor):
        # A tensor aligned to whole vectors of 16 bytes takes another kernel than one that begins anywhere.
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
    """Signal that this program's stores of the step are done: all its threads first, then one release."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")


@triton.jit
def wait(counter_ptr, arrivals):
    """Wait until a counter has reached a number of arrivals.

    Every thread polls by itself, so the later loads of every thread come after what the arrived programs have released.
    The interpreter runs programs one after another and one step a launch, so it has nothing to wait for.
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
