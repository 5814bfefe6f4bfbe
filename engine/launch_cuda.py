"""Launches of the CUDA C kernels of single units, and how those that count in shared memory are laid out.

Additions in a GPU's memory each take their way to its second cache, and those to one counter wait for each other: on an
NVIDIA H100 80GB HBM3 (torch 2.11, CuPy 14.2) additions of float64 to the counts of 32 labels took 0.74 s of the 1.33 s
of all work on single units at (1e6, 1536, 32). A block that counts in its own shared memory adds whole numbers there,
and to the common counts once at its end.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

# Rows of a thread: neighbours that are equal, as those of a saturated unit are, are added at once.
RUN = 8
THREADS = 256
MOST_BLOCKS = 2**15
# A multiprocessor has room for one block that counts in most of its shared memory, with as many threads as a block has.
COUNTING_THREADS = 1024
# Blocks for each multiprocessor, where there is work for them: each has its counters to clear and to add up at the end.
COUNTING_BLOCKS = 2
# What each GPU has without being asked.
SHARED_BYTES = 48 * 2**10
# A counter for each thread of a warp that it may add to where it has nothing to count.
SPARE = 32
# A block counts in 32 bits.
MOST_COUNTED = 2**31
# cudaDevAttrMultiProcessorCount and cudaDevAttrMaxSharedMemoryPerBlockOptin.
MULTIPROCESSORS, SHARED_BYTES_ON_REQUEST = 16, 97


def launch(xp: Any, source: str, name: str, threads: tuple[int, int], arguments: tuple[Any, ...]) -> None:
    """Run a kernel of some C text, which is compiled when it is first run.

    Args:
        threads: how many are wanted for each unit, and units; a thread goes on to others where they are too many.
        arguments: arrays, integers (long long in C) and numbers (double).
    """
    grid = min(-(-threads[0] // THREADS), MOST_BLOCKS), threads[1]
    _kernel(xp, source, name)(grid, (THREADS,), typed(arguments))


def launch_counting(
    xp: Any, source: str, name: str, n_counters: int, n_rows: int, n_histograms: int, arguments: tuple[Any, ...]
) -> None:
    """Run a kernel whose blocks count rows in shared memory, `unsigned int counters[n_counters / n_parts + SPARE]`.

    The kernel gets n_parts after the other arguments. blockIdx.y is a histogram and a part of its counters, the part
    changing fastest, and the blocks along x share the rows.

    Args:
        n_counters: of a histogram, a power of two.
        n_rows: that each histogram counts.
        n_histograms: how many are counted.
        arguments: as in `launch`.
    """
    n_multiprocessors, shared_bytes = limits(xp)
    n_parts, n_blocks = layout(n_counters, n_rows, n_histograms, n_multiprocessors, shared_bytes)
    kernel, used = _kernel(xp, source, name), shared_size(n_counters // n_parts)
    if used > SHARED_BYTES:
        kernel.max_dynamic_shared_size_bytes = used
    grid = n_blocks, n_histograms * n_parts
    kernel(grid, (COUNTING_THREADS,), typed((*arguments, n_parts)), shared_mem=used)


def limits(xp: Any) -> tuple[int, int]:
    """Return how many multiprocessors the present GPU has, and the bytes of shared memory that a block may ask for."""
    runtime = xp.cuda.runtime
    device = runtime.getDevice()
    attributes = MULTIPROCESSORS, SHARED_BYTES_ON_REQUEST
    n_multiprocessors, shared_bytes = (runtime.deviceGetAttribute(each, device) for each in attributes)
    return n_multiprocessors, shared_bytes


def layout(
    n_counters: int, n_rows: int, n_histograms: int, n_multiprocessors: int, shared_bytes: int
) -> tuple[int, int]:
    """Return in how many parts the counters of a histogram are counted, and how many blocks share its rows."""
    n_parts = 1
    while shared_size(n_counters // n_parts) > max(shared_bytes, SHARED_BYTES):
        n_parts *= 2
    wanted = COUNTING_BLOCKS * n_multiprocessors // (n_histograms * n_parts)
    return n_parts, max(1, min(wanted, -(-n_rows // COUNTING_THREADS)), -(-n_rows // MOST_COUNTED))


def shared_size(n_counters: int) -> int:
    """Return the bytes of so many counters and the spare ones."""
    return 4 * (n_counters + SPARE)


def typed(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with numbers of the types that the kernels declare."""
    numbers = {int: np.int64, float: np.float64}
    return tuple(numbers.get(type(argument), lambda array: array)(argument) for argument in arguments)


@functools.cache
def _kernel(xp: Any, source: str, name: str) -> Any:
    return xp.RawKernel(text(source), name, options=("--std=c++17",))


def text(source: str) -> str:
    """Return what the compiler gets."""
    return f"#define RUN {RUN}\n#define COUNTING_THREADS {COUNTING_THREADS}\n{source}"
