"""How many units a GPU processes together."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.engine.neurons_cuda import FEWEST_UNITS, ROW_BYTES, TILE_BYTES, TILE_TARGETS, TILE_UNITS, tile_shape
from gatescope.engine.row_blocks import RowBlocks


def shape_for(n_rows, memory_limit=None):
    states = np.broadcast_to(np.float16(0), (n_rows, 1536))
    return tile_shape(RowBlocks(states, np.float32, memory_limit))


def test_a_million_rows_get_the_largest_tiles():
    assert shape_for(10**6) == (TILE_UNITS, TILE_TARGETS)


def test_more_rows_get_narrower_tiles_that_still_fill_a_gpu():
    units, _ = shape_for(3 * 10**6)
    assert FEWEST_UNITS < units < TILE_UNITS and units * ROW_BYTES * 3 * 10**6 <= TILE_BYTES
    assert shape_for(10**8) == (FEWEST_UNITS, TILE_TARGETS)


@pytest.mark.parametrize("limit", [10**6, 10**9, 10**10])
def test_a_memory_limit_is_respected(limit):
    units, targets = shape_for(10**6, limit)
    assert units == 1 or units * ROW_BYTES * 10**6 < limit
    assert targets == 1 or targets * 32 * 10**6 <= limit
