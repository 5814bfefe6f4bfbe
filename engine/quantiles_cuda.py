"""Bins of equal mass on a GPU: what is in them of each unit, and of the positive positions of each label.

Counting the labels is the largest part of the work on single units: N x H x K bits, of which those of the rarer label
are added up. The 32 labels of a row are one word, and the 32 threads of a warp each look at one of its bits, so that
their additions lie side by side. (Estimate, not measured: 1.5e9 additions of a warp at 1e6 x 1536 x 32, 0.1 to 0.2 s.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.quantiles import FINE_BINS
from gatescope.engine.ranks_cuda import launch

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

extern "C" __global__ void count_labels(const unsigned short* bins, const unsigned int* words, const double* weight,
                                        long long weighted, long long n_rows, long long n_words, double* counts) {
    const long long unit = blockIdx.y, thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long lane = thread % 32, stride = (long long)gridDim.x * blockDim.x / 32;
    for (long long n = thread / 32; n < n_rows; n += stride) {
        const double own = weighted ? weight[n] : 1.0;
        double* row = counts + (unit * BINS + bins[unit * n_rows + n]) * n_words * 32;
        for (long long word = 0; word < n_words; word++)
            if (words[n * n_words + word] >> lane & 1u) atomicAdd(&row[word * 32 + lane], own);
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
    """Return labels bool [N, G] as bits of words, uint32 [N, ceil(G / 32)]."""
    words = []
    for first in range(0, labels.shape[1], WORD):
        part = labels[:, first : first + WORD]
        place = xp.arange(part.shape[1]).astype(np.uint32)
        words.append((part.astype(np.uint32) << place).sum(axis=1, dtype=np.uint32))
    return xp.stack(words, axis=1)


def count_labels(xp: Any, bins: Any, words: Any, weight: Any, n_targets: int) -> Any:
    """Return the weight of the set bits in each bin, float64 [U, FINE_BINS, G].

    Args:
        bins: of each row, uint16 [U, N].
        words: uint32 [N, W], as `pack_labels` returns them.
        weight: float64 [N], or None for 1 each.
        n_targets: G.
    """
    (n_units, n_rows), n_words = bins.shape, words.shape[1]
    counts = xp.zeros((n_units, FINE_BINS, n_words * WORD))
    given = xp.ones(1) if weight is None else weight
    arguments = (bins, words, given, int(weight is not None), n_rows, n_words, counts)
    launch(xp, SOURCE, "count_labels", (n_rows * WORD, n_units), arguments)
    return counts[:, :, :n_targets]
