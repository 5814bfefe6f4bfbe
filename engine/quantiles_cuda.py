"""Bins of equal mass on a GPU: what is in them of each unit, and of the positive positions of each label.

Counting the labels is the largest part of the work on single units: N x H x K bits, of which those of the rarer label
are added up. A thread has a label, of which the bits of 32 rows are one word, and a warp goes through the rows
together, so that its additions lie side by side. Without weights a block has the counts of a unit and 32 labels in its
shared memory, in 32 bits, where the counters of a label are all in one bank: none of a warp's additions waits for
another. (Added to float64 in the GPU's memory, 1.5e9 additions of a warp at (1e6, 1536, 32) took 0.74 s of 1.33 s in
all on an NVIDIA H100 80GB HBM3 with torch 2.11 and CuPy 14.2. In shared memory all takes 0.141 s on an NVIDIA H200;
counting by itself was not measured.) Weights are still added in the GPU's memory: shared memory cannot add to float64,
but tries again until no other thread has come between.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.launch_cuda import launch, launch_counting
from gatescope.engine.quantiles import FINE_BINS

WORD = 32

KEY_SOURCE = r"""
// The order of the keys as unsigned integers is that of the numbers.
__device__ inline unsigned long long key_of(double value) {
    const unsigned long long bits = __double_as_longlong(value);
    return bits >> 63 ? ~bits : bits | 0x8000000000000000ull;
}
"""

SOURCE = (
    f"#define BINS {FINE_BINS}\n"
    + KEY_SOURCE
    + r"""
extern "C" __global__ void fill_bins(const double* values, const double* mass, long long mass_stride,
                                     const double* ranks, double bins_per_mass, long long n_entries,
                                     unsigned short* bins, double* bin_mass, unsigned long long* smallest) {
    const long long unit = blockIdx.y, stride = (long long)gridDim.x * blockDim.x;
    for (long long n = (long long)blockIdx.x * blockDim.x + threadIdx.x; n < n_entries; n += stride) {
        const long long place = unit * n_entries + n;
        const long long wanted = (long long)(ranks[place] * bins_per_mass);
        const long long bin = wanted < BINS ? wanted : BINS - 1;
        bins[place] = (unsigned short)bin;
        const double own = mass[unit * mass_stride + n];
        if (own == 0) continue;
        atomicAdd(&bin_mass[unit * BINS + bin], own);
        const unsigned long long key = key_of(values[place]);
        // Nearly all entries see here that they are not the smallest.
        if (key < smallest[unit * BINS + bin]) atomicMin(&smallest[unit * BINS + bin], key);
    }
}

extern __shared__ unsigned int counters[];

// Bins of four rows are one number, and 32 rows are a group.
extern "C" __global__ void __launch_bounds__(COUNTING_THREADS)
count_labels(const unsigned long long* __restrict__ bins, const unsigned int* __restrict__ words, long long n_groups,
             long long n_words, double* counts, long long n_parts) {
    const unsigned int n_bins = BINS / (unsigned int)n_parts, lane = threadIdx.x % 32;
    const unsigned int first_bin = blockIdx.y % (unsigned int)n_parts * n_bins;
    const long long word = blockIdx.y / n_parts % n_words, unit = blockIdx.y / n_parts / n_words;
    for (unsigned int i = threadIdx.x; i < 32 * n_bins; i += blockDim.x) counters[i] = 0;
    __syncthreads();
    unsigned int* own = counters + lane;
    const long long stride = (long long)gridDim.x * blockDim.x / 32;
    for (long long group = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32; group < n_groups; group += stride) {
        const unsigned int rows = words[(group * n_words + word) * 32 + lane];
        const unsigned long long* of_rows = bins + (unit * n_groups + group) * 8;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const unsigned long long four = of_rows[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                // A bin below the first is a large number here; those of other parts are counted behind the last.
                const unsigned int bin = (unsigned int)(four >> 16 * j & 0xffffu) - first_bin;
                // Most of a warp has something to add: a branch would cost more than adding 0.
                atomicAdd(&own[(bin < n_bins ? bin : n_bins) * 32], rows >> (4 * i + j) & 1u);
            }
        }
    }
    __syncthreads();
    counts += (unit * BINS + first_bin) * n_words * 32 + word * 32;
    for (unsigned int i = threadIdx.x; i < 32 * n_bins; i += blockDim.x)
        if (counters[i]) atomicAdd(&counts[i / 32 * n_words * 32 + i % 32], (double)counters[i]);
}

extern "C" __global__ void add_label_weights(const unsigned short* bins, const unsigned int* words,
                                             const double* weight, long long n_groups, long long n_words,
                                             double* counts) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x, n_labels = n_words * 32;
    const long long stride = (long long)gridDim.x * blockDim.x / 32;
    bins += blockIdx.y * n_groups * 32;
    counts += blockIdx.y * BINS * n_labels;
    for (long long group = thread / 32; group < n_groups; group += stride) {
        for (long long label = thread % 32; label < n_labels; label += 32) {
            const unsigned int rows = words[group * n_labels + label];
            for (int i = 0; i < 32; i++) {
                const long long n = group * 32 + i;
                if (rows >> i & 1u) atomicAdd(&counts[bins[n] * n_labels + label], weight[n]);
            }
        }
    }
}
"""
)


def fill_bins(xp: Any, values: Any, mass: Any, ranks: Any, total: float) -> tuple[Any, Any, Any]:
    """Return the bin of each entry, the mass in each bin, and the smallest value in each, +inf where there is none.

    Args:
        values, ranks: of the entries, rows or codes, float64 [U, E].
        mass: float64 [U, E], or [E] where it is that of all units.
        total: the sum of the mass.

    Returns:
        uint16 [U, E], float64 [U, FINE_BINS], float64 [U, FINE_BINS].
    """
    n_units, n_entries = values.shape
    bins, bin_mass = xp.empty(values.shape, np.uint16), xp.zeros((n_units, FINE_BINS))
    keys = ~xp.zeros((n_units, FINE_BINS), np.uint64)
    stride = n_entries if mass.ndim == 2 else 0
    arguments = (values, mass, stride, ranks, FINE_BINS / total, n_entries, bins, bin_mass, keys)
    launch(xp, SOURCE, "fill_bins", (n_entries, n_units), arguments)
    return bins, bin_mass, xp.where(bin_mass > 0, from_keys(xp, keys), np.inf)


def from_keys(xp: Any, keys: Any) -> Any:
    """Return the numbers, float64, of keys as `key_of` makes them, uint64."""
    sign = np.uint64(2**63)
    return xp.where(keys >= sign, keys & ~sign, ~keys).view(np.float64)


def pack_labels(xp: Any, labels: Any) -> Any:
    """Return labels bool [N, G] as words, uint32 [ceil(N / 32), 32 ceil(G / 32)]: bits are rows, the first the lowest.

    There are no positive rows and labels beyond those given.
    """
    n_rows, n_targets = labels.shape
    n_groups, n_words = -(-n_rows // WORD), -(-n_targets // WORD)
    words = xp.zeros((n_groups, n_words * WORD), np.uint32)
    place = xp.arange(WORD).astype(np.uint32)[:, None]
    for first in range(0, n_targets, WORD):
        bits = xp.zeros((n_groups * WORD, min(WORD, n_targets - first)), np.uint32)
        bits[:n_rows] = labels[:, first : first + WORD]
        bits = bits.reshape(n_groups, WORD, -1) << place
        words[:, first : first + bits.shape[2]] = bits.sum(axis=1, dtype=np.uint32)
    return words


def count_labels(xp: Any, bins: Any, words: Any, weight: Any, n_targets: int) -> Any:
    """Return the weight of the set bits in each bin, float64 [U, FINE_BINS, G].

    Args:
        bins: of each row, uint16 [U, N].
        words: uint32 [ceil(N / 32), 32 W], as `pack_labels` returns them.
        weight: float64 [N], or None for 1 each.
        n_targets: G.
    """
    (n_units, n_rows), n_groups, n_words = bins.shape, len(words), words.shape[1] // WORD
    counts = xp.zeros((n_units, FINE_BINS, n_words * WORD))
    if n_rows < n_groups * WORD:
        # Each unit begins where four bins can be read at once; those of no row have no label.
        given, bins = bins, xp.zeros((n_units, n_groups * WORD), np.uint16)
        bins[:, :n_rows] = given
    if weight is None:
        arguments = bins.view(np.uint64), words, n_groups, n_words, counts
        n_histograms = n_units * n_words
        launch_counting(xp, SOURCE, "count_labels", FINE_BINS * WORD, n_rows, n_histograms, arguments)
    else:
        weighted = bins, words, weight, n_groups, n_words, counts
        launch(xp, SOURCE, "add_label_weights", (n_groups * WORD, n_units), weighted)
    return counts[:, :, :n_targets]
