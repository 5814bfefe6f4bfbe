"""Mid-ranks of units on a GPU, from histograms of their 16-bit codes, or by sorting other values.

float16 and bfloat16 have 65,536 codes. A histogram of a unit over them, in ascending order of the values, is all that
ranks, moments and bins of that unit need: the values are counted once, and looked up once. Sorting a million values of
each of 1536 units would move each of them some forty times. Without weights a block counts in its shared memory;
weights are added to float64 in the GPU's memory. (There the codes of (1e6, 1536) took 85 ms on an NVIDIA H100 80GB HBM3
with CuPy 14.2, and a copy of CuPy's that put units in the place of rows took 33 ms. What replaced either was measured
only in the whole work on units, `neurons_cuda`.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.launch_cuda import RUN, THREADS, launch, launch_counting
from gatescope.engine.ranks import N_CODES

# Rows and units that change places together.
SQUARE = 64

SOURCE = (
    f"#define SQUARE {SQUARE}\n"
    + r"""
extern __shared__ unsigned int counters[];

// Negative numbers are the upper half of the codes, the largest magnitude last; zero has two codes.
__device__ inline unsigned int ascending(unsigned short code) {
    if (code == 0x8000u) code = 0;
    return code & 0x8000u ? 0x7fffu - (code & 0x7fffu) : 0x8000u + code;
}

extern "C" __global__ void transpose_codes(const unsigned short* rows, long long n_rows, long long n_units,
                                           unsigned short* columns) {
    // The 64 places of a column lie in 32 banks.
    __shared__ unsigned short square[SQUARE][SQUARE + 2];
    const long long first_unit = (long long)blockIdx.y * SQUARE, stride = (long long)gridDim.x * SQUARE;
    for (long long first_row = (long long)blockIdx.x * SQUARE; first_row < n_rows; first_row += stride) {
        for (int i = threadIdx.x; i < SQUARE * SQUARE; i += blockDim.x) {
            const long long n = first_row + i / SQUARE, unit = first_unit + i % SQUARE;
            if (n < n_rows && unit < n_units) square[i / SQUARE][i % SQUARE] = rows[n * n_units + unit];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < SQUARE * SQUARE; i += blockDim.x) {
            const long long n = first_row + i % SQUARE, unit = first_unit + i / SQUARE;
            if (n < n_rows && unit < n_units) columns[unit * n_rows + n] = square[i % SQUARE][i / SQUARE];
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(COUNTING_THREADS)
count_codes(const unsigned short* __restrict__ codes, long long n_rows, double* mass, long long n_parts) {
    const unsigned int n_counters = 65536u / (unsigned int)n_parts;
    const unsigned int first = blockIdx.y % (unsigned int)n_parts * n_counters;
    codes += blockIdx.y / n_parts * n_rows;
    mass += blockIdx.y / n_parts * 65536;
    for (unsigned int i = threadIdx.x; i < n_counters; i += blockDim.x) counters[i] = 0;
    __syncthreads();
    const long long step = (long long)blockDim.x * RUN;
    for (long long start = blockIdx.x * step + threadIdx.x; start < n_rows; start += gridDim.x * step) {
        // All are read before any is counted: the memory answers late.
        unsigned short own[RUN];
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            const long long n = start + (long long)i * blockDim.x;
            own[i] = n < n_rows ? codes[n] : 0;
        }
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            // Below the first it is a large number.
            const unsigned int place = ascending(own[i]) - first;
            if (start + (long long)i * blockDim.x < n_rows && place < n_counters) atomicAdd(&counters[place], 1u);
        }
    }
    __syncthreads();
    for (unsigned int i = threadIdx.x; i < n_counters; i += blockDim.x)
        if (counters[i]) atomicAdd(&mass[first + i], (double)counters[i]);
}

extern "C" __global__ void add_weights(const unsigned short* codes, const double* weight, long long n_rows,
                                       double* mass) {
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
            run += weight[n];
        }
        atomicAdd(&mass[ascending(code)], run);
    }
}

extern "C" __global__ void look_up_ranks(const unsigned short* codes, const double* code_ranks, long long n_rows,
                                         double* ranks) {
    const long long unit = blockIdx.y, stride = (long long)gridDim.x * blockDim.x;
    for (long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x; n < n_rows; n += stride)
        ranks[unit * n_rows + n] = code_ranks[unit * 65536 + ascending(codes[unit * n_rows + n])];
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
)


def transposed_codes(xp: Any, rows: Any) -> Any:
    """Return codes uint16 [N, U], contiguous, as [U, N]."""
    n_rows, n_units = rows.shape
    columns = xp.empty((n_units, n_rows), np.uint16)
    threads = THREADS * -(-n_rows // SQUARE), -(-n_units // SQUARE)
    launch(xp, SOURCE, "transpose_codes", threads, (rows, n_rows, n_units, columns))
    return columns


def count_codes(xp: Any, codes: Any, weight: Any) -> Any:
    """Return the weight of each code in ascending order, float64 [U, 65536].

    Args:
        codes: of U units, uint16 [U, N].
        weight: float64 [N], or None for 1 each.
    """
    n_units, n_rows = codes.shape
    mass = xp.zeros((n_units, N_CODES))
    if weight is None:
        launch_counting(xp, SOURCE, "count_codes", N_CODES, n_rows, n_units, (codes, n_rows, mass))
    else:
        launch(xp, SOURCE, "add_weights", (-(-n_rows // RUN), n_units), (codes, weight, n_rows, mass))
    return mass


def look_up_ranks(xp: Any, codes: Any, ranks: Any) -> Any:
    """Return the rank of each row, float64 [U, N], from those of each code [U, 65536]."""
    n_units, n_rows = codes.shape
    found = xp.empty(codes.shape)
    launch(xp, SOURCE, "look_up_ranks", (n_rows, n_units), (codes, ranks, n_rows, found))
    return found


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
