"""The C code of the log-loss, on a GPU and built for the host, against 400-digit arithmetic and the CPU's code."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from gatescope.engine.log_loss import log_loss, log_loss_curvature, log_loss_slope

EXTREME = [0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, 1e-8, 0.3, -1.0, 17.0, -30.0, 88.0, -103.0, 700.0, 1e4, -1e4]


def least(device, dtype):
    """The smallest numbers: on a GPU, CuPy flushes float32 below the least normal number to 0, weights included."""
    tiny = float(np.finfo(dtype).tiny)
    return tiny, tiny if device.on_gpu and dtype == np.float32 else 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("signed", [1.0, -1.0, 2.5, -0.125, 0.0, -0.0, 1e-39])
def test_loss_slope_and_curvature_equal_mpmath(device, dtype, signed):
    mpmath.mp.dps = 400
    logits = np.concatenate([np.array(EXTREME), np.random.default_rng(0).normal(0, 10, 20)]).astype(dtype)
    signed = np.full_like(logits, signed)
    loss, residual = log_loss(device(logits), device(signed))
    curvature = log_loss_curvature(device(logits), device(signed))
    np.testing.assert_array_equal(log_loss_slope(device(logits), device(signed)).get(), residual.get())
    assert loss.dtype == residual.dtype == curvature.dtype == dtype
    results = [values.get() for values in (loss, residual, curvature)]
    weight, label = mpmath.mpf(abs(float(signed[0]))), int(signed[0] > 0)
    tiny, flushed = least(device, dtype)
    weight = weight if weight >= flushed else mpmath.mpf(0)
    for i, z in enumerate(mpmath.mpf(float(z)) for z in logits):
        # 1 - p and p (1 - p) without cancellation.
        p, rest = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
        margin = z if label else -z
        exact = (mpmath.log1p(mpmath.exp(-margin)), -rest if label else p, p * rest)
        for got, expected in zip(results, exact, strict=True):
            bound = 4 * float(np.finfo(dtype).eps) * abs(weight * expected) + tiny + weight * flushed
            assert abs(float(got[i]) - weight * expected) <= bound


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_device_loss_equals_the_cpu_for_any_strides(device, dtype):
    generator = np.random.default_rng(1)
    logits, signed = generator.normal(0, 20, (2, 70, 900)).astype(dtype)
    # The CPU flushes exp(-|z|) below the least normal number to 0, whatever factor it gets.
    eps, (tiny, _) = np.finfo(dtype).eps, least(device, dtype)
    for z, s in ((logits, signed), (logits.T, signed.T), (logits[:, ::3], signed[:, ::3])):
        moved = [device(np.ascontiguousarray(values)) for values in (logits, signed)]
        if z.shape != logits.shape:
            moved = [values.T if z.shape[0] == 900 else values[:, ::3] for values in moved]
        for got, expected in zip(log_loss(*moved), log_loss(z, s), strict=True):
            assert got.shape == z.shape
            np.testing.assert_allclose(got.get(), expected, rtol=6 * eps, atol=tiny * (1 + abs(s).max()))


def test_nonfinite_logits_give_nonfinite_or_limit_losses(device):
    logits = device(np.array([np.nan, np.inf, -np.inf, np.inf]))
    loss, residual = (values.get() for values in log_loss(logits, device(np.array([1.0, 1.0, 1.0, 0.0]))))
    np.testing.assert_array_equal(loss, [np.nan, 0, np.inf, 0])
    np.testing.assert_array_equal(residual, [np.nan, 0, -1, 0])
