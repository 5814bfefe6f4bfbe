"""Writing a state dump, block by block, so that a program killed at any moment loses nothing that was committed.

Rows wait in memory until a block is full. Its files, one for each array, are brought to the disk first; then the number
of committed rows in the group's metadata moves, atomically. A block counts from that moment on, and a writer that opens
the dump again goes on behind it. Nothing on disk depends
on time or on where the writing was interrupted: the finished dump is the same to the byte.

Writing goes on in the background, up to two blocks behind the caller.
"""

from __future__ import annotations

import os
import shutil
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gatescope.engine.block_file import encoded
from gatescope.engine.block_table import BlockTable
from gatescope.engine.dump import GROUP_FILE, StateDump, read_group
from gatescope.engine.dump_spec import INITIAL_ROWS, DumpSpec, create_skeleton, difference
from gatescope.engine.errors import InputError
from gatescope.engine.files import (
    PARTIAL,
    exchange,
    partial_name,
    remove_partial,
    sync_folder,
    write_atomic,
    write_json,
    write_new,
)

if sys.platform != "win32":
    import fcntl

__all__ = ["DumpSpec", "DumpWriter"]

# A disk takes several files at once: twelve arrays were on it twice as fast side by side as one after another.
WRITERS = 8


class DumpWriter:
    """Writes a state dump, or goes on with one that was interrupted.

    >>> with DumpWriter("states.zarr", spec) as writer:
    ...     for start, tokens, states, initial in groups(from_row=writer.committed_rows):
    ...         writer.write_initial(sequence, initial)
    ...         writer.append(start, tokens, states)

    Leaving the block finishes the dump; an exception leaves it as it is, to be continued. A caller that cannot begin in
    the middle of a group of sequences appends the whole group again: rows that are committed are dropped.

    Args:
        path: the dump's folder; its parent must exist.
        spec: what the dump holds.
        overwrite: replace a dump that is there. Nothing but a state dump is ever replaced.

    Raises:
        InputError: the path holds something else, a dump of another spec (the first difference is named), or one that
            another program is writing.
    """

    def __init__(self, path: str | os.PathLike[str], spec: DumpSpec, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        # A link stays a link: what it points to is made or replaced.
        if self.path.is_symlink():
            self.path = self.path.resolve()
        absent = not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))
        if not absent:
            # Whoever writes it may have a skeleton beside it.
            os.close(_lock(self.path))
        remove_skeletons(self.path)
        if absent:
            _create(self.path, spec)
        elif overwrite:
            _replace(self.path, spec)
        self._unlock = weakref.finalize(self, os.close, _lock(self.path))
        try:
            self._resume(spec)
        except BaseException:
            self._unlock()
            raise
        self._waiting: dict[Path, np.ndarray] = {}
        self._background = ThreadPoolExecutor(1, "dump")
        self._files = ThreadPoolExecutor(WRITERS, "dump-file")
        self._pending: deque[Future[None]] = deque()

    def _resume(self, spec: DumpSpec) -> None:
        """Take up a dump where its last writer left it."""
        there = StateDump.open(self.path, finished=False)
        found = difference(there, spec)
        if found:
            raise InputError(f"{self.path} was begun with other settings: {found}; repeat those, or use --overwrite")
        remove_partial(self.path)
        self._group = read_group(self.path)
        self._header = self._group["attributes"]["gatescope"]
        self.committed_rows = there.committed_rows
        self._starts = spec.sequence_starts
        self._compression = spec.compression
        self._n_tokens = len(spec.attributes["vocabulary"])
        states: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            name: ((width,), spec.dtype) for name, width in spec.arrays.items()
        }
        begun = int(np.searchsorted(self._starts[:-1], self.committed_rows))
        rows = {"tokens": ((), spec.token_dtype), **states}
        self._rows = BlockTable(self.path, rows, spec.n_rows, spec.block_rows, self.committed_rows, spec.compression)
        initial = {f"initial/{name}": states[name] for name in spec.initial_arrays}
        self._initial = BlockTable(self.path, initial, spec.n_sequences, INITIAL_ROWS, begun, spec.compression)

    def __enter__(self) -> DumpWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: Any) -> None:
        if kind is None:
            self.close()
        else:
            self._release()

    def append(self, start_row: int, tokens: Any, states: Mapping[str, np.ndarray | Tensor]) -> None:
        """Add rows.

        Args:
            start_row: the number of the first; no row may be left out. Rows that are there already are dropped.
            tokens: [n], indices into the vocabulary.
            states: [n, H] for each array of the spec, of any float dtype, on any device; rounded to the dump's dtype.

        Raises:
            InputError: a state is not finite in the dump's dtype (array, row and unit are named), a token is outside
                the vocabulary, or shapes do not fit.
            OSError: the disk is full, or fails. What was committed is intact; it may be the block before that fails.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise InputError(f"tokens are {tokens.dtype} of shape {tokens.shape}: expected integers [n]")
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self._n_tokens):
            raise InputError(f"a token is outside the vocabulary: expected 0 to {self._n_tokens - 1}")
        begun = int(np.searchsorted(self._starts[:-1], start_row + len(tokens)))
        if self._initial.arrays and self._initial.received < begun:
            raise ValueError(
                f"sequence {self._initial.received} has no initial states: call write_initial before append"
            )
        for files in self._rows.fill(start_row, {"tokens": tokens, **states}):
            self._submit(files)

    def write_initial(self, first_sequence: int, states: Mapping[str, np.ndarray | Tensor]) -> None:
        """Add the states before the first row of sequences; call it before their rows are appended.

        Args:
            first_sequence: the number of the first; no sequence may be left out. Those there already are dropped.
            states: [s, H] for each recurrent array of the spec, by its name ("layer0/h").

        Raises:
            InputError, OSError: see `append`.
        """
        if not states and not self._initial.arrays:
            return
        named = {f"initial/{name}": values for name, values in states.items()}
        for files in self._initial.fill(first_sequence, named):
            self._waiting.update(files)

    def close(self) -> None:
        """Write the last block and wait until everything is committed.

        Raises:
            ValueError: rows are missing.
            OSError: the disk is full, or fails; what was committed is intact.
        """
        try:
            if self._rows.received < self._rows.n_rows:
                raise ValueError(f"{self.path}: {self._rows.received} of {self._rows.n_rows} rows were appended")
            if self._rows.received % self._rows.block_rows and self.committed_rows < self._rows.n_rows:
                self._submit(self._rows.partial())
            for commit in self._pending:
                commit.result()
        finally:
            self._release()

    def _submit(self, blocks: dict[Path, np.ndarray]) -> None:
        """Hand the files of a block of rows to the background; wait first where it is two blocks behind."""
        if len(self._pending) == 2:
            self._pending[0].result()
            self._pending.popleft()
        initial = {**self._waiting, **self._initial.partial()}
        self._waiting = {}
        # Blocks of rows are written at once, while the one before is still being committed. Initial states share a file
        # from one commit to the next, so they wait for their turn.
        written = [self._files.submit(_write_rows, file, block, self._compression) for file, block in blocks.items()]
        self._pending.append(self._background.submit(self._commit, self._rows.received, written, initial))

    def _commit(self, rows: int, written: list[Future[None]], initial: dict[Path, np.ndarray]) -> None:
        for file in written:
            file.result()
        list(self._files.map(partial(write_block, compression=self._compression), initial, initial.values()))
        if rows > self.committed_rows + self._rows.block_rows:
            raise ValueError(f"{self.path}: rows before {rows} were not committed; open the dump anew")
        self._header["rows_committed"] = rows
        write_json(self.path / GROUP_FILE, self._group)
        self.committed_rows = rows

    def _release(self) -> None:
        self._background.shutdown()
        self._files.shutdown()
        self._unlock()


def write_block(file: Path, block: np.ndarray, compression: str) -> None:
    """Write the file of a block: uint8, with four bytes behind the values for their checksum."""
    write_atomic(file, encoded(block, compression).data)


def _write_rows(file: Path, block: np.ndarray, compression: str) -> None:
    """Write a block of rows, which is committed only when it is on the disk, and never written again then."""
    write_new(file, encoded(block, compression).data)


@contextmanager
def reserved(path: Path) -> Iterator[None]:
    """Keep other writers from a dump while the block runs, and remove what one that was killed left beside it.

    Raises:
        InputError: there is no dump, or another program is writing it.
    """
    descriptor = _lock(path)
    try:
        remove_skeletons(path)
        yield
    finally:
        os.close(descriptor)


def _create(path: Path, spec: DumpSpec) -> None:
    """Make a dump without rows, all at once."""
    skeleton = partial_name(path)
    try:
        create_skeleton(skeleton, spec)
        os.replace(skeleton, path)
    except BaseException:
        shutil.rmtree(skeleton, ignore_errors=True)
        raise
    sync_folder(path.parent)


def _replace(path: Path, spec: DumpSpec) -> None:
    """Put a dump without rows in the place of another."""
    with reserved(path):
        skeleton = partial_name(path)
        try:
            create_skeleton(skeleton, spec)
            exchange(skeleton, path)
        finally:
            shutil.rmtree(skeleton, ignore_errors=True)


def remove_skeletons(path: Path) -> None:
    """Remove what a program left that was killed while it made or replaced this dump."""
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder: make it first, or choose another")
    for entry in path.parent.iterdir():
        if entry.name.startswith(f"{path.name}.") and PARTIAL.fullmatch(entry.name) and entry.is_dir():
            shutil.rmtree(entry)


def _lock(path: Path) -> int:
    """Reserve a dump for this writer; the system lets go of it when the program ends, however it ends.

    Returns:
        A descriptor of the folder; closing it frees the dump.
    """
    read_group(path)
    if sys.platform == "win32":
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(f"{path} is being written by another program: wait for it, or choose another folder") from None
    except OSError:
        return descriptor  # a network file system without locks
    return descriptor
