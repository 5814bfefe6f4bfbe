"""Split products against float64, and the kernel between them against the same steps in torch."""

from __future__ import annotations

import host_kernels
import numpy as np
import pytest
import torch

from gatescope.engine import log_loss_cuda, split_product
from gatescope.engine.log_loss import log_loss
from gatescope.engine.split_product import PARTS, column_scale, parts_times_states, split, states_times_parts

# The error relative to an element, and relative to the largest in its column.
RELATIVE, ABSOLUTE = 2.0**-21, 2.0**-38


def columns(n, width, seed=0):
    """Columns whose elements span ten orders of magnitude and whose sizes span sixty, with zeros."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, width, generator=generator) * 10 ** (-10 * torch.rand(n, width, generator=generator))
    values[::7] = 0.0
    return values * 10 ** torch.linspace(-25, 35, width)


@pytest.mark.parametrize("dtype", PARTS)
def test_the_parts_add_up(dtype):
    values = columns(300, 13)
    scale = column_scale(values.abs().amax(dim=0))
    assert (torch.frexp(scale)[0] == 0.5).all()
    parts = split(values, scale, dtype)
    assert parts.dtype == dtype and torch.isfinite(parts).all()
    total = parts.to(torch.float64).unflatten(1, (-1, 13)).sum(dim=1) / scale
    exact = values.to(torch.float64)
    bound = RELATIVE / 2 * exact.abs() + ABSOLUTE * exact.abs().amax(dim=0)
    assert ((total - exact).abs() <= bound).all()


@pytest.mark.parametrize("largest", [0.0, 1e-45, 1e-38, 1.0, 3e38])
def test_scales_are_finite_powers_of_two(largest):
    scale = column_scale(torch.tensor([largest]))
    assert torch.isfinite(scale).all() and torch.isfinite(1 / scale).all() and torch.frexp(scale)[0] == 0.5
    assert not torch.isinf(split(torch.tensor([[largest]]), scale, torch.float16)).any()


@pytest.mark.parametrize("dtype", PARTS)
def test_products_equal_float64(dtype):
    generator = torch.Generator().manual_seed(1)
    n, H, W = 2 * split_product.SUMMED_ROWS + 77, 24, 5
    X = torch.tanh(torch.randn(n, H, generator=generator)).to(dtype)
    exact = X.to(torch.float64)
    step, slopes = torch.randn(H, W, generator=generator), torch.rand(n, W, generator=generator) - 0.5
    for values, product, left in ((step, states_times_parts, exact), (slopes, parts_times_states, exact.T)):
        scale = column_scale(values.abs().amax(dim=0))
        parts = split(values, scale, dtype)
        if product is states_times_parts:
            got = product(X, parts)
            assert got.dtype == torch.float32
            got = got.to(torch.float64).unflatten(1, (-1, W)).sum(dim=1) / scale
        else:
            got = product(parts, X)
            assert got.dtype == torch.float64
            got = (got.unflatten(0, (-1, W)).sum(dim=0) / scale[:, None]).T
        expected, size = left @ values.to(torch.float64), left.abs() @ values.abs().to(torch.float64)
        # The rest is the rounding of float32 sums.
        terms = min(left.shape[1], split_product.SUMMED_ROWS)
        assert ((got - expected).abs() <= (RELATIVE + np.sqrt(terms) * 2.0**-24) * size).all()


def test_a_single_part_would_not_be_accurate():
    values = columns(300, 13)
    scale = column_scale(values.abs().amax(dim=0))
    first = split(values, scale, torch.float16)[:, :13].to(torch.float64) / scale
    assert ((first - values).abs() > 1e-4 * values.abs()).any()


@pytest.fixture(params=[False, True], ids=["kept", "flushed"])
def arithmetic(request):
    """Arithmetic as in C, and as CuPy compiles it: float32 below the least normal number is flushed to 0."""
    if not torch.set_flush_denormal(request.param):
        pytest.skip("this processor cannot take subnormal numbers for 0")
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_the_kernel_rounds_like_torch(name):
    generator = np.random.default_rng(2)
    bits = generator.integers(0, 2**32, 200_000, dtype=np.uint32)
    # Ties, subnormal numbers of both precisions, both ends of the range, infinities and NaN.
    halves = np.arange(2**16, dtype=np.uint32) << 13
    special = np.concatenate([halves + add for add in (0, 0xFFF, 0x1000, 0x1001)] + [bits, bits & 0x87FFFFFF])
    special = np.concatenate(
        [special, np.array([0x7F800000, 0xFF800000, 0x7FC00000, 0x80000000, 0x477FF000], np.uint32)]
    )
    values = special.view(np.float32)
    operation = f"half = {name}_bits(value); back = {name}_value(half)"
    outputs = "uint16 half, float32 back"
    half, back = host_kernels.elementwise("float32 value", outputs, operation, split_product.SOURCE, [values])
    expected = torch.from_numpy(values).to(getattr(torch, name))
    np.testing.assert_array_equal(back, expected.to(torch.float32).numpy())
    finite = ~np.isnan(values)
    np.testing.assert_array_equal(half[finite], expected.view(torch.uint16).numpy()[finite])


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("dtype", PARTS)
def test_the_kernel_moves_and_splits(dtype):
    name, n_parts = str(dtype).removeprefix("torch."), PARTS[dtype]
    generator = np.random.default_rng(3)
    parts, before = generator.standard_normal((n_parts, 400, 3)), generator.standard_normal((400, 3))
    # For the smallest numbers both parts are subnormal in float16, or 0.
    signed = generator.choice([-2.0, -1e-3, 0.0, 1.0, 1e-9, -1e-11], (400, 3)).astype(np.float32)
    parts = (parts * 1e5 * 2.0 ** (-11 * np.arange(n_parts)[:, None, None])).astype(np.float32)
    inverse, offset = np.array([2.0**-15, 2.0**-17, 2.0**-5], np.float32), np.array([0.5, -1, 0], np.float32)
    scale = column_scale(torch.from_numpy(np.abs(signed).max(axis=0)))
    z, change, loss, slope, *slope_parts = host_kernels.elementwise(
        *split_product.parameters(n_parts),
        split_product.operation(name, n_parts),
        log_loss_cuda.SOURCE + split_product.SOURCE,
        [*parts, inverse, offset, signed, scale.numpy(), before.astype(np.float32)],
    )
    expected = parts.astype(np.float64).sum(axis=0) * inverse + offset
    np.testing.assert_allclose(change, expected, rtol=3e-7, atol=1e-6)
    np.testing.assert_array_equal(z, before.astype(np.float32) + change)
    for got, exact in zip((loss, slope), log_loss(z.astype(np.float64), signed.astype(np.float64)), strict=True):
        np.testing.assert_allclose(got, exact, rtol=5e-7, atol=1e-37)
    got = torch.from_numpy(np.concatenate(slope_parts, axis=1)).view(dtype)
    torch.testing.assert_close(got, split(torch.from_numpy(slope), scale, dtype), rtol=0, atol=0)
