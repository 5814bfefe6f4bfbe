"""Gram matrices of rounded rows, against float64 products of rows that torch has rounded."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gatescope.engine.rounded_gram import PAIRS, _pack, add_rounded_gram, rounds

needs_pairs = pytest.mark.skipif(not PAIRS, reason="this processor does not multiply bfloat16")


def bfloat16(rows):
    return torch.from_numpy(rows).bfloat16()


def test_two_rows_are_rounded_into_one():
    # Ties go to the even neighbour; the last number exceeds the range of bfloat16 and becomes infinite.
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 1 + 2**-8 + 2**-20, 3e-40, 0, np.inf, 3.4e38], np.float32)
    rows = np.vstack([ties, np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)])
    pairs = np.empty((3, 8), np.int32)
    _pack(rows.view(np.int32), pairs)
    halves = bfloat16(rows).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(pairs.view(np.uint32) & 0xFFFF, halves[::2])
    np.testing.assert_array_equal((pairs.view(np.uint32) >> 16)[:2], halves[1::2])
    assert (pairs[2] >> 16 == 0).all()


@needs_pairs
@pytest.mark.parametrize(("n", "H"), [(1, 8), (64, 24), (127, 136), (30, 264)])
def test_the_upper_triangle_may_be_computed_in_any_parts(n, H):
    rows = np.random.default_rng(n).standard_normal((n, H)).astype(np.float32)
    exact = bfloat16(rows).double().numpy()
    exact = exact.T @ exact
    for ends in ([0, H], [0, 3, H // 2, H - 1, H]):
        total = np.full((H, H), 2, np.float32)
        for top, bottom in itertools.pairwise(ends):
            before = total.copy()
            add_rounded_gram(total, rows, top, bottom)
            # Each core takes its own rows.
            others = np.delete(np.arange(H), slice(top, bottom))
            np.testing.assert_array_equal(total[others], before[others])
        upper = np.triu_indices(H)
        size = np.abs(rows).T.astype(np.float64) @ np.abs(rows)
        assert (np.abs(total - 2 - exact)[upper] <= 1.01 * (n + 2) * 2.0**-24 * (size + 2)[upper]).all()


@needs_pairs
def test_only_float32_rows_of_suitable_width_are_rounded():
    assert rounds(512, np.dtype(np.float32)) and rounds(8, np.dtype(np.float32))
    assert not rounds(12, np.dtype(np.float32)) and not rounds(512, np.dtype(np.float64))


@needs_pairs
def test_nonfinite_values_are_propagated():
    rows = np.ones((10, 16), np.float32)
    rows[3, 5] = np.nan
    total = np.zeros((16, 16), np.float32)
    add_rounded_gram(total, rows, 0, 16)
    assert np.isnan(total[5, 5:]).all() and (total[6, 6:] == 10).all()
