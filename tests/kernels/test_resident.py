"""Weights in registers: every number that a factor may hold comes through the product that keeps it there."""

import pytest
import torch
import triton
import triton.language as tl

from gatescope.kernels.resident import in_registers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@triton.jit
def keep(x_ptr, out_ptr, N: tl.constexpr, K: tl.constexpr):
    at = tl.arange(0, N)[:, None] * K + tl.arange(0, K)[None, :]
    tl.store(out_ptr + at, in_registers(tl.load(x_ptr + at), tl.float16))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_on_a_gpu(dtype):
    test_every_number(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number(dtype):
    bits = torch.arange(1 << 16).to(torch.int16).view(512, 128).to(DEVICE)
    # What float16 has no number for would spread in its row. Minus zero comes out as zero.
    bits[(bits & 0x7C00) == 0x7C00] = 0
    out = torch.empty_like(bits)
    keep[(1,)](bits.view(dtype), out.view(dtype), 512, 128, num_warps=8)
    assert torch.equal(out, bits.masked_fill(bits == -0x8000, 0))
