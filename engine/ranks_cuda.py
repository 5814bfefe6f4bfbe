"""Mid-ranks of units on a GPU, from histograms of their 16-bit codes, or by sorting other values.

float16 and bfloat16 have 65,536 codes. A histogram of a unit over them, in ascending order of the values, is all that
ranks, moments and bins of that unit need: the values are counted once, and looked up once. Sorting a million values of
each of 1536 units would move each of them some forty times. (Estimate, not measured: counting is bound by one atomic
addition a value, fewer where neighbours are equal, 1.5e9 of them at about 1e11 a second.)
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gatescope.engine.ranks import N_CODES

# Rows of a thread: neighbours that are equal, as those of a saturated unit are, are added at once.
RUN = 8
THREADS = 256
MOST_BLOCKS = 2**15

SOURCE = r"""
// Negative numbers are the upper half of the codes, the largest magnitude last; zero has two codes.
__device__ inline unsigned int ascending(unsigned short code) {
    if (code == 0x8000u) code = 0;
    return code & 0x8000u ? 0x7fffu - (code & 0x7fffu) : 0x8000u + code;
}

extern "C" __global__ void count_codes(const unsigned short* codes, const double* weight, long long weighted,
                                       long long n_rows, double* mass) {
    codes += (long long)blockIdx.y * n_rows;
    mass += (long long)blockIdx.y * 65536;
    const long long stride = (long long)gridDim.x * blockDim.x * RUN;
    for (long long first = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * RUN; first < n_rows; first += stride) {
        const long long end = first + RUN < n_rows ? first + RUN : n_rows;
        unsigned short code = codes[first];
        double run = 0;
        for (long long n = first; n < end; n++) {
            const unsigned short next = codes[n];
            if (next != code) {
                atomicAdd(&mass[ascending(code)], run);
                code = next;
                run = 0;
            }
            run += weighted ? weight[n] : 1.0;
        }
        atomicAdd(&mass[ascending(code)], run);
    }
}

extern "C" __global__ void look_up_codes(const unsigned short* codes, const double* code_ranks,
                                         const unsigned short* code_bins, const double* code_values, long long n_rows,
                                         double* ranks, unsigned short* bins, double* values) {
    const long long unit = blockIdx.y, stride = (long long)gridDim.x * blockDim.x;
    for (long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x; n < n_rows; n += stride) {
        const unsigned int place = ascending(codes[unit * n_rows + n]);
        ranks[unit * n_rows + n] = code_ranks[unit * 65536 + place];
        bins[unit * n_rows + n] = code_bins[unit * 65536 + place];
        values[unit * n_rows + n] = code_values[unit * 65536 + place];
    }
}
"""


def count_codes(xp: Any, codes: Any, weight: Any) -> Any:
    """Return the weight of each code in ascending order, float64 [U, 65536].

    Args:
        codes: of U units, uint16 [U, N].
        weight: float64 [N], or None for 1 each.
    """
    n_units, n_rows = codes.shape
    mass = xp.zeros((n_units, N_CODES))
    given = xp.ones(1) if weight is None else weight
    arguments = codes, given, int(weight is not None), n_rows, mass
    launch(xp, SOURCE, "count_codes", (-(-n_rows // RUN), n_units), arguments)
    return mass


def look_up_codes(xp: Any, codes: Any, ranks: Any, bins: Any, values: Any) -> tuple[Any, Any, Any]:
    """Return ranks, bins and values of each row [U, N] from those of each code.

    Args:
        codes: uint16 [U, N].
        ranks, bins, values: float64, uint16 and float64 [U, 65536].
    """
    n_units, n_rows = codes.shape
    out = xp.empty(codes.shape), xp.empty(codes.shape, np.uint16), xp.empty(codes.shape)
    launch(xp, SOURCE, "look_up_codes", (n_rows, n_units), (codes, ranks, bins, values, n_rows, *out))
    return out


def sorted_ranks(xp: Any, values: Any, weight: Any) -> Any:
    """Return the weight below each value of a unit plus half of the weight at it, float64 [N], by sorting.

    Args:
        values: [N], finite.
        weight: float64 [N], or None for 1 each.
    """
    order = xp.argsort(values)
    ascending = values[order]
    first = xp.concatenate([xp.ones(1, bool), ascending[1:] != ascending[:-1]])
    below = xp.arange(len(values) + 1, dtype=np.float64)
    if weight is not None:
        below[1:] = xp.cumsum(weight[order])
    # Where each run of equal values begins and ends.
    bounds = xp.append(xp.flatnonzero(first), len(values))
    run = xp.cumsum(first) - 1
    ranks = xp.empty(len(values))
    ranks[order] = (0.5 * (below[bounds[:-1]] + below[bounds[1:]]))[run]
    return ranks


def launch(xp: Any, source: str, name: str, threads: tuple[int, int], arguments: tuple[Any, ...]) -> None:
    """Run a kernel of some C text, which is compiled when it is first run.

    Args:
        threads: how many are wanted for each unit, and units; a thread goes on to others where they are too many.
        arguments: arrays, integers (long long in C) and numbers (double).
    """
    grid = min(-(-threads[0] // THREADS), MOST_BLOCKS), threads[1]
    numbers = {int: np.int64, float: np.float64}
    typed = tuple(numbers.get(type(argument), lambda array: array)(argument) for argument in arguments)
    _kernel(xp, source, name)(grid, (THREADS,), typed)


@functools.cache
def _kernel(xp: Any, source: str, name: str) -> Any:
    return xp.RawKernel(text(source), name, options=("--std=c++17",))


def text(source: str) -> str:
    """Return what the compiler gets."""
    return f"#define RUN {RUN}\n{source}"
