"""exp, sigmoid and tanh against high-precision arithmetic, and for non-finite values against torch."""

import mpmath
import numpy as np
import pytest
import torch

from gatescope.kernels.activations_host import CONTRACT, exp, sigmoid, tanh
from gatescope.kernels.host import compiled

NUMBERS = [0.0, 1e-30, 1e-8, 0.01, 0.2, 0.35, 0.7, 1.0, 2.5, 4.2, 9.0, 20.0, 60.0, 87.0]


def _activate(x, sigmoids, tanhs, powers):
    for k in range(len(x)):
        sigmoids[k] = sigmoid(x[k])
    for k in range(len(x)):
        tanhs[k] = tanh(x[k])
    for k in range(len(x)):
        powers[k] = exp(x[k])


activate = compiled(_activate, fast=CONTRACT)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_accurate_to_the_last_digits(dtype):
    mpmath.mp.dps = 60
    # Up to where exp with the positive sign exceeds the largest number.
    last = np.arange(-0.5, 0.9, 0.07) + (np.finfo(dtype).maxexp - 1) * np.log(2)
    x = np.array([sign * number for number in (*NUMBERS, *last) for sign in (1, -1)], dtype)
    found = np.empty((3, len(x)), dtype)
    activate(x, *found)
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    for k, each in enumerate(mpmath.mpf(float(value)) for value in x):
        expected = 1 / (1 + mpmath.exp(-each)), mpmath.tanh(each), mpmath.exp(each)
        for value, exact in zip(found[:, k], expected, strict=True):
            early = np.isposinf(value) and exact > 0.7 * float(np.finfo(dtype).max)
            assert early or abs(float(value) - exact) <= 4 * eps * abs(exact) + tiny


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nonfinite_inputs_match_torch(dtype):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1000.0, -1000.0], dtype=dtype)
    found = torch.empty(3, len(x), dtype=dtype)
    activate(x.numpy(), *found.numpy())
    expected = torch.stack((x.sigmoid(), x.tanh(), x.exp()))
    torch.testing.assert_close(found, expected, rtol=0, atol=torch.finfo(dtype).tiny, equal_nan=True)
