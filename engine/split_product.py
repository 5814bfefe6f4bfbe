"""Products of 16-bit states with 32-bit columns on a GPU, at the speed of the 16-bit states.

X V and X' R are bound by reading X. Converted to 32 bits it would be written once and read twice in double width: 14
bytes a value instead of 4. But cuBLAS multiplies 16-bit matrices by 16-bit ones alone, and a column rounded to 16 bits
would stall the solver at a gradient of 5e-4. So a column is the sum of two float16 or three bfloat16 columns, scaled by
a power of two into their range (Markidis et al. 2018; Ootomo & Yokota 2022): its error is below 2^-22 of each element,
or 2^-39 of the column's largest. The products are float32, in sums over at most 4096 rows, which are added up in
float64. Tensor cores cut such a sum off after every eight or sixteen products (Khattak & Mikaitis 2025), where a CPU
rounds to nearest: of a sum that only grows they lose some 1e-5, of one that ends near zero, as gradients do, far less.
Whether a gradient has met its tolerance is decided in float64 by `gatescope.engine.objective`. A quarter of the rows
would lose a quarter of that, but write a quarter as much as is read of X.

What happens between the two products is one kernel: logits, loss, slope and the split of the slope.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.engine import log_loss_cuda
from gatescope.engine.arrays import array_namespace, as_tensor

PARTS = {torch.float16: 2, torch.bfloat16: 3}
# The largest element of a scaled column is below two to this power, the range of float16 ends at twice that.
HIGHEST = 15
# A scale is at most two to this power, so that it and its reciprocal are normal numbers of float32.
LARGEST_SCALE = 100
# Rows whose products are summed in float32.
SUMMED_ROWS = 2**12

# Rounding to nearest, ties to even. float16 has subnormal numbers, which 1/2 aligns, in units of 2^-24, both ways. They
# may never be subnormal in float32, which CuPy's compiler takes for 0.
SOURCE = r"""
__device__ inline unsigned short float16_bits(float value) {
    const unsigned int bits = __float_as_uint(value), sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    if (size >= 0x47800000u) return sign | (size > 0x7f800000u ? 0x7e00u : 0x7c00u);
    if (size < 0x38800000u) return sign | (__float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000u);
    return sign | ((size + 0xc8000fffu + ((size >> 13) & 1u)) >> 13);
}

__device__ inline float float16_value(unsigned short half) {
    const unsigned int size = half & 0x7fffu, sign = (half & 0x8000u) << 16;
    if (size >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (size << 13));
    if (size >= 0x400u) return __uint_as_float(sign | (0x38000000u + (size << 13)));
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(0x3f000000u + size) - 0.5f));
}

__device__ inline unsigned short bfloat16_bits(float value) {
    const unsigned int bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

__device__ inline float bfloat16_value(unsigned short half) {
    return __uint_as_float((unsigned int)half << 16);
}
"""


def column_scale(largest: Tensor) -> Tensor:
    """Return the power of two that brings the largest magnitude of each column just below 2^15, float32 [W]."""
    exponent = (HIGHEST - torch.frexp(largest)[1]).clamp(max=LARGEST_SCALE)
    return ((exponent + 127).to(torch.int32) << 23).view(torch.float32)


def split(columns: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 16-bit columns [n, P * W], first all first parts: their sums over P are the columns times their scale.

    Args:
        columns: float32 [n, W].
        scale: powers of two [W], as `column_scale` returns them.
        dtype: float16 (P = 2) or bfloat16 (P = 3).
    """
    rest, parts = columns * scale, []
    for _ in range(PARTS[dtype]):
        parts.append(rest.to(dtype))
        rest = rest - parts[-1].to(torch.float32)
    return torch.cat(parts, dim=1)


def states_times_parts(block: Tensor, parts: Tensor) -> Tensor:
    """Return states [n, H] times split columns [H, P * W], float32 [n, P * W]."""
    return _product(torch.mm, block, parts)


def parts_times_states(parts: Tensor, block: Tensor) -> Tensor:
    """Return the transpose of split columns [n, P * W] times states [n, H], float64 [P * W, H]."""
    whole = len(block) // SUMMED_ROWS * SUMMED_ROWS
    total = torch.zeros(parts.shape[1], block.shape[1], dtype=torch.float64, device=block.device)
    if whole:
        left, right = (values[:whole].unflatten(0, (-1, SUMMED_ROWS)) for values in (parts, block))
        total += _product(torch.bmm, left.transpose(1, 2), right).sum(dim=0, dtype=torch.float64)
    if whole < len(block):
        total += _product(torch.mm, parts[whole:].T, block[whole:])
    return total


def _product(multiply: Any, left: Tensor, right: Tensor) -> Tensor:
    """Return a product of 16-bit matrices with float32 sums and a float32 result."""
    if left.device.type == "cuda":
        return multiply(left, right, out_dtype=torch.float32)
    # Products of two 16-bit numbers are exact in float32.
    return multiply(left.to(torch.float32), right.to(torch.float32))


class SplitStep:
    """Moves the logits of W problems by X v + b and returns loss and gradient there, block by block.

    Args:
        step: v, CuPy float32 [H, W].
        offset: b, CuPy float32 [W].
        heaviest: the largest weight of each problem [W], which no slope exceeds.
        dtype: of the states.
    """

    def __init__(self, step: Any, offset: Any, heaviest: Any, dtype: torch.dtype):
        self.xp, self.offset, self.dtype = array_namespace(step), offset, dtype
        columns = as_tensor(step)
        scale = column_scale(columns.abs().amax(dim=0))
        self.parts, self.inverse = split(columns, scale, dtype), self.xp.from_dlpack(1 / scale)
        self.slope_scale = self.xp.from_dlpack(column_scale(as_tensor(heaviest)))

    def __call__(self, block: Tensor, logits: Any, signed: Any) -> tuple[Any, Any, Any, Any]:
        """Move the logits in place; return their change, the losses and slopes [n, W], and R' X, float64 [W, H].

        Args:
            block: states [n, H].
            logits, signed: of these rows, CuPy float32 [n, W].
        """
        xp, n_parts, width = self.xp, PARTS[self.dtype], logits.shape[1]
        moved = xp.from_dlpack(states_times_parts(block, self.parts))
        slope_parts = xp.empty((len(logits), n_parts * width), np.uint16)
        change, loss, slope = (xp.empty(logits.shape, np.float32) for _ in range(3))
        places = [slice(i * width, (i + 1) * width) for i in range(n_parts)]
        kernel = _kernel(xp, str(self.dtype).removeprefix("torch."), n_parts)
        kernel(
            *(moved[:, place] for place in places),
            *(self.inverse, self.offset, signed, self.slope_scale, logits),
            *(logits, change, loss, slope),
            *(slope_parts[:, place] for place in places),
        )
        products = parts_times_states(as_tensor(slope_parts).view(self.dtype), block)
        products = xp.from_dlpack(products.unflatten(0, (n_parts, width)).sum(dim=0))
        return change, loss, slope, products / self.slope_scale[:, None]


@functools.cache
def _kernel(xp: Any, name: str, n_parts: int) -> Any:
    inputs, outputs = parameters(n_parts)
    preamble = log_loss_cuda.SOURCE + SOURCE
    return xp.ElementwiseKernel(inputs, outputs, operation(name, n_parts), f"move_and_split_{name}", preamble=preamble)


def parameters(n_parts: int) -> tuple[str, str]:
    """Return inputs and outputs of the kernel as CuPy wants them."""
    numbers = range(n_parts)
    inputs = [*(f"float32 p{i}" for i in numbers), "float32 inverse", "float32 offset", "float32 s", "float32 scale"]
    outputs = ["float32 z", "float32 change", "float32 loss", "float32 slope", *(f"uint16 r{i}" for i in numbers)]
    return ", ".join([*inputs, "float32 before"]), ", ".join(outputs)


def operation(name: str, n_parts: int) -> str:
    """Return the C text for one logit: the move, the loss, its slope, and the slope's parts."""
    # The small parts come first in the sum.
    sum_of_parts = " + ".join(f"p{i}" for i in reversed(range(n_parts)))
    lines = [f"change = ({sum_of_parts}) * inverse + offset", "z = before + change", "loss = log_loss(z, s)"]
    lines += ["slope = log_loss_slope(z, s)", "float rest = slope * scale"]
    for i in range(n_parts):
        lines += [f"r{i} = {name}_bits(rest)", f"rest -= {name}_value(r{i})"]
    return ";\n".join(lines)
