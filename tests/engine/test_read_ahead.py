"""Reading in pieces: order, overlap, limits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from gatescope.engine.read_ahead import is_on_disk, read_ahead


class OnDisk:
    """An array that is read on demand, and notes when."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.read = []
        self.reading = threading.Event()

    def __getitem__(self, key):
        self.read.append(key)
        self.reading.set()
        return self.values[key]


def test_memory_maps_and_lazy_arrays_count_as_on_disk(tmp_path):
    X = np.ones((4, 2))
    np.save(tmp_path / "x.npy", X)
    assert is_on_disk(np.load(tmp_path / "x.npy", mmap_mode="r")[1:]) and is_on_disk(OnDisk(X))
    assert not is_on_disk(X) and not is_on_disk(torch.ones(4, 2))


@pytest.mark.parametrize(("n_rows", "step"), [(100, 30), (40, 40), (4, 100), (0, 10)])
def test_every_row_is_read_once_and_in_order(n_rows, step):
    X = np.arange(3.0 * n_rows).reshape(n_rows, 3)
    seen = [(first, piece.copy()) for first, piece in read_ahead(OnDisk(X), step)]
    assert [first for first, _ in seen] == list(range(0, n_rows, step))
    np.testing.assert_array_equal(np.vstack([X[:0], *(piece for _, piece in seen)]), X)


def test_the_next_piece_is_read_while_one_is_in_use():
    source = OnDisk(np.arange(40.0).reshape(20, 2))
    pieces = read_ahead(source, 5)
    next(pieces)
    source.reading.clear()
    next(pieces)
    # The third piece is requested before the caller asks for it.
    assert source.reading.wait(10)
    assert len(list(pieces)) == 2 and len(source.read) == 4
