"""unit_labels.py: which hypotheses are processed together, and AUROCs where some rows have no weight."""

import numpy as np
import pytest

from gatescope.engine.unit_labels import FEW_TARGETS, label_tiles
from gatescope.engine.weights import Weights

N = 20


def weights_of(groups):
    """Weights of hypotheses; hypotheses with equal group numbers have equal weights."""
    columns = np.random.default_rng(0).random((max(groups) + 1, N))
    return Weights(columns[np.array(groups)].T, N, len(groups), np)


def listed(tiles):
    return [(numbers.tolist(), alike) for numbers, alike in tiles]


def test_hypotheses_with_equal_weights_share_a_tile_and_small_groups_merge():
    assert FEW_TARGETS == 4
    tiles = label_tiles(weights_of([0, 1, 0, 2, 0, 0, 1, 0]), np.ones(8, bool), 3)
    assert listed(tiles) == [([0, 2, 4], True), ([5, 7], True), ([1, 6, 3], False)]
    wanted = np.array([True, True, True, False, True, True, True, False])
    assert listed(label_tiles(weights_of([0, 1, 0, 2, 0, 0, 1, 0]), wanted, 9)) == [
        ([0, 2, 4, 5], True),
        ([1, 6], False),
    ]


@pytest.mark.parametrize("weight", [None, np.arange(1.0, N + 1)])
def test_hypotheses_with_shared_weights_fill_tiles_in_order(weight):
    weights = Weights(weight, N, 3, np)
    assert listed(label_tiles(weights, np.array([True, False, True]), 5)) == [([0, 2], True)]
    assert listed(label_tiles(weights, np.ones(3, bool), 2)) == [([0, 1], True), ([2], True)]
    # There is a tile even if there is nothing to fit.
    assert listed(label_tiles(weights, np.zeros(3, bool), 2)) == [([], True)]
