"""Reading in pieces: order, overlap, limits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from gatescope.engine.errors import InputError
from gatescope.engine.read_ahead import bytes_of, is_on_disk, read_ahead


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ("1GB", 10**9), ("500 mb", 5 * 10**8), ("1.5K", 1500), (12345, 12345), ("7", 7)],
)
def test_sizes(given, expected):
    assert bytes_of(given) == expected


@pytest.mark.parametrize("given", ["", "GB", "-1GB", "0", "1 PB", "many", 0])
def test_sizes_that_are_none(given):
    with pytest.raises(InputError, match=r"memory_limit is .*expected a size such as"):
        bytes_of(given)


class OnDisk:
    """An array that is read when it is asked for, and notes when."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.read = []
        self.reading = threading.Event()

    def __getitem__(self, key):
        self.read.append(key)
        self.reading.set()
        return self.values[key]


def test_what_is_on_disk(tmp_path):
    X = np.ones((4, 2))
    np.save(tmp_path / "x.npy", X)
    assert is_on_disk(np.load(tmp_path / "x.npy", mmap_mode="r")[1:]) and is_on_disk(OnDisk(X))
    assert not is_on_disk(X) and not is_on_disk(torch.ones(4, 2))


@pytest.mark.parametrize(("start", "stop", "step"), [(0, 100, 30), (10, 50, 40), (3, 7, 100), (5, 5, 10)])
def test_every_row_is_read_once_and_in_order(start, stop, step):
    X = np.arange(300.0).reshape(100, 3)
    seen = [(first, piece.copy()) for first, piece in read_ahead(OnDisk(X), start, stop, step)]
    assert [first for first, _ in seen] == list(range(start, stop, step))
    np.testing.assert_array_equal(np.vstack([X[:0], *(piece for _, piece in seen)]), X[start:stop])


def test_the_next_piece_is_read_while_one_is_worked_on():
    source = OnDisk(np.arange(40.0).reshape(20, 2))
    pieces = read_ahead(source, 0, 20, 5)
    next(pieces)
    source.reading.clear()
    next(pieces)
    # The third piece is asked for without the caller asking.
    assert source.reading.wait(10)
    assert len(list(pieces)) == 2 and len(source.read) == 4
