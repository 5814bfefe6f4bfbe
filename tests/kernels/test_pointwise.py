"""The kernels' sigmoid and tanh against float64, and for non-finite values against torch; on a GPU, as compiled."""

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from gatescope.kernels.pointwise import sigmoid, tanh

SIZE = 1 << 14
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
# In the interpreter, or compiled on a GPU.
INTERPRETED = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is off where there is a GPU")
DEVICES = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=INTERPRETED), pytest.param("cuda", marks=pytest.mark.cuda)]
)


@triton.jit
def activate(x_ptr, kind_ptr, sigmoid_ptr, tanh_ptr, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    x = tl.load(x_ptr + at)
    tl.store(sigmoid_ptr + at, sigmoid(x))
    tl.store(tanh_ptr + at, tanh(x, kind_ptr.dtype.element_ty))


def activations(x, dtype, device):
    """The kernels' activations of float32 values, for states of a given dtype."""
    x = torch.nn.functional.pad(x.to(device), (0, SIZE - len(x)))
    found = torch.empty_like(x), torch.empty_like(x)
    activate[(1,)](x, torch.empty(1, dtype=dtype, device=device), *found, SIZE)
    return [each.cpu() for each in found]


@DEVICES
@DTYPES
def test_activations_are_near_float64(dtype, device):
    generator = torch.Generator().manual_seed(0)
    x = torch.cat((torch.linspace(-87, 87, SIZE // 2), torch.randn(SIZE // 2, generator=generator)))
    for found, exact in zip(activations(x, dtype, device), (x.double().sigmoid(), x.double().tanh()), strict=True):
        error = (found.double() - exact).abs()
        assert error.max() <= 5e-7
    # Small sigmoids, and in float32 small values of tanh, are exact to a few of their own last bits.
    few_bits = 2.0**-20
    small = x.double().sigmoid() < 0.5
    found, exact = activations(x, dtype, device)[0].double(), x.double().sigmoid()
    # The last bit of an argument of 87 changes its exponential by 1e-5.
    allowed = (few_bits + x.double().abs() * 2.0**-23) * exact
    assert ((found - exact).abs() <= allowed)[small].all()
    if dtype == torch.float32:
        found, exact = activations(x, dtype, device)[1].double(), x.double().tanh()
        assert ((found - exact).abs() <= few_bits * exact.abs()).all()


@DEVICES
@DTYPES
def test_zero_infinities_and_nan_are_exact(dtype, device):
    """Zero stays exactly zero, infinities give the limits, and NaN gives NaN."""
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, 3e38, -3e38, torch.inf, -torch.inf, torch.nan])
    found = [each[: len(x)] for each in activations(x, dtype, device)]
    torch.testing.assert_close(found[0], x.sigmoid(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found[1], x.tanh(), rtol=0, atol=0, equal_nan=True)
