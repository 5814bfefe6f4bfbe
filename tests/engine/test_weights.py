"""Sums of weights, and which hypotheses share them, on any device."""

import numpy as np
import pytest

from gatescope.engine import weights
from gatescope.engine.weights import Weights, equal_weights


def make(n_rows=20_000, dtype=np.float32):
    generator = np.random.default_rng(0)
    weight = generator.uniform(0, 3, (n_rows, 3)) * (generator.random((n_rows, 3)) < 0.5)
    weight[:, 2] = weight[:, 0]
    return weight.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, bool])
def test_sums_are_exact_and_equal_columns_are_grouped(device, dtype):
    weight = make(dtype=dtype)
    for move, xp in ((np.asarray, np), (device, device.xp)):
        each = Weights(move(weight), *weight.shape, xp)
        np.testing.assert_allclose(each.sums(), weight.sum(axis=0, dtype=np.float64))
        assert each.groups[0] == each.groups[2] != each.groups[1] and set(each.groups) == {0, 1}
        assert sorted(group.tolist() for group in equal_weights(each)) == [[0, 2], [1]]
        # A difference in the last row counts as much as one in the first, and so does the order of rows.
        for row in (-1, 0):
            other = weight.copy()
            other[row, 2] = other[row, 2] == 0
            apart = Weights(move(other), *weight.shape, xp)
            assert len(set(apart.groups)) == 3
            assert sorted(group.tolist() for group in equal_weights(apart)) == [[0], [1], [2]]
        swapped = np.zeros_like(weight)
        swapped[3, 0] = swapped[3, 1] = swapped[4, 2] = 1
        assert Weights(move(swapped), *weight.shape, xp).groups.tolist() == [0, 0, 1]
        shared = Weights(move(weight[:, 0].copy()), len(weight), 4, xp)
        np.testing.assert_allclose(shared.sums(), [weight[:, 0].sum(dtype=np.float64)])


def test_weights_that_all_hypotheses_share_are_one_group():
    assert Weights(None, 4, 3, np).groups.tolist() == Weights(2.5, 4, 3, np).groups.tolist() == [0, 0, 0]
    np.testing.assert_allclose(Weights(2.5, 4, 2, np).sums(), [10])


@pytest.mark.parametrize("chunk_rows", [64, weights.CHUNK_ROWS])
def test_a_thousand_masks_that_differ_in_one_row_are_distinguished(monkeypatch, chunk_rows):
    monkeypatch.setattr(weights, "CHUNK_ROWS", chunk_rows)
    masks = np.ones((1200, 1000), bool)
    masks[np.arange(1000) + 100, np.arange(1000)] = False
    groups = Weights(masks, *masks.shape, np).groups
    assert sorted(groups) == list(range(1000))
    for other in (np.asfortranarray(masks), np.repeat(masks, 2, axis=0)[::2], masks.astype(np.float64)):
        np.testing.assert_array_equal(Weights(other, *masks.shape, np).groups, groups)


def test_weights_are_compared_once():
    each = Weights(make(), 20_000, 3, np)
    assert each.groups is each.groups and len(equal_weights(each)) == 2
