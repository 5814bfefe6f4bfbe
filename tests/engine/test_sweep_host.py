"""A block's sums against NumPy in float64, for few columns and many, in one part and in several."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from gatescope.engine import row_blocks, sweep_host
from gatescope.engine.skinny_product import MOST_AS_ROWS

MULTIPLES = (2.0, 8.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("W", [1, MOST_AS_ROWS, MOST_AS_ROWS + 1, 16, 37])
@pytest.mark.parametrize("moves", [True, False])
def test_sums_of_a_block_equal_float64(monkeypatch, dtype, W, moves):
    n, H = 101, 12
    # The smallest parts: 32 rows each.
    monkeypatch.setattr(row_blocks, "CACHED_BYTES", 1)
    generator = np.random.default_rng(W)
    block, z, signed = (generator.standard_normal(shape).astype(dtype) for shape in ((n, H), (n, W), (n, W)))
    step = generator.standard_normal((H, W)).astype(dtype) * moves
    offset = generator.standard_normal(W).astype(dtype)
    far = np.arange(0, W, 2)
    logits = z.copy()
    products, residuals, losses, slopes = sweep_host.block_sums(block, logits, signed, step, offset, far, MULTIPLES)
    exact, weight, label = block.astype(np.float64), np.abs(signed).astype(np.float64), signed > 0
    change = exact @ step + offset
    near = {"rtol": 0, "atol": 300 * np.finfo(dtype).eps}

    def residual(logits):
        return weight * (expit(logits) - label)

    np.testing.assert_allclose(logits, z + change, **near)
    r = residual(z + change)
    np.testing.assert_allclose(products, r.T @ exact, **near)
    np.testing.assert_allclose(residuals, r.sum(axis=0), **near)
    loss = weight * np.logaddexp(0, np.where(label, -1, 1) * (z + change))
    np.testing.assert_allclose(losses, loss.sum(axis=0), **near)
    expected = np.zeros((2, W))
    for m, multiple in enumerate(MULTIPLES):
        expected[m, far] = (residual(z + multiple * change) * change).sum(axis=0)[far]
    np.testing.assert_allclose(slopes, expected, rtol=0, atol=3000 * np.finfo(dtype).eps)
    for sums in (products, residuals, losses, slopes):
        assert sums.dtype == np.float64


def test_nonfinite_values_are_propagated():
    block, zeros = np.ones((40, 3), np.float32), np.zeros((40, 2), np.float32)
    block[7, 1] = np.inf
    offset, far = np.zeros(2, np.float32), np.zeros(0, int)
    products, *_ = sweep_host.block_sums(block, zeros, zeros + 1, np.zeros((3, 2), np.float32), offset, far, MULTIPLES)
    assert not np.isfinite(products[:, 1]).any() and np.isfinite(products[:, [0, 2]]).all()
    _, _, losses, _ = sweep_host.block_sums(block, zeros, zeros + 1, -np.ones((3, 2), np.float32), offset, far, ())
    assert np.isinf(losses).all()
