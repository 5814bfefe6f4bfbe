"""Rows of chosen sequences, against the same rows of everything in memory."""

import numpy as np
import pytest

from gatescope.engine.blocked_array import BlockedArray
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.sequence_rows import SequenceRows

H = 5
STARTS = np.array([0, 7, 7, 8, 20, 33, 33, 50])  # of seven sequences, two of them empty
VALUES = np.arange(50 * H, dtype=np.float32).reshape(50, H)
INITIAL = -np.arange(1, 7 * H + 1, dtype=np.float32).reshape(7, H)
CHOICES = [[0, 1, 2, 3, 4, 5, 6], [0, 2, 3, 6], [3], [1], [5, 1], [], [6, 0, 4], [2, 3, 4]]


class Blocks(BlockedArray):
    """An array in memory, in blocks of six rows, that notes which blocks it reads."""

    def __init__(self):
        super().__init__("h", VALUES.shape, VALUES.dtype, 6)
        self.read = []

    def _read_block(self, index, whole):
        self.read.append(index)
        return VALUES[index * 6 : index * 6 + 6]


def aligned(alignment):
    """All rows, in the given alignment."""
    if alignment == "post":
        return VALUES
    moved = np.roll(VALUES, 1, axis=0)
    for sequence in range(7):
        if STARTS[sequence + 1] > STARTS[sequence]:
            moved[STARTS[sequence]] = INITIAL[sequence]
    return moved


@pytest.fixture(params=["post", "pre"])
def alignment(request):
    return request.param


@pytest.fixture(params=CHOICES, ids=str)
def both(request, alignment):
    """The rows of some sequences, lazily and in memory."""
    chosen = np.array(request.param, dtype=np.int64)
    rows = np.concatenate([np.arange(STARTS[s], STARTS[s + 1]) for s in chosen] or [np.arange(0)])
    before = INITIAL[chosen] if alignment == "pre" else None
    return SequenceRows(Blocks(), STARTS[chosen], STARTS[chosen + 1], before), aligned(alignment)[rows]


def test_every_slice_equals_the_array(both):
    lazy, expected = both
    assert lazy.shape == expected.shape and lazy.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(lazy), expected)
    for start in range(0, len(expected) + 1, 3):
        for stop in range(start, len(expected) + 1, 5):
            np.testing.assert_array_equal(lazy[start:stop], expected[start:stop])
            np.testing.assert_array_equal(lazy[start:stop, [4, 0]], expected[start:stop, [4, 0]])
            out = np.full((stop - start, H + 2), np.nan, np.float32)
            lazy.read_into(out[:, 1:-1], start)
            np.testing.assert_array_equal(out[:, 1:-1], expected[start:stop])


def test_chosen_rows_and_columns_equal_the_array(both):
    lazy, expected = both
    rng = np.random.default_rng(0)
    index = rng.integers(-len(expected), len(expected), 40) if len(expected) else np.arange(0)
    np.testing.assert_array_equal(lazy[index], expected[index])
    np.testing.assert_array_equal(lazy[index, 2], expected[index, 2])
    np.testing.assert_array_equal(lazy[index, 1:3], expected[index, 1:3])
    mask = rng.random(len(expected)) < 0.5
    np.testing.assert_array_equal(lazy[mask, [3, 3]], expected[mask][:, [3, 3]])


def test_rows_are_read_only_on_request():
    array = Blocks()
    lazy = SequenceRows(array, STARTS[[0, 6]], STARTS[[1, 7]])
    assert array.read == []
    lazy[7:9]
    assert array.read == [5]


def test_sequences_of_a_source_match_its_features(tmp_path, small_dump):
    dump = StateDump.open(small_dump(tmp_path / "states.zarr", lengths=(7, 1, 12, 20, 5)))
    chosen = np.array([3, 0, 4])
    starts = dump.sequence_starts
    rows = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in chosen])
    names = [name for name in dump.names if "gates" not in name]
    for alignment in ("post", "pre"):
        lazy = dump.of_sequences(names, chosen, alignment)
        np.testing.assert_array_equal(np.asarray(lazy), dump.features(names, alignment)[rows])
        assert dump.of_sequences(names[0], [3, 0], alignment).shape == (20 + 7, 3)
        with pytest.raises(InputError, match="no array of"):
            dump.of_sequences([], chosen, alignment)
    with pytest.raises(InputError, match="alignment 'before' is unknown"):
        dump.of_sequences(names, chosen, "before")
