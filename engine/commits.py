"""Commits of a dump: what was written is brought to the disk, and only then does it count.

They are made in the background, one after another, each for all that has come during the one before. Nothing of a
commit counts before the number of committed rows in the group's metadata has moved, which it does atomically.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.engine.block_file import write_block
from gatescope.engine.block_writer import BlockWriter
from gatescope.engine.dump import BLOCKS_DIGEST, GROUP_FILE, StateDump
from gatescope.engine.files import sync_folder, write_json
from gatescope.engine.resume_points import ResumePoint, write_points

# A disk takes several files at once: twelve arrays were on it twice as fast side by side as one after another
# (timed once, by hand).
WRITERS = 8
# From the beginning of one commit to that of the next, at least: bringing blocks to the disk that still grow costs more
# than computing again what is lost in this time.
COMMIT_SECONDS = 2.0


@dataclass(frozen=True)
class Commit:
    """What a commit makes count."""

    path: Path  # of the dump
    blocks: BlockWriter
    rows: int
    sealed: list[int]  # blocks
    unsealed: list[tuple[str, int]]  # array and block
    on_the_way: list[Future[None]]  # sealed blocks, and what others had, to the disk
    initial: dict[Path, np.ndarray]
    new_files_of: set[str]
    points: list[ResumePoint]


class Commits:
    """The commits of one writer.

    Args:
        group: the metadata of the dump's group, in which the number of committed rows moves.
        rows: committed rows.
        compression: of the dump's files.
    """

    def __init__(self, group: dict[str, Any], rows: int, compression: str) -> None:
        self._group, self.rows, self._compression = group, rows, compression
        self._background = ThreadPoolExecutor(1, "dump")
        self._files = ThreadPoolExecutor(WRITERS, "dump-file")
        self._began = time.monotonic()
        self.underway: Future[None] | None = None  # or done

    def later(self, function: Callable[..., None], *arguments: Any) -> Future[None]:
        """Bring something to the disk beside everything else."""
        return self._files.submit(function, *arguments)

    def check(self) -> None:
        """Raise what made a commit fail; none can follow it."""
        if self.underway is not None and self.underway.done():
            self.underway.result()

    @property
    def due(self) -> bool:
        """Whether the time of another has come."""
        idle = self.underway is None or self.underway.done()
        return idle and time.monotonic() - self._began >= COMMIT_SECONDS

    def reset_clock(self) -> None:
        """Let time run from now on."""
        self._began = time.monotonic()

    def begin(self, commit: Commit) -> None:
        """Make a commit in the background; the one before has ended."""
        self.underway = self._background.submit(self._make, commit)

    def wait(self) -> None:
        """Wait for the last one.

        Raises:
            OSError: the disk is full, or fails.
        """
        if self.underway is not None:
            self.underway.result()

    def shutdown(self) -> None:
        """Let what has begun end."""
        self._background.shutdown()
        self._files.shutdown()

    def _make(self, commit: Commit) -> None:
        """Bring everything to the disk, then say so: nothing counts before it is there."""
        self._each(lambda each: commit.blocks.sync(*each), commit.unsealed)
        for task in commit.on_the_way:
            task.result()
        write = partial(write_block, compression=self._compression)
        self._each(write, commit.initial, commit.initial.values())
        self._each(sync_folder, [commit.path / name for name in commit.new_files_of])
        if commit.points:
            write_points(commit.path, commit.rows, commit.points)
        if commit.rows > self.rows:
            header = self._group["attributes"]["gatescope"]
            header["rows_committed"] = commit.rows
            if commit.rows == header["rows"]:
                header[BLOCKS_DIGEST] = StateDump.open(commit.path, finished=False).blocks_digest()
            write_json(commit.path / GROUP_FILE, self._group)
            self.rows = commit.rows
        for block in commit.sealed:
            commit.blocks.discard(block)

    def _each(self, function: Callable[..., None], *arguments: Iterable[Any]) -> None:
        """Call a function on all files at once, and raise what fails."""
        for _ in self._files.map(function, *arguments):
            pass
