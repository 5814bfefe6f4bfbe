"""A pass over the rows, against the same sums in one piece."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from gatescope.engine.arrays import as_rows
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.split_product import SUMMED_ROWS
from gatescope.engine.sweep import MULTIPLES, SweepTile, with_columns


@pytest.mark.parametrize("shifted", [False, True])
def test_two_passes_add_up(shifted):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((5000, 4))
    signed = generator.standard_normal((5000, 3))
    shift = np.array([0.5, -1, 0, 2]) if shifted else None
    moved = X - shift if shifted else X
    steps = generator.standard_normal((2, 4, 3))
    offsets = generator.standard_normal((2, 3))
    with RowBlocks(X, np.float64) as rows:
        rows.block_rows = 321
        tile = SweepTile(rows, shift, 3)
        for column in range(3):
            tile.start(column, signed[:, column])
        tile(steps[0], offsets[0], np.zeros(0, int))
        sums = tile(steps[1], offsets[1], np.array([0, 2]))
    before = moved @ steps[0] + offsets[0]
    change = moved @ steps[1] + offsets[1]
    weight, label = np.abs(signed), signed > 0

    def residual(z):
        return weight * (expit(z) - label)

    z = before + change
    np.testing.assert_allclose(tile.logits, z, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sums.products, moved.T @ residual(z), rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(sums.residuals, residual(z).sum(axis=0), rtol=1e-10)
    np.testing.assert_allclose(sums.losses, (weight * np.logaddexp(0, np.where(label, -z, z))).sum(axis=0), rtol=1e-12)
    for i, multiple in enumerate(MULTIPLES):
        slopes = (residual(before + multiple * change) * change).sum(axis=0)
        np.testing.assert_allclose(sums.slopes[i, [0, 2]], slopes[[0, 2]], rtol=1e-10)
    assert (sums.slopes[:, 1] == 0).all()
    np.testing.assert_allclose(tile.curvature(1), weight[:, 1] * expit(z[:, 1]) * expit(-z[:, 1]), rtol=1e-10)


def test_columns_are_kept_or_restarted():
    with RowBlocks(np.ones((10, 1)), np.float64) as rows:
        tile = SweepTile(rows, None, 3)
        for column in range(3):
            tile.start(column, np.full(10, float(column)))
        tile(np.array([[1.0, 2, 3]]), np.zeros(3), np.zeros(0, int))
        tile.keep(np.array([0, 2]))
        np.testing.assert_array_equal(tile.logits, np.tile([1, 3], (10, 1)))
        np.testing.assert_array_equal(tile.signed, np.tile([0, 2], (10, 1)))
        tile.start(0, np.full(10, -1.0))
        np.testing.assert_array_equal(tile.logits[0], [0, 3])


def test_separation_ignores_rows_without_weight():
    X = np.array([[1.0], [2.0], [-1.0], [3.0]])
    with RowBlocks(X, np.float64) as rows:
        tile = SweepTile(rows, None, 2)
        tile.start(0, np.array([1.0, 1, -1, 0]))
        tile.start(1, np.array([1.0, 1, -1, -1]))
        tile(np.ones((1, 2)), np.zeros(2), np.zeros(0, int))
        assert tile.separates(0) and not tile.separates(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_long_blocks_on_a_device(device, dtype):
    generator = np.random.default_rng(0)
    X = torch.from_numpy(generator.standard_normal((9000, 5))).to(dtype)
    exact = X.to(torch.float64).numpy()
    # Slopes beyond the range of float16, and far below its smallest number.
    weight = generator.choice([1e-6, 0.1, 1.0], (9000, 1)) * [1e-12, 1.0, 1e6]
    signed = (generator.choice([-1.0, 1.0], (9000, 3)) * weight).astype(np.float32)
    step = (generator.standard_normal((5, 3)) * [1e-3, 1.0, 30.0]).astype(np.float32)
    offset = generator.standard_normal(3).astype(np.float32)
    with RowBlocks(as_rows(device(X)), np.float32) as rows:
        if dtype == torch.float32:
            rows.block_rows = 8500
        else:
            # Rows of 16 bits are multiplied as they are stored.
            rows.stored_rows = 8500
        tile = SweepTile(rows, None, 4)
        for column in range(3):
            tile.start(column + 1, device(signed[:, column]))
        tile.keep(np.array([1, 2, 3]))
        sums = tile(step, offset, np.array([1]))
        assert tile.split == (dtype != torch.float32)
        curvature = tile.curvature(1).get()
    moved = exact @ step.astype(np.float64) + offset
    # The logits are float32 numbers; everything derived from them is compared with its exact value at those numbers.
    z = tile.logits.get().astype(np.float64)
    slope = -signed * expit(-np.sign(signed) * z)
    np.testing.assert_allclose(curvature, np.abs(signed[:, 1]) * expit(z[:, 1]) * expit(-z[:, 1]), rtol=1e-6)
    largest, size = np.abs(z).max(axis=0), np.abs(slope).sum(axis=0)
    np.testing.assert_allclose(z / largest, moved / largest, atol=3e-7)
    np.testing.assert_allclose(sums.residuals / size, slope.sum(axis=0) / size, atol=2e-7)
    scale, rounding = np.abs(exact).T @ np.abs(slope), np.sqrt(SUMMED_ROWS) * 2.0**-24
    if tile.split and device.on_gpu:
        # A tensor core adds eight or sixteen products to a sum at once and truncates the result towards zero by up to
        # 2^-23 of it (Khattak and Mikaitis 2025, arXiv:2512.07004), so the losses add up. While a sum grows, it is half
        # its final size on average.
        rounding = SUMMED_ROWS / 8 * 2.0**-23 / 2
    # As in the tests of the products: the error of the parts, and of sums of at most 4096 terms in float32.
    np.testing.assert_allclose(sums.products / scale, exact.T @ slope / scale, rtol=0, atol=2.0**-21 + rounding)
    losses = np.abs(signed) * np.logaddexp(0, -np.sign(signed) * z)
    np.testing.assert_allclose(sums.losses, losses.sum(axis=0), rtol=1e-6)
    # The logits began at zero, so they equal the change.
    far = np.array(MULTIPLES)[:, None] * z[:, 1]
    slopes = (-signed[:, 1] * expit(-np.sign(signed[:, 1]) * far) * z[:, 1]).sum(axis=1)
    np.testing.assert_allclose(sums.slopes[:, 1], slopes, rtol=1e-5)
    assert (sums.slopes[:, [0, 2]] == 0).all()


@pytest.mark.parametrize("piece_rows", [1, 3, 100])
def test_columns_stay_in_their_memory(device, piece_rows):
    values = np.arange(120.0).reshape(2, 12, 5)
    for move in (np.array, lambda given: device(given.copy())):
        array = move(values)
        kept = with_columns(array, np.array([0, 3, 4]), piece_rows)
        # The memory is that of the array: its beginning now holds the columns that were kept.
        for got in (kept, array.reshape(-1)[: kept.size].reshape(kept.shape)):
            np.testing.assert_array_equal(got if move is np.array else got.get(), values[..., [0, 3, 4]])
