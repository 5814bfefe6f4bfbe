"""Writing a state dump, so that a program killed at any moment loses nothing that was committed.

Rows go into the files of their blocks as they come (`gatescope.engine.block_writer`). A commit brings them to the disk
first; then the number of committed rows in the group's metadata moves, atomically. Rows count from that moment on, and
a writer that opens the dump again goes on behind them. What is on disk of sequences that are computed side by side, and
fills no block yet, counts by their resume points (`gatescope.engine.resume_points`). Nothing in the finished dump
depends on time or on where the writing was interrupted: it is the same to the byte.

Checksums and commits are made in the background (`gatescope.engine.commits`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.block_file import RowTypes
from gatescope.engine.block_table import BlockTable, require_arrays, rounded
from gatescope.engine.block_writer import BlockWriter
from gatescope.engine.commits import Commits
from gatescope.engine.dump import StateDump, read_group
from gatescope.engine.dump_folder import DumpFolder
from gatescope.engine.dump_spec import INITIAL_ROWS, DumpSpec, require_begun_with
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove_partial
from gatescope.engine.location import local_path
from gatescope.engine.resume_points import RESUME_FILE, ResumePoint, read_points
from gatescope.engine.uncommitted import Uncommitted

# Rows go into the system's cache, which takes the processor and not the disk: more threads would be in each other's
# way. They have their own, so as not to wait for files that are brought to the disk.
COPIERS = 2


class DumpWriter:
    """Writes a state dump, or goes on with one that was interrupted.

    >>> with DumpWriter("states.zarr", spec) as writer:
    ...     for start, tokens, states, initial in groups(from_row=writer.committed_rows):
    ...         writer.write_initial(sequence, initial)
    ...         writer.append(start, tokens, states)

    Leaving the block finishes the dump; an exception leaves it as it is, to be continued. A caller that cannot begin in
    the middle of a group of sequences appends the whole group again: rows that are committed are dropped. A caller that
    computes sequences side by side calls `resume` once, and `write_steps` and `count_steps` instead of `append`.

    Args:
        path: the dump's folder; its parent must exist.
        spec: what the dump holds.
        overwrite: replace a dump that is there, as soon as something of the new one is committed. Nothing but a state
            dump is ever replaced.

    Raises:
        InputError: the path holds something else, a dump of another spec (the first difference is named), or one that
            another program is writing.
    """

    def __init__(self, path: str | os.PathLike[str], spec: DumpSpec, *, overwrite: bool = False) -> None:
        self._folder = DumpFolder(local_path(path), spec, overwrite=overwrite)
        try:
            self._open(spec)
        except BaseException:
            # A dump made just now is of no use to anybody, and would be in the way of other settings.
            try:
                if self._folder.is_new:
                    self._folder.discard()
            finally:
                self._folder.release()
            raise
        self._copiers = ThreadPoolExecutor(COPIERS, "dump-rows")
        self._moves, self._moving = self._folder.replaces, Lock()

    def _open(self, spec: DumpSpec) -> None:
        """Take up a dump where its last writer left it."""
        there = StateDump.open(self.path, finished=False)
        require_begun_with(there, spec)
        remove_partial(self.path)
        self._commits = Commits(read_group(self.path), there.committed_rows, spec.compression)
        self._starts = spec.sequence_starts
        self._compression = spec.compression
        self._n_tokens = len(spec.attributes["vocabulary"])
        states: RowTypes = {name: ((width,), spec.dtype) for name, width in spec.arrays.items()}
        arrays = {"tokens": ((), spec.token_dtype), **states}
        self._rows = BlockWriter(self.path, arrays, spec.n_rows, spec.block_rows, self.committed_rows, spec.compression)
        self._uncommitted = Uncommitted(self._rows, self._commits)
        self._received = self.committed_rows
        self._initial_arrays = {f"initial/{name}": states[name] for name in spec.initial_arrays}
        self._begin_initial(int(np.searchsorted(self._starts[:-1], self.committed_rows)))

    def _begin_initial(self, sequence: int) -> None:
        n_sequences = len(self._starts) - 1
        self._initial = BlockTable(
            self.path, self._initial_arrays, n_sequences, INITIAL_ROWS, sequence, self._compression
        )

    @property
    def path(self) -> Path:
        """Where the dump is; beside its place while it has yet to replace another."""
        return self._folder.path

    @property
    def committed_rows(self) -> int:
        """How many rows count, from the first on."""
        return self._commits.rows

    @property
    def n_rows_there(self) -> int:
        """How many rows are there, committed or not."""
        return self._rows.n_filled

    def __enter__(self) -> DumpWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: Any) -> None:
        if kind is None:
            self.close()
            return
        failed = issubclass(kind, InputError)
        try:
            # The exception that is on its way says more than one of the disk.
            with suppress(OSError, ValueError):
                if self._uncommitted.is_counted and not (failed and self._folder.is_new and not self.committed_rows):
                    self._commit_all()
        finally:
            self._release(failed)

    def resume(self, fits: Callable[[ResumePoint], bool]) -> list[ResumePoint]:
        """Return where the sequences stand that an interrupted writer computed side by side, in their order.

        Their rows before these points need not be written again, nor those before `committed_rows`.

        Args:
            fits: whether the caller can go on from a point; where it cannot from one, there are none.
        """
        rows, points = read_points(self.path)
        last = max((point.first + point.n for point in points), default=0)
        if rows < self.committed_rows or not points or not all(map(fits, points)):
            return []
        runs = [self._runs(point.first, point.n, 0, point.step) for point in points]
        starts, lengths = (np.concatenate(each) for each in zip(*runs, strict=True))
        before = self._rows
        blocks = BlockWriter(self.path, before.arrays, before.n_rows, before.block_rows, rows, self._compression)
        held = blocks.add(starts, lengths).tolist()
        if not all(blocks.is_there(name, block) for name in blocks.arrays for block in held):
            return []
        self._rows, self._commits.rows = blocks, rows
        self._uncommitted = Uncommitted(blocks, self._commits, points)
        self._begin_initial(max(self._initial.received, last))
        return points

    def write_steps(
        self, first: int, start: int, tokens: np.ndarray, states: Mapping[str, Tensor], *, abreast: bool = False
    ) -> None:
        """Write some steps of sequences that are computed side by side; what lies after a sequence's end is left out.

        The rows are part of the dump when `count_steps` has been told of them.

        Args:
            first: number of the first sequence.
            start: the step at which these begin.
            tokens: [S, T], indices into the vocabulary.
            states: [S, T, H] for each array of the spec, of its dtype, finite, on the CPU.
            abreast: whether other threads write other sequences at the same time, and so have the cores.

        Raises:
            OSError: see `append`.
        """
        n, n_steps = tokens.shape
        starts, lengths = self._runs(first, n, start, start + n_steps)
        values = {"tokens": tokens.astype(self._rows.arrays["tokens"][1])}
        for name, each in states.items():
            values[name] = each.contiguous().view(torch.uint8).numpy()
        if (lengths == n_steps).all() and (np.diff(starts) == n_steps).all():
            # Whole sequences, one after another.
            starts, lengths = starts[:1], np.array([n * n_steps])
            values = {name: each.reshape(1, n * n_steps, *each.shape[2:]) for name, each in values.items()}
        with self._moving if self._moves else nullcontext():
            self._rows.write(starts, lengths, values, None if abreast else self._copiers)

    def count_steps(self, point: ResumePoint, start: int) -> int:
        """Count steps that were written: those from `start` on, up to the point at which their sequences stand now.

        Call it from one thread, for the sequences in their order and for the steps of each in theirs.

        Returns:
            How many rows they are.

        Raises:
            OSError: see `append`.
        """
        self._require_initial(point.first + point.n)
        starts, lengths = self._runs(point.first, point.n, start, point.step)
        self._count(starts, lengths, point)
        return int(lengths.sum())

    def append(self, start_row: int, tokens: Any, states: Mapping[str, np.ndarray | Tensor]) -> None:
        """Add rows.

        Args:
            start_row: the number of the first; no row may be left out. Rows that are there already are dropped.
            tokens: [n], indices into the vocabulary.
            states: [n, H] for each array of the spec, of any float dtype, on any device; rounded to the dump's dtype.

        Raises:
            InputError: a state is not finite in the dump's dtype (array, row and unit are named), a token is outside
                the vocabulary, or shapes do not fit.
            OSError: the disk is full, or fails. What was committed is intact; it may be earlier rows that fail.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise InputError(f"tokens are {tokens.dtype} of shape {tokens.shape}: expected integers [n]")
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self._n_tokens):
            raise InputError(f"a token is outside the vocabulary: expected 0 to {self._n_tokens - 1}")
        stop = start_row + len(tokens)
        self._require_initial(int(np.searchsorted(self._starts[:-1], stop)))
        values = {"tokens": tokens, **states}
        require_arrays(values, self._rows.arrays, len(tokens))
        if not (0 <= start_row <= self._received and stop <= self._rows.n_rows):
            raise ValueError(f"rows {start_row} to {stop} of {self._rows.n_rows} do not follow on {self._received}")
        while self._received < stop:
            row = self._received
            behind = min(stop, row - row % self._rows.block_rows + self._rows.block_rows)
            part = {
                name: rounded(values[name][row - start_row : behind - start_row], dtype, name, row)[None]
                for name, (_, dtype) in self._rows.arrays.items()
            }
            runs = np.array([row]), np.array([behind - row])
            self._rows.write(*runs, part, self._copiers)
            self._count(*runs)
            self._received = behind

    def write_initial(self, first_sequence: int, states: Mapping[str, np.ndarray | Tensor]) -> None:
        """Add the states before the first row of sequences; call it before their rows count.

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
            self._uncommitted.add_initial(files)

    def close(self) -> None:
        """Finish the dump: wait until everything is committed.

        Raises:
            ValueError: rows are missing.
            OSError: the disk is full, or fails; what was committed is intact.
        """
        try:
            self._commit_all()
            if self._rows.n_filled < self._rows.n_rows:
                raise ValueError(f"{self.path}: {self._rows.n_filled} of {self._rows.n_rows} rows were appended")
        finally:
            self._release()
        self._rows.discard_all()
        points = self.path / RESUME_FILE
        # A whole dump may lie where nothing can be removed.
        if points.exists():
            points.unlink()

    def _require_initial(self, behind: int) -> None:
        if self._initial.arrays and self._initial.received < behind:
            raise ValueError(f"sequence {self._initial.received} has no initial states: call write_initial first")

    def _runs(self, first: int, n: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row and the number of rows that steps of sequences have, int64 [n] each."""
        bounds = self._starts[first : first + n + 1]
        lengths = np.diff(bounds)
        return bounds[:-1] + np.minimum(start, lengths), np.clip(lengths - start, 0, stop - start)

    def _count(self, starts: np.ndarray, lengths: np.ndarray, point: ResumePoint | None = None) -> None:
        self._commits.check()
        self._uncommitted.count(starts, lengths, point)
        if self._commits.due:
            self._begin_commit()

    def _begin_commit(self) -> None:
        """Let the background commit what is there; the commit before has ended."""
        self._commits.check()
        self._commits.reset_clock()
        if self._folder.replaces and self._commits.underway is not None:
            self._settle()
        commit = self._uncommitted.take(self.path, self._starts, self._initial)
        if commit is not None:
            self._commits.begin(commit)

    def _commit_all(self) -> None:
        """Commit whatever is there, and wait for it."""
        self._commits.wait()
        self._begin_commit()
        self._commits.wait()
        if self._folder.replaces and self._commits.underway is not None:
            self._settle()

    def _settle(self) -> None:
        """Take the place of the dump that is replaced."""
        self._uncommitted.wait()
        before = self.path
        # Nothing is written meanwhile.
        with self._moving:
            self._folder.settle()
            self._rows.path, self._moves = self.path, False
        self._initial.move(self.path)
        self._uncommitted.move(before, self.path)

    def _release(self, failed: bool = False) -> None:
        self._commits.shutdown()
        self._copiers.shutdown()
        try:
            # What has nothing that counts is no use to anybody; settings that fail must not be in the way of others.
            if self._folder.replaces or (failed and self._folder.is_new and not self.committed_rows):
                self._folder.discard()
        finally:
            self._folder.release()
