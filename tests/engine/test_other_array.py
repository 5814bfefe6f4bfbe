"""other_array.py: states of three dimensions are read many sequences at a time, within bounds."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatescope.engine.location import Location
from gatescope.engine.other_array import MOST_PADDED, OtherArray
from gatescope.engine.other_file import OtherFile
from gatescope.engine.other_sequences import Cube


class Counted:
    """An array that remembers the shape of each read."""

    def __init__(self, values):
        self._values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, []

    def __getitem__(self, key):
        found = self._values[key]
        self.read.append(found.shape[:2])
        return found


def made(lengths, batch_first, block_rows):
    """Return an array of random states, a counter of its reads, and its rows."""
    lengths = np.array(lengths)
    values = np.random.default_rng(0).normal(size=(len(lengths), lengths.max(), 3))
    rows = values[np.arange(lengths.max()) < lengths[:, None]]
    counted = Counted(values if batch_first else values.transpose(1, 0, 2))
    file = OtherFile(Location("states.zarr"))
    file._arrays = {"h": counted}
    array = OtherArray("h", file, Cube(counted.shape[:2], batch_first, lengths))
    array.block_rows = block_rows
    return array, counted, rows


@pytest.mark.parametrize("batch_first", [False, True])
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 20))
@example([1, 1, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1], 20)
def test_rows_follow_the_sequences_and_padding_is_bounded(batch_first, lengths, block_rows):
    array, counted, rows = made(lengths, batch_first, block_rows)
    assert np.array_equal(np.asarray(array), rows)
    most = max(MOST_PADDED * block_rows, max(lengths))
    assert all(n * steps <= most for n, steps in counted.read)


@pytest.mark.parametrize("batch_first", [False, True])
def test_sequences_of_a_block_are_read_at_once(batch_first):
    array, counted, rows = made([50] * 100, batch_first, 1000)
    assert np.array_equal(np.asarray(array), rows)
    assert len(counted.read) == 5
    # A sequence longer than a block is read without the parts that are not asked for.
    array, counted, rows = made([5000], batch_first, 1000)
    assert np.array_equal(array[1500:1600], rows[1500:1600]) and sorted(counted.read[0]) == [1, 1000]
