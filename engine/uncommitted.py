"""What has come into a dump since its last commit: blocks, initial states, and where its sequences stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from itertools import product
from pathlib import Path

import numpy as np

from gatescope.engine.block_table import BlockTable
from gatescope.engine.block_writer import BlockWriter
from gatescope.engine.commits import Commit, Commits
from gatescope.engine.resume_points import ResumePoint


class Uncommitted:
    """Gathers what the next commit makes count, and lets the disk take it meanwhile.

    Args:
        blocks: the files of the rows.
        commits: what works beside the caller.
        points: where sequences stand whose rows count already.
    """

    def __init__(self, blocks: BlockWriter, commits: Commits, points: Iterable[ResumePoint] = ()) -> None:
        self._blocks, self._commits = blocks, commits
        self._points = {point.first: point for point in points}
        self._sealed: list[int] = []
        self._unsealed: set[int] = set()
        self._on_the_way: list[Future[None]] = []
        self._initial: dict[Path, np.ndarray] = {}
        self.is_counted = True  # or an interrupt came between rows that count and what seals their blocks

    def count(self, starts: np.ndarray, lengths: np.ndarray, point: ResumePoint | None = None) -> None:
        """Count runs of rows that were written, int64 [K] first rows and lengths; their sequences stand at a point."""
        self.is_counted = False
        if point is not None:
            self._points[point.first] = point
        blocks = set(self._blocks.add(starts, lengths).tolist())
        complete = set(filter(self._blocks.is_complete, blocks))
        self._unsealed = (self._unsealed | blocks) - complete
        self._sealed += sorted(complete)
        self._on_the_way.append(self._commits.later(self._blocks.begin_sync, sorted(blocks - complete)))
        for name, block in product(self._blocks.arrays, sorted(complete)):
            self._on_the_way.append(self._commits.later(self._blocks.seal, name, block))
        self.is_counted = True

    def add_initial(self, files: Mapping[Path, np.ndarray]) -> None:
        """Add whole blocks of initial states, by their files."""
        self._initial.update(files)

    def take(self, path: Path, sequence_starts: np.ndarray, initial: BlockTable) -> Commit | None:
        """Return a commit of all this, from which on it gathers anew; None if there is nothing to commit.

        Args:
            path: of the dump.
            sequence_starts: the first row of each sequence, and the number of rows.
            initial: the table of initial states, which has a block that is not whole.
        """
        rows = self._blocks.leading_rows
        points = [point for point in self._points.values() if sequence_starts[point.first + point.n] > rows]
        self._points = {point.first: point for point in points}
        if rows == self._commits.rows and not points:
            return None
        unsealed = [(name, block) for block in self._unsealed for name in self._blocks.arrays if points]
        commit = Commit(
            path=path,
            blocks=self._blocks,
            rows=rows,
            sealed=self._sealed,
            unsealed=unsealed,
            on_the_way=self._on_the_way,
            initial={**self._initial, **initial.partial()},
            new_files_of=self._blocks.take_new_files(),
            points=points,
        )
        self._sealed, self._unsealed, self._on_the_way, self._initial = [], set(), [], {}
        return commit

    def wait(self) -> None:
        """Wait for what is on its way to the disk.

        Raises:
            OSError: the disk is full, or fails.
        """
        for task in self._on_the_way:
            task.result()

    def move(self, before: Path, path: Path) -> None:
        """Say that the dump's folder has another place."""
        self._initial = {path / file.relative_to(before): block for file, block in self._initial.items()}
