"""The matrix products of the time loops.

Inputs, states, gates and gradients are kept in at least float32, and multiplied as they are. On a processor with native
bfloat16 products, at a multiple of the rate of float32, layers in bfloat16 round the factors of a product to bfloat16,
states and gradients among them, as torch.nn's layers do; sums over blocks of steps stay in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gatescope.kernels.host import empty

SPLIT = 8192  # entries of a weight up to which its gradient is summed step by step
FEW_ROWS = 32  # over all steps; with fewer, packing the weights in panels would take longer than multiplying them


def onednn_multiplies_bfloat16() -> bool:
    """Whether oneDNN, which multiplies for torch on a CPU, is available and supports bfloat16 on this processor."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


# What torch.compiler.assume_constant_result does, without importing torch's compiler, which takes over a second.
onednn_multiplies_bfloat16._dynamo_marked_constant = True  # type: ignore[attr-defined]


def multiplies_bfloat16() -> bool:
    """Whether this processor has native bfloat16 products and oneDNN uses them for torch."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return native and onednn_multiplies_bfloat16()


def wide(*tensors: Any) -> list[Any]:
    """16-bit tensors as float32, everything else as it is: loops keep states and gates in at least float32."""
    return [t.float() if isinstance(t, Tensor) and t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors]


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a loop over this dtype accumulates and keeps what backward reads."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def factors(*tensors: Tensor) -> list[Tensor]:
    """Inputs and weights in the dtype in which they are multiplied."""
    if tensors[0].dtype == torch.bfloat16 and tensors[0].device.type == "cpu" and multiplies_bfloat16():
        return list(tensors)
    return wide(*tensors)


def fits_panels(x: Tensor, state: Tensor) -> bool:
    """Whether a layer runs on a CPU in one compiled walk, with its weights in panels (`gatescope.kernels.panels`).

    Args:
        x, state: in the dtypes in which they are multiplied and kept.
    """
    return x.is_cpu and x.dtype == state.dtype and x.shape[0] * x.shape[1] >= FEW_ROWS


def joint_bias(b_ih: Tensor | None, b_hh: Tensor | None) -> Tensor | None:
    """The sum of both biases [R]; None without biases."""
    return None if b_ih is None or b_hh is None else b_ih + b_hh


def input_product(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write x W^T + b of all steps: x [T, B, I], weight [R, I], bias [R] or None, out [T, B, R] with any row stride.

    The factors may have fewer bits than the product.
    """
    flat = x.flatten(0, 1)
    # A view: flatten might copy, and the product would be lost.
    product = out.view(len(flat), out.shape[2])
    if weight.dtype != out.dtype:
        narrow = torch.mm(flat, weight.t())
        product.copy_(narrow) if bias is None else torch.add(narrow, bias, out=product)
    elif bias is None:
        torch.mm(flat, weight.t(), out=product)
    else:
        torch.addmm(bias, flat, weight.t(), out=product)


def joined_product(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
) -> Tensor:
    """x W_ih^T + b_ih + h W_hh^T + b_hh, [T, B, R], in one product that rounds once; differentiable by torch."""
    return functional.linear(torch.cat((x, h), dim=2), torch.cat((w_ih, w_hh), dim=1), joint_bias(b_ih, b_hh))


def add_product(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add a b to out: a [B, K], b [K, R], which has the dtype of the product."""
    return out.addmm_(a, b) if b.dtype == out.dtype else out.add_(torch.mm(a.to(b.dtype), b))


def sum_product(added: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Write added + a b, where b has the dtype of the product."""
    if b.dtype == out.dtype:
        return torch.addmm(added, a, b, out=out)
    return torch.add(added, torch.mm(a.to(b.dtype), b), out=out)


def by_columns(weight: Tensor) -> Tensor:
    """The same matrix in column-major order.

    With up to three rows on the left, MKL accumulates a product into a row-major matrix in one running total, ten times
    less exactly than in this order.
    """
    return weight.t().contiguous().t()


class Gradients:
    """The gradients of a layer's input, weights and biases, which a backward walk accumulates block by block.

    Args:
        x: [T, B, I]; w_ih: [R, I]; w_hh: [R, H]: factors.
        needs: which of x, w_ih, w_hh and the biases are wanted.
        columns: number of columns of the gradients whose sums are the biases' gradients.
    """

    def __init__(self, x: Tensor, w_ih: Tensor, w_hh: Tensor, needs: Sequence[bool], columns: int):
        self._x, self._w_ih = x, w_ih
        dtype = torch.promote_types(x.dtype, torch.float32)
        self.x = empty(x.dtype, x.device, *x.shape) if needs[0] else None
        self.w_ih = w_ih.new_zeros(w_ih.shape, dtype=dtype) if needs[1] else None
        self.w_hh = w_hh.new_zeros(w_hh.shape, dtype=dtype) if needs[2] else None
        self.sums = w_ih.new_zeros(columns, dtype=dtype) if needs[3] else None

    def of_input(self, steps: slice, gradient: Tensor) -> None:
        """Add the contribution of the gradient [steps, B, R] of the input product."""
        gradient = gradient.to(self._x.dtype)
        flat = gradient.flatten(0, 1)
        if self.x is not None:
            torch.mm(flat, self._w_ih, out=self.x[steps].view(len(flat), self.x.shape[2]))
        if self.w_ih is not None:
            _add_product(self.w_ih, gradient, self._x[steps])

    def of_recurrence(self, gradient: Tensor, states: Tensor, rows: slice = slice(None)) -> None:
        """Add the contribution of the gradient [steps, B, rows] of some rows of W_hh times the states [steps, B, H]."""
        if self.w_hh is not None:
            dtype = self._x.dtype
            _add_product(self.w_hh[rows], gradient.to(dtype), states.to(dtype))

    def of_biases(self, gradient: Tensor) -> None:
        """Add the sums of the columns of a gradient [steps, B, columns]."""
        if self.sums is not None:
            self.sums.add_(gradient.flatten(0, 1).sum(0))


def _add_product(weight: Tensor, gradient: Tensor, states: Tensor) -> None:
    """Add to a weight's gradient [R, C] the products of gradients [steps, B, R] and states [steps, B, C]."""
    if weight.numel() > SPLIT or weight.dtype != states.dtype:
        add_product(weight, gradient.flatten(0, 1).t(), states.flatten(0, 1))
    else:
        # MKL sums products of small matrices in one running total; summing each step separately is several times
        # closer.
        weight.add_(torch.bmm(gradient.transpose(1, 2), states).sum(0))
