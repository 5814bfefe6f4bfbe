"""Blocks written in place: rows in any order give the same files."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import numpy as np
import pytest
from numcodecs.zstd import Zstd

from gatescope.engine import block_writer
from gatescope.engine.block_writer import BlockWriter

ARRAYS = {"tokens": ((), np.dtype(np.uint8)), "layer0/h": ((3,), np.dtype(np.float16))}
N, BLOCK = 23, 5
TOKENS = np.arange(N, dtype=np.uint8)
STATES = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float16)


@pytest.fixture(params=[0, 3], ids=["one thread", "threads"])
def threads(request):
    """A pool that writes several files side by side, or None."""
    if request.param == 0:
        yield None
        return
    with ThreadPoolExecutor(request.param) as pool:
        yield pool


@pytest.fixture
def make(tmp_path):
    def make(committed_rows=0, compression="none"):
        for name in ARRAYS:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
        return BlockWriter(tmp_path, ARRAYS, N, BLOCK, committed_rows, compression)

    return make


def write(blocks, threads, starts, lengths):
    width = max(lengths)
    values = {
        "tokens": np.full((len(starts), width), 255, np.uint8),
        "layer0/h": np.ones((len(starts), width, 3), "f2"),
    }
    for run, (start, n) in enumerate(zip(starts, lengths, strict=True)):
        values["tokens"][run, :n], values["layer0/h"][run, :n] = TOKENS[start : start + n], STATES[start : start + n]
    runs = np.array(starts), np.array(lengths)
    blocks.write(*runs, values, threads)
    return blocks.add(*runs).tolist()


def assert_whole(path):
    for name, values, fill in (("tokens", TOKENS, 0), ("layer0/h", STATES, np.nan)):
        padded = np.full((25, *values.shape[1:]), fill, values.dtype)
        padded[:N] = values
        for block in range(5):
            stored = (path / name / (f"c.{block}" + ".0" * (values.ndim - 1))).read_bytes()
            expected = padded[5 * block : 5 * block + 5].tobytes()
            assert stored == expected + google_crc32c.value(expected).to_bytes(4, "little")


@pytest.mark.parametrize("width", [1, 2, 3, 4, 11])
def test_sequences_may_be_written_side_by_side(tmp_path, make, threads, width):
    # Three sequences of 9, 11 and 3 rows, a few steps at a time.
    bounds = np.array([0, 9, 20, 23])
    blocks, complete = make(), []
    for step in range(0, 11, width):
        lengths = np.clip(np.diff(bounds) - step, 0, width)
        touched = write(blocks, threads, (bounds[:-1] + step).tolist(), lengths.tolist())
        complete += [block for block in touched if blocks.is_complete(block)]
        blocks.begin_sync(touched)
    assert sorted(complete) == [0, 1, 2, 3, 4] and blocks.leading_rows == blocks.n_filled == N
    for block in complete:
        for name in ARRAYS:
            blocks.seal(name, block)
    assert_whole(tmp_path)


def test_partial_system_writes_are_completed(tmp_path, make, monkeypatch):
    monkeypatch.setattr(block_writer, "MOST_BYTES", 4)
    blocks = make()
    touched = write(blocks, None, [0, 9], [9, N - 9])
    blocks.begin_sync(touched)
    for block in touched:
        for name in ARRAYS:
            blocks.seal(name, block)
    assert_whole(tmp_path)


def test_a_block_written_whole_has_its_checksum_before_sealing(tmp_path, make, threads):
    blocks = make()
    # The first block and the last (three rows) come whole; the third first without one of its rows, then with it.
    assert write(blocks, threads, [0, 10, 20], [5, 4, 3]) == [0, 2, 4]
    whole = {block: (tmp_path / "tokens" / f"c.{block}").read_bytes() for block in (0, 2, 4)}
    for block, content in whole.items():
        sealed = google_crc32c.value(content[:-4]).to_bytes(4, "little") == content[-4:]
        assert sealed == (block != 2)
    # Two runs of one block, the later one first.
    assert write(blocks, threads, [14, 7, 5, 15], [1, 3, 2, 5]) == [1, 2, 3]
    for name in ARRAYS:
        for block in range(5):
            blocks.seal(name, block)
    assert_whole(tmp_path)


def test_the_checksum_is_written_last_and_only_after_full_data(tmp_path, make, threads, monkeypatch):
    blocks, write_at, places = make(), block_writer._write_at, {}

    def full(descriptor, values, place, most):
        places.setdefault(os.fstat(descriptor).st_ino, []).append(place)
        if place > 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_at(descriptor, values, place, most)

    monkeypatch.setattr(block_writer, "_write_at", full)
    with pytest.raises(OSError, match="No space"):
        write(blocks, threads, [0], [5])
    # In each file the rows are written, and the checksum after them fails.
    assert places.pop((tmp_path / "tokens" / "c.0").stat().st_ino) == [0, 5]
    # Without threads the second file is not begun; with threads it may be under way already.
    if threads is None:
        assert not places
    elif places:
        assert places == {(tmp_path / "layer0" / "h" / "c.0.0").stat().st_ino: [0, 30]}
    monkeypatch.setattr(block_writer, "_write_at", write_at)
    # Once there is room again, the rows come in parts.
    for starts, lengths in (([0, 5], [3, 18]), ([3], [2])):
        write(blocks, threads, starts, lengths)
    for name in ARRAYS:
        for block in range(5):
            blocks.seal(name, block)
    assert_whole(tmp_path)


def test_compressed_blocks_grow_raw(tmp_path, make, threads):
    blocks = make(compression="zstd")
    assert write(blocks, threads, [0, 10], [6, 4]) == [0, 1, 2]
    blocks.seal("layer0/h", 0)
    stored = (tmp_path / "layer0" / "h" / "c.0.0").read_bytes()
    assert google_crc32c.value(stored[:-4]).to_bytes(4, "little") == stored[-4:]
    assert Zstd().decode(stored[:-4]) == STATES[:5].tobytes()
    assert write(make(compression="zstd"), threads, [20], [3]) == [4]
    blocks.seal("layer0/h", 4)
    last = (tmp_path / "layer0" / "h" / "c.4.0").read_bytes()
    assert Zstd().decode(last[:-4]) == STATES[20:].tobytes() + np.full((2, 3), np.nan, "f2").tobytes()
    # A resume point may still need the raw rows.
    assert (tmp_path / "layer0" / "h" / "raw.0").is_file() and blocks.is_there("layer0/h", 0)
    assert not blocks.is_there("tokens", 0) and blocks.is_there("tokens", 1)
    blocks.discard(0)
    # A block may be gone by the time its sync is asked for.
    blocks.begin_sync([0, 1])
    assert sorted(file.name for file in tmp_path.rglob("raw.*")) == [
        "raw.1",
        "raw.1",
        "raw.2",
        "raw.2",
        "raw.4",
        "raw.4",
    ]
    assert blocks.is_there("layer0/h", 0)
    make(compression="zstd").discard_all()
    assert sorted(file.name for file in tmp_path.rglob("*.*")) == ["c.0.0", "c.4.0"]


def test_rows_count_from_the_front(make, threads):
    blocks = make()
    assert write(blocks, threads, [7, 2], [5, 2]) == [0, 1, 2]
    assert blocks.leading_rows == 0 and blocks.n_filled == 7
    assert [blocks.is_there("layer0/h", block) for block in range(5)] == [True, True, True, False, False]
    assert write(blocks, threads, [0, 4], [2, 1]) == [0] and blocks.is_complete(0)
    assert blocks.leading_rows == 5
    assert write(blocks, threads, [5], [2]) == [1] and blocks.leading_rows == 10
    assert blocks.add(np.array([12]), np.array([11])).tolist() == [2, 3, 4] and blocks.leading_rows == N


def test_committed_blocks_are_not_rewritten(tmp_path, make, threads):
    blocks = make(committed_rows=10)
    assert blocks.leading_rows == blocks.n_filled == 10
    assert write(blocks, threads, [8], [9]) == [2, 3]
    assert blocks.n_filled == 17 and not blocks.is_there("tokens", 1)
    assert (tmp_path / "tokens" / "c.2").read_bytes()[:5] == bytes(range(10, 15))
    assert make(committed_rows=N).leading_rows == N


def test_rows_that_fail_do_not_count(tmp_path, make, threads):
    blocks = make()
    (tmp_path / "layer0" / "h").rmdir()
    with pytest.raises(FileNotFoundError):
        write(blocks, threads, [0], [5])
    assert blocks.n_filled == 0
