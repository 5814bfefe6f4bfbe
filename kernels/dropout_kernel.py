"""The dropout of `gatescope.kernels.dropout` in Triton: one Philox counter an entry, and no mask is ever stored.

The recurrent kernels of a wavefront apply `dropped` to a state on its way up and to a gradient on its way down; `drop`
applies it to an array.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gatescope.kernels.grid import Launch

BLOCK = 256  # units in a program of one warp: 16 bytes a thread


@triton.jit
def dropped(x, seed_ptr, unit, row, step, layer, P: tl.constexpr):
    """Set a share P of the entries to zero and scale the others by 1 / (1 - P).

    Args:
        x: float32 values.
        seed_ptr: the seed.
        unit, row, step: of each entry, in shapes that broadcast to that of x; row counts over all processes.
        layer: the layer whose outputs these are.
        P: the share; 0 leaves x as it is.
    """
    if P > 0.0:
        o = tl.zeros(x.shape, tl.uint32)
        # Loops in the interpreter count in plain integers, which have no dtype to convert.
        unit, row, step = (o + unit).to(tl.uint32), (o + row).to(tl.uint32), (o + step).to(tl.uint32)
        word, _, _, _ = tl.philox(tl.load(seed_ptr), unit, step, row, (o + layer).to(tl.uint32))
        # The upper 24 bits, as many as a float32 u holds.
        x = tl.where((word >> 8).to(tl.int32).to(tl.float32) * 2.0**-24 >= P, x * (1.0 / (1.0 - P)), 0.0)
    return x


@triton.jit
def load_readers(dy_ptr, above_ptr, at, own):
    """Gradients of a state in their stored dtype, from the layer above and from the caller, or from one of them.

    Args:
        dy_ptr, above_ptr: the caller's gradients, and those of the input of the layer above; at least one of them.
        at, own: offsets of the entries, and the mask of those that exist.
    """
    read = ()
    if above_ptr is not None:
        read += (tl.load(above_ptr + at, mask=own, other=0.0),)  # type: ignore[assignment]
    if dy_ptr is not None:
        read += (tl.load(dy_ptr + at, mask=own, other=0.0),)  # type: ignore[assignment]
    return read


@triton.jit
def incoming(read, above_ptr, seed_ptr, unit, row, step, layer, P: tl.constexpr):
    """The gradient of a state from all its readers, in float32: the layer above has read it after dropout.

    Args:
        read: the result of `load_readers`.
        above_ptr, seed_ptr, unit, row, step, layer, P: see `load_readers` and `dropped`.
    """
    dh = read[0].to(tl.float32)
    if above_ptr is not None:
        dh = dropped(dh, seed_ptr, unit, row, step, layer, P)
    for k in tl.static_range(1, len(read)):
        dh += read[k].to(tl.float32)
    return dh


@triton.jit(do_not_specialize=["n_rows", "first_row", "first_step", "layer"])
def _drop_kernel(
    x_ptr,
    seed_ptr,
    y_ptr,
    n_rows,
    first_row,
    first_step,
    layer,
    H: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place, unit = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    o, inside = place.to(tl.int64) * H + unit, unit < H
    row, step = place % n_rows + first_row, place // n_rows + first_step
    x = tl.load(x_ptr + o, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + o, dropped(x, seed_ptr, unit, row, step, layer, P), mask=inside)


def drop(x: Tensor, seed: Tensor, p: float, layer: int, first_row: int, first_step: int = 0) -> Tensor:
    """Drop entries of x [T, B, H]; see `gatescope.kernels.dropout`."""
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        with torch.cuda.device_of(x):
            drop_launch(x, seed, y, p, layer, first_row, first_step)()
    return y


def drop_launch(x: Tensor, seed: Tensor, y: Tensor, p: float, layer: int, first_row: int, first_step: int) -> Launch:
    """The kernel on these tensors."""
    n_steps, n_rows, hidden = x.shape
    sizes = {"n_rows": n_rows, "first_row": first_row, "first_step": first_step, "layer": layer}
    constants = {"H": hidden, "P": p, "BLOCK": BLOCK}
    grid = (n_steps * n_rows, triton.cdiv(hidden, BLOCK))
    return Launch(_drop_kernel, grid, {"x_ptr": x, "seed_ptr": seed, "y_ptr": y, **sizes}, constants, warps=1)
