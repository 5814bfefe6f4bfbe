"""kept_chunk.py: each chunk of many rows is decoded once while an array is read in blocks."""

import collections
import pickle

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from other_files import RANDOM

from gatescope.engine import other_array
from gatescope.engine.kept_chunk import KeptChunk, kept_chunk
from gatescope.engine.other_dumps import ReadConfig, open_states
from gatescope.engine.state_source import BLOCK_ROWS

ROWS = RANDOM.normal(size=(5 * BLOCK_ROWS // 2, 4)).astype(np.float32)


class Chunked:
    """An array in chunks, which counts how often each is decoded."""

    def __init__(self, values, chunks):
        self._values, self.shape, self.dtype, self.chunks = values, values.shape, values.dtype, chunks
        self.decoded = collections.Counter()

    def __getitem__(self, key):
        touched = np.zeros(self.shape, bool)
        touched[key] = True
        self.decoded.update(set(map(tuple, (np.argwhere(touched) // self.chunks).tolist())))
        return self._values[key]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1))
def test_blocks_in_order_decode_each_chunk_once(n, size, step, axis):
    values = np.arange(n * 3 * 2).reshape((n, 3, 2) if axis == 0 else (3, n, 2))
    array = Chunked(values, (size, 2, 2) if axis == 0 else (2, size, 2))
    kept = KeptChunk(axis, size)
    parts = [kept.read(array, start, min(start + step, n)) for start in range(0, n, step)]
    assert np.array_equal(np.concatenate(parts, axis=axis), values)
    assert set(array.decoded.values()) == {1} and kept._last is None
    # Again, and in any order.
    for start in reversed(range(n)):
        assert np.array_equal(kept.read(array, start, n), values[start:] if axis == 0 else values[:, start:])


def test_what_is_read_is_a_copy_and_another_process_gets_no_chunk():
    array = Chunked(np.arange(20.0).reshape(10, 2), (10, 2))
    kept = KeptChunk(0, 10)
    kept.read(array, 0, 4)[:] = -1
    assert kept._last is not None and pickle.loads(pickle.dumps(kept))._last is None
    assert np.array_equal(kept.read(array, 0, 4), array._values[:4]) and set(array.decoded.values()) == {1}


@pytest.mark.parametrize(
    ("shape", "chunks", "axis", "size"),
    [
        ((100, 2), (50, 1), 0, 50),
        ((100, 2), (200, 2), 0, 100),
        ((100, 2), (10, 2), 0, None),
        ((100, 2), None, 0, None),
        ((9, 30, 2), (3, 5, 2), 0, 3),
        ((30, 9, 2), (5, 3, 2), 1, 3),
        ((9, 30, 2), (1, 20, 2), 0, 1),
        ((9, 30, 2), (1, 5, 2), 0, None),
        ((9, 3, 2), (3, 3, 2), 0, None),
    ],
)
def test_only_chunks_of_more_rows_than_a_block_are_kept(shape, chunks, axis, size):
    array = Chunked(np.zeros(shape, np.float32), chunks)
    kept = kept_chunk(array, axis, 10, 2**20)
    assert (kept and kept._size) == size
    n_bytes = 0 if size is None else size * array._values.nbytes // shape[axis]
    assert kept_chunk(array, axis, 10, n_bytes - 1) is None and (size is None or kept_chunk(array, axis, 10, n_bytes))


@pytest.fixture
def fetched(monkeypatch):
    """How often each chunk was fetched from a Zarr array of this machine, which decodes it each time."""
    counts, get = collections.Counter(), zarr.storage.LocalStore.get

    async def counted(self, key, *given, **named):
        if "zarr.json" not in key:
            counts[key] += 1
        return await get(self, key, *given, **named)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
    return counts


@pytest.mark.parametrize("chunks", [ROWS.shape, (BLOCK_ROWS + 1000, 4), (BLOCK_ROWS + 1000, 3)])
def test_zarr_in_large_chunks_is_decoded_once_in_a_pass_and_is_the_same_states(tmp_path, fetched, chunks):
    for name, each in (("large", chunks), ("small", (100, 4))):
        zarr.create_group(tmp_path / name).create_array("h", data=ROWS, chunks=each)
    large, small = open_states(tmp_path / "large"), open_states(tmp_path / "small")
    fetched.clear()
    assert np.array_equal(large.features(["h"]), ROWS)
    assert len(fetched) == np.prod([-(-n // size) for n, size in zip(ROWS.shape, chunks, strict=True)])
    assert set(fetched.values()) == {1}
    assert large.identity() == small.identity()
    rows = RANDOM.integers(len(ROWS), size=50)
    assert np.array_equal(large.array("h")[rows], ROWS[rows])


@pytest.mark.parametrize("batch_first", [False, True])
def test_padded_sequences_in_one_chunk_are_decoded_once_in_a_pass(tmp_path, fetched, batch_first):
    cube = RANDOM.normal(size=(300, 200, 2)).astype(np.float32)
    lengths = RANDOM.integers(1, 200 if batch_first else 300, size=300 if batch_first else 200)
    group = zarr.create_group(tmp_path / "x")
    group.create_array("h", data=cube, chunks=cube.shape)
    group.create_array("lengths", data=lengths)
    source = open_states(tmp_path / "x", ReadConfig(batch_first=batch_first))
    fetched.clear()
    by_sequence = cube if batch_first else cube.swapaxes(0, 1)
    expected = np.concatenate([each[:length] for each, length in zip(by_sequence, lengths, strict=True)])
    assert source.n_rows > 2 * BLOCK_ROWS and np.array_equal(source.features(["h"]), expected)
    assert set(fetched.values()) == {1}


def test_arrays_that_are_read_together_share_what_is_kept(tmp_path, monkeypatch):
    group = zarr.create_group(tmp_path / "x")
    for name in ("h", "c"):
        group.create_array(name, data=ROWS, chunks=ROWS.shape)
    for n_bytes, is_kept in ((2 * ROWS.nbytes, True), (2 * ROWS.nbytes - 1, False)):
        monkeypatch.setattr(other_array, "KEPT_BYTES", n_bytes)
        source = open_states(tmp_path / "x")
        assert [array._kept is not None for array in source._arrays.values()] == [is_kept] * 2
        assert open_states(tmp_path / "x", ReadConfig(arrays=("h",))).array("h")._kept is not None
