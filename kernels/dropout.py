"""Dropout whose mask is a function of counters: seed, layer, step, row of the whole batch, unit.

    y = x / (1 - p) where u >= p, else 0        u uniform in [0, 1), one for each entry

(Srivastava et al. 2014, scaled in training.) The mask is never stored: backward draws it again. The seed is drawn from
torch's generator of the device and stays on the device, so that a CUDA graph draws a new one at each replay. Rows are
counted over all processes of torch.distributed, in the order of their ranks, so that several processes drop what a
single one would.

On a GPU u is the first word of Philox-4x32-10 at the counter (unit, step, row, layer); on the CPU it comes from a
stream of NumPy's Philox-4x64-10 for each row. The same seed gives different masks on the two, and masks different from
torch.nn's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from gatescope.kernels.backend import has_triton, transformed


@torch.library.custom_op("gatescope::dropout", mutates_args=())
def _dropout_op(x: Tensor, seed: Tensor, p: float, layer: int) -> Tensor:
    return drop_steps(x, seed, p, layer, 0)


def drop_steps(x: Tensor, seed: Tensor, p: float, layer: int, first_step: int) -> Tensor:
    """Drop the entries of the steps from first_step on, [steps, B, H], that a call over all steps would drop."""
    first_row = first_row_of(x.shape[1])
    if x.is_cuda and has_triton():
        from gatescope.kernels.dropout_kernel import drop

        return drop(x, seed, p, layer, first_row, first_step)
    shape = torch.Size((first_step + len(x), *x.shape[1:]))
    kept = _kept(shape, int(seed.item()), p, layer, first_row)[first_step:].to(x.device)
    return (x * kept.to(x.dtype).mul_(1 / (1 - p))).contiguous()


def first_row_of(n_rows: int) -> int:
    """The number of this process's first row in the batch of all processes, each of which has B rows."""
    return distributed.get_rank() * n_rows if distributed.is_initialized() else 0


def _kept(shape: torch.Size, seed: int, p: float, layer: int, first_row: int) -> Tensor:
    """Mask of the entries [T, B, H] that are kept, drawn row by row on the CPU."""
    n_steps, n_rows, hidden = shape
    kept = np.empty((n_rows, n_steps, hidden), dtype=bool)
    for row in range(n_rows):
        stream = np.random.Generator(np.random.Philox(key=[seed, layer << 48 | first_row + row]))
        np.greater_equal(stream.random((n_steps, hidden), dtype=np.float32), p, out=kept[row])
    return torch.from_numpy(kept).transpose(0, 1)


@_dropout_op.register_fake
def _(x: Tensor, seed: Tensor, p: float, layer: int) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, seed, ctx.p, ctx.layer = inputs
    ctx.save_for_backward(seed)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return _dropout_op(gradient, ctx.saved_tensors[0], ctx.p, ctx.layer), None, None, None


_dropout_op.register_autograd(_backward, setup_context=_setup_context)


def dropout(x: Tensor, p: float, training: bool, layer: int) -> Tensor:
    """Set a share p of the entries to zero and scale up the others, in training; otherwise return x.

    Under a transform of torch.func or forward-mode differentiation the masks are torch's own.

    Args:
        x: [T, B, H].
        p: share, 0 <= p <= 1.
        training: whether anything is dropped.
        layer: number of the layer whose outputs these are; each layer draws its own masks.
    """
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    if transformed(x):
        return nn.functional.dropout(x, p)
    return _dropout_op(x, draw_seed(x.device), p, layer)


def drop_again(x: Tensor, seed: Tensor, p: float, layer: int) -> Tensor:
    """Drop the entries of x [T, B, H] that an earlier call with this seed dropped."""
    return _dropout_op(x, seed, p, layer)


def draw_seed(device: torch.device) -> Tensor:
    """Draw the seed of one mask, int64 [1], from torch's generator of a device, without a synchronisation."""
    return torch.randint(2**62, (1,), device=device)
