"""Weights in registers: every value that a factor may have passes through the product that keeps it there."""

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from gatescope.kernels.resident import in_registers

# In the interpreter, or compiled on a GPU.
INTERPRETED = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is off where there is a GPU")
DEVICES = [pytest.param("cpu", marks=INTERPRETED), pytest.param("cuda", marks=pytest.mark.cuda)]


@triton.jit
def keep(x_ptr, out_ptr, N: tl.constexpr, K: tl.constexpr):
    at = tl.arange(0, N)[:, None] * K + tl.arange(0, K)[None, :]
    tl.store(out_ptr + at, in_registers(tl.load(x_ptr + at), tl.float16))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_value_is_kept_exactly(dtype, device):
    bits = torch.arange(1 << 16).to(torch.int16).view(512, 128).to(device)
    # Values that are no number in float16 would spread through their row. Minus zero may become zero.
    bits[(bits & 0x7C00) == 0x7C00] = 0
    out = torch.empty_like(bits)
    keep[(1,)](bits.view(dtype), out.view(dtype), 512, 128, num_warps=8)
    assert torch.equal(*(each.masked_fill(each == -0x8000, 0) for each in (out, bits)))
