"""Loads and stores in the current layout: every value is in its place, and nothing else is touched."""

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from gatescope.kernels.unstaged import known_alike, load_unstaged, store_unstaged

# In the interpreter, or compiled on a GPU.
INTERPRETED = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is off where there is a GPU")
DEVICES = [pytest.param("cpu", marks=INTERPRETED), pytest.param("cuda", marks=pytest.mark.cuda)]


@triton.jit
def move(x_ptr, out_ptr, n_rows, N: tl.constexpr, K: tl.constexpr, MASKED: tl.constexpr):
    rows = tl.arange(0, N)[:, None]
    at = rows * K + tl.arange(0, K)[None, :]
    for _ in range(known_alike(tl.max(tl.arange(0, N), axis=0) // (N - 1))):
        x = load_unstaged(x_ptr + at)
        if out_ptr.dtype.element_ty == tl.int32:
            x = x.to(tl.int32)
        if MASKED:
            store_unstaged(out_ptr + at, x, rows < n_rows)
        else:
            store_unstaged(out_ptr + at, x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
@pytest.mark.parametrize("n_rows", [None, 5])
def test_move_copies_and_converts_only_the_given_rows(n_rows, dtype, device):
    x = torch.arange(-64, 64, dtype=torch.float32, device=device).view(16, 8)
    out = torch.full((18, 8), 77, dtype=dtype, device=device)
    move[(1,)](x, out[1:], n_rows or 0, 16, 8, n_rows is not None)
    expected = torch.full_like(out, 77)
    expected[1 : 1 + (n_rows or 16)] = x[: n_rows or 16].to(dtype)
    assert torch.equal(out, expected)
