"""The log-loss and its derivatives against arithmetic of 400 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from gatescope.engine.log_loss import log_loss, log_loss_curvature, log_loss_slope

LOGITS = [0.0, 1e-8, 0.3, 1.0, 5.0, 17.0, 30.0, 80.0, 700.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("signed", [1.0, -1.0, 2.5, -0.125, 0.0])
def test_loss_slope_and_curvature_equal_mpmath(dtype, signed):
    mpmath.mp.dps = 400
    logits = np.array([sign * z for z in LOGITS for sign in (1, -1)], dtype)
    loss, residual = log_loss(logits, np.full_like(logits, signed))
    curvature = log_loss_curvature(logits, np.full_like(logits, signed))
    assert loss.dtype == residual.dtype == curvature.dtype == dtype
    weight, label = abs(signed), int(signed > 0)
    for i, z in enumerate(mpmath.mpf(float(z)) for z in logits):
        p = 1 / (1 + mpmath.exp(-z))
        exact = (weight * mpmath.log(1 + mpmath.exp(-(2 * label - 1) * z)), weight * (p - label), weight * p * (1 - p))
        for got, expected in zip((loss[i], residual[i], curvature[i]), exact, strict=True):
            # Below the smallest normal number, only the absolute error is bounded.
            tiny = float(np.finfo(dtype).tiny)
            assert abs(float(got) - expected) <= 4 * float(np.finfo(dtype).eps) * abs(expected) + tiny
    np.testing.assert_array_equal(log_loss_slope(logits, np.full_like(logits, signed)), residual)


def test_long_and_transposed_arrays_are_computed_exactly():
    generator = np.random.default_rng(0)
    logits, signed = generator.standard_normal((2, 7, 12_000))
    loss, residual = log_loss(logits.T, signed.T)
    exact = np.abs(signed) * np.logaddexp(0, -np.sign(signed) * logits)
    np.testing.assert_allclose(loss, exact.T, rtol=1e-14)
    np.testing.assert_array_equal(log_loss_slope(logits.T, signed.T), residual)
    np.testing.assert_array_equal(log_loss_slope(logits, signed).T, residual)


def test_nonfinite_logits_give_nonfinite_or_limit_losses():
    loss, residual = log_loss(np.array([np.nan, np.inf, -np.inf]), np.ones(3))
    np.testing.assert_array_equal(loss, [np.nan, 0, np.inf])
    np.testing.assert_array_equal(residual, [np.nan, 0, -1])
