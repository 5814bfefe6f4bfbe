"""Rounding kept steps to float16 and storing them by sequence, on the CPU, in one pass that Numba compiles.

In torch's operators it takes three: one to round, one to look for non-finite values, and one to transpose.
"""

from __future__ import annotations

from typing import Any

import torch
from llvmlite import ir
from numba import types
from torch import Tensor

from gatescope.kernels.host import compiled
from gatescope.kernels.register_tile import HALVES, compiled_in_place

# The bits of a float16 other than its sign, and those of infinity; NaN is larger.
MAGNITUDE, INFINITE = 0x7FFF, 0x7C00


def rounds(source: torch.dtype, target: torch.dtype) -> bool:
    """Whether `round_steps` takes these dtypes on this processor."""
    return HALVES and source == torch.float32 and target == torch.float16


def round_steps(kept: Tensor, out: Tensor) -> bool:
    """Round kept steps [T, B, H] of float32 to out [B, T, H] of float16, and return whether all are finite there.

    Args:
        kept, out: with contiguous rows.
    """
    (n_steps, n_rows, width), bits = kept.shape, out.view(torch.int16)
    of_kept, of_out = kept.stride()[:2], bits.stride()[:2]
    return bool(_round(_from_first(kept), *of_kept, _from_first(bits), *of_out, n_steps, n_rows, width) < INFINITE)


def _from_first(tensor: Tensor) -> Any:
    """The memory from a tensor's first element to its last, flat."""
    length = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((length,), (1,)).numpy()


@compiled_in_place
def _half(typing_context: Any, value: Any) -> Any:
    """The bits of the float16 nearest a float32, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.int16(types.float32), generate


@compiled
def _round(
    kept: Any,
    kept_step: int,
    kept_row: int,
    out: Any,
    out_row: int,
    out_step: int,
    n_steps: int,
    n_rows: int,
    width: int,
) -> Any:
    largest = types.int16(0)
    for row in range(n_rows):
        for step in range(n_steps):
            source, target = kept[step * kept_step + row * kept_row :], out[row * out_row + step * out_step :]
            for j in range(width):
                target[j] = _half(source[j])
            for j in range(width):
                largest = max(largest, types.int16(target[j] & MAGNITUDE))
    return largest
