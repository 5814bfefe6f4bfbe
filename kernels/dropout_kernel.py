"""The dropout of `gatescope.kernels.dropout` as a Triton kernel: one Philox counter an entry, nothing stored but y."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # entries in a program


@triton.jit(do_not_specialize=["n_rows", "first_row", "first_step", "layer", "threshold"])
def _drop_kernel(
    x_ptr,
    seed_ptr,
    y_ptr,
    n_entries,
    n_rows,
    first_row,
    first_step,
    layer,
    threshold,
    scale,
    H: tl.constexpr,
    BLOCK: tl.constexpr,
):
    o = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = o < n_entries
    unit = (o % H).to(tl.uint32)
    row = ((o // H) % n_rows + first_row).to(tl.uint32)
    step = (o // H // n_rows + first_step).to(tl.uint32)
    seed = tl.load(seed_ptr)
    word, _, _, _ = tl.philox(seed, unit, step, row, tl.full((BLOCK,), layer, tl.uint32))
    x = tl.load(x_ptr + o, mask=inside, other=0.0).to(tl.float32)
    # The upper 24 bits: a float32's worth of u.
    kept = (word >> 8).to(tl.int32) >= threshold
    tl.store(y_ptr + o, tl.where(kept, x * scale, 0.0), mask=inside)


def drop(x: Tensor, seed: Tensor, p: float, layer: int, first_row: int, first_step: int = 0) -> Tensor:
    """Drop entries of x [T, B, H]; see `gatescope.kernels.dropout`."""
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        grid = (triton.cdiv(x.numel(), BLOCK),)
        threshold = round(p * 2**24)
        _drop_kernel[grid](
            x, seed, y, x.numel(), x.shape[1], first_row, first_step, layer, threshold, 1 / (1 - p), x.shape[2], BLOCK
        )
    return y
