"""Sums over the threads of a warp, which the host's compiler takes for warps of one thread."""

from __future__ import annotations

LANES = 32

SOURCE = r"""
#if defined(__CUDA_ARCH__)
#define LANES 32
__device__ inline double warp_sum(double value) {
    for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
    return value;
}
#else
#define LANES 1
__device__ inline double warp_sum(double value) { return value; }
#endif
"""
