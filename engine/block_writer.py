"""The files of a dump's row blocks, written in place: rows come in any order, and a block with all its rows is sealed.

A file has its whole length from its first row on. The checksum after the values is written last, so a block that lacks
rows does not match it; rows are read again for it, unless all rows of a block come at once. Nothing is kept in memory,
however long a sequence is and however many are computed abreast.

Where a dump is compressed, the rows of a block grow in a raw file beside it, and sealing writes the block from it. The
raw file stays until no resume point names the block as one that lacks rows.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from gatescope.engine.block_file import CHECKSUM_BYTES, BlockFiles, RowTypes, checksum, encoded, fill_value
from gatescope.engine.files import write_new

# The most that threads which compute meanwhile write in one call. For more, Linux allocates memory in larger pieces,
# which are read faster (0.012 instead of 0.022 s for 134 MB); but a virtual machine was slow to give them: sampling to
# a dump of 1.2 GB took 4.3 instead of 2.8 s.
MOST_BYTES = 64 << 10

_SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None


class BlockWriter(BlockFiles):
    """Arrays that share their rows, in blocks of as many rows, a file for each array and block.

    Args:
        path, arrays, n_rows, block_rows, compression: as `BlockFiles` has them.
        committed_rows: those that are there; their blocks are sealed.
    """

    def __init__(
        self,
        path: Path,
        arrays: RowTypes,
        n_rows: int,
        block_rows: int,
        committed_rows: int,
        compression: str = "none",
    ) -> None:
        super().__init__(path, arrays, n_rows, block_rows, compression)
        self._new_files_of: set[str] = set()
        self._reserving = Lock()
        self._whole: set[tuple[str, int]] = set()  # written at once, and sealed but for the disk
        self._sizes = np.minimum(self.block_rows, n_rows - np.arange(0, n_rows, self.block_rows))
        self._filled = np.zeros_like(self._sizes)
        self._n_committed = -(-committed_rows // self.block_rows)
        self._filled[: self._n_committed] = self._sizes[: self._n_committed]
        self._n_leading = self._n_committed

    @property
    def n_filled(self) -> int:
        """How many rows are there, wherever they are."""
        return int(self._filled.sum())

    @property
    def leading_rows(self) -> int:
        """How many rows are in the blocks before the first that lacks rows."""
        while self._n_leading < len(self._sizes) and self._filled[self._n_leading] == self._sizes[self._n_leading]:
            self._n_leading += 1
        return min(self._n_leading * self.block_rows, self.n_rows)

    def is_complete(self, block: int) -> bool:
        """Whether a block has all of its rows."""
        return bool(self._filled[block] == self._sizes[block])

    def take_new_files(self) -> set[str]:
        """Return the arrays that have new files since the last call: the names of these are not on the disk yet."""
        with self._reserving:
            found, self._new_files_of = self._new_files_of, set()
        return found

    def add(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Count runs of rows as there, and return the blocks that have them, int64; some may be complete now."""
        block, _, _, _, n = self._cut(starts, lengths)
        np.add.at(self._filled, block, n)
        return np.unique(block)

    def write(
        self, starts: np.ndarray, lengths: np.ndarray, values: Mapping[str, np.ndarray], threads: Executor | None
    ) -> None:
        """Write runs of rows, each row once; those in committed blocks are left as they are. They count when added.

        Several threads may write at once, each its own rows.

        Args:
            starts, lengths: int64 [K], first row and number of rows of each run.
            values: [K, T, *shape of a row] for each array, of its dtype; run k has lengths[k] of T.
            threads: they write several files side by side; None: the caller's thread writes all of them.

        Raises:
            OSError: the disk is full, or fails.
        """
        block, row, run, place, n = self._cut(starts, lengths)
        order = np.lexsort((row, block))
        blocks, firsts = np.unique(block[order], return_index=True)
        source = run * next(iter(values.values())).shape[1] + place
        parts = {
            number: np.stack([row[part], source[part], n[part]], axis=1)
            for number, part in zip(blocks.tolist(), np.split(order, firsts[1:]), strict=bool(len(blocks)))
        }
        memory = {name: _bytes(each) for name, each in values.items()}
        most = MOST_BYTES if threads is None else sys.maxsize
        files = [(name, number, parts[number], memory[name], most) for number in parts for name in self.arrays]
        if threads is None:
            for file in files:
                self._write_parts(*file)
            return
        tasks = [threads.submit(self._write_parts, *file) for file in files]
        # All of them have ended when the first failure is raised: the values belong to the caller.
        failures = [task.exception() for task in tasks]
        for failure in filter(None, failures):
            raise failure

    def begin_sync(self, blocks: list[int]) -> None:
        """Let the disk take what blocks have, so that it is not idle until they are complete.

        Only Linux has a call for it (sync_file_range(2)), which promises nothing. A disk that has a cache of its own
        empties it when it is told to, and that takes most of the time: so one of the files is waited for.

        Raises:
            OSError: the disk fails. The system says so once: nothing that was written may count then.
        """
        if _SYNC_FILE_RANGE is None or not blocks:
            return
        whole, write = ctypes.c_int64(0), ctypes.c_uint(2)
        # Meanwhile this dump may have replaced another, or a raw file may be gone because its block was sealed.
        for block, name in itertools.product(blocks, self.arrays):
            with suppress(FileNotFoundError), self._growing(name, block).open("rb+", buffering=0) as file:
                _SYNC_FILE_RANGE(file.fileno(), whole, whole, write)
        with suppress(FileNotFoundError):
            self.sync(next(reversed(self.arrays)), blocks[-1])

    def seal(self, name: str, block: int) -> None:
        """Write what follows a complete block's rows, the checksum last, and bring its file to the disk."""
        growing, size = self._growing(name, block), int(self._sizes[block]) * self.row_bytes(name)
        with growing.open("rb+", buffering=0) as file:
            if self.compression != "none":
                raw = np.fromfile(growing, np.uint8)
                raw[size:-CHECKSUM_BYTES] = self._rest(name, block)
                write_new(self.file(name, block), encoded(raw, self.compression).data)
                return
            if (name, block) not in self._whole:
                with mmap.mmap(file.fileno(), 0) as mapped:
                    # No array may look at the mapping when it is closed.
                    _write_at(file.fileno(), self._end(name, block, np.frombuffer(mapped, np.uint8, size)), size)
            self._whole.discard((name, block))
            os.fsync(file.fileno())

    def sync(self, name: str, block: int) -> None:
        """Bring the rows that a block has to the disk."""
        with self._growing(name, block).open("rb+", buffering=0) as file:
            os.fsync(file.fileno())

    def discard(self, block: int) -> None:
        """Remove the raw files of a sealed block."""
        if self.compression != "none":
            for name in self.arrays:
                self._growing(name, block).unlink(missing_ok=True)

    def discard_all(self) -> None:
        """Remove every raw file, those that killed programs left included."""
        if self.compression != "none":
            for name in self.arrays:
                for file in (self.path / name).glob("raw.*"):
                    file.unlink()

    def is_there(self, name: str, block: int) -> bool:
        """Whether a block has its file: sealed, where it is complete; otherwise of the right length."""
        if self.compression != "none" and self.is_complete(block):
            return self.file(name, block).is_file()
        file = self._growing(name, block)
        return file.is_file() and file.stat().st_size == self.raw_bytes(name)

    def _write_parts(self, name: str, block: int, parts: np.ndarray, values: np.ndarray, most: int) -> None:
        row_bytes = self.row_bytes(name)
        pieces = [(place, values[source : source + n]) for place, source, n in (parts * row_bytes).tolist()]
        # Then all rows are at hand, and need not be read again.
        whole = self.compression == "none" and parts[:, 2].sum() == self._sizes[block]
        if whole:
            pieces.append((self._sizes[block] * row_bytes, self._end(name, block, *(piece for _, piece in pieces))))
        descriptor = os.open(self._growing(name, block), os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            # Where a file system cannot reserve, zeros are written: never over rows of another thread.
            with self._reserving:
                if not self._filled[block]:
                    self._new_files_of.add(name)
                if os.fstat(descriptor).st_size != self.raw_bytes(name):
                    _set_length(descriptor, self.raw_bytes(name))
            for place, piece in pieces:
                _write_at(descriptor, piece, place, most)
            if whole:
                self._whole.add((name, block))
        finally:
            os.close(descriptor)

    def _rest(self, name: str, block: int) -> np.ndarray:
        """Return the bytes of the rows that are never filled, at the end of the last block."""
        tail, dtype = self.arrays[name]
        return _bytes(np.full((self.block_rows - int(self._sizes[block]), *tail), fill_value(dtype), dtype))

    def _end(self, name: str, block: int, *rows: np.ndarray) -> np.ndarray:
        """Return the bytes that follow a block's rows, which are given as bytes in pieces."""
        rest = self._rest(name, block)
        return np.concatenate([rest, checksum(*rows, rest)])

    def _cut(self, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
        """Cut runs where blocks end: the block of each part, its row in there, its run, its place there, its length.

        What lies in committed blocks is left out.
        """
        first, last = starts // self.block_rows, (starts + lengths - 1) // self.block_rows
        n_parts = np.where(lengths > 0, last - first + 1, 0)
        run = np.repeat(np.arange(len(starts)), n_parts)
        block = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
        low = np.maximum(starts[run], block * self.block_rows)
        high = np.minimum(starts[run] + lengths[run], (block + 1) * self.block_rows)
        parts = np.stack([block, low - block * self.block_rows, run, low - starts[run], high - low])
        return tuple(parts[:, block >= self._n_committed])

    def _growing(self, name: str, block: int) -> Path:
        """The file that takes a block's rows."""
        file = self.file(name, block)
        return file if self.compression == "none" else file.with_name(f"raw.{block}")


def _set_length(descriptor: int, n_bytes: int) -> None:
    # Reserved at once, a file is in one piece on the disk and written faster, and a full disk is known before.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    os.ftruncate(descriptor, n_bytes)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _write_at(descriptor: int, values: np.ndarray, place: int, most: int = sys.maxsize) -> None:
    """Write bytes at a place of a file, at most so many in a system call, which may take less than it was given."""
    rest = values.data
    while rest:
        if hasattr(os, "pwrite"):
            n = os.pwrite(descriptor, rest[:most], place)
        else:
            os.lseek(descriptor, place, os.SEEK_SET)
            n = os.write(descriptor, rest[:most])
        rest, place = rest[n:], place + n
