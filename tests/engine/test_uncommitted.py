"""What a commit must bring to the disk: everything that came since the last one, and nothing twice."""

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from gatescope.engine.block_writer import BlockWriter
from gatescope.engine.resume_points import ResumePoint
from gatescope.engine.uncommitted import Uncommitted

STARTS = np.array([0, 20, 40])


@pytest.fixture
def uncommitted(tmp_path):
    arrays = {"a": ((2,), np.dtype(np.float16)), "b": ((), np.dtype(np.uint8))}
    blocks = BlockWriter(tmp_path, arrays, n_rows=40, block_rows=10, committed_rows=0)
    commits = SimpleNamespace(rows=0, later=lambda function, *arguments: Future())
    return Uncommitted(blocks, commits)


def come(uncommitted, sequence, start, stop):
    point = ResumePoint(sequence, 1, stop, ())
    uncommitted.count(np.array([20 * sequence + start]), np.array([stop - start]), point)


def taken(uncommitted, path, initial=None):
    return uncommitted.take(path, STARTS, SimpleNamespace(partial=lambda: initial or {}))


def test_no_commit_without_new_rows(uncommitted, tmp_path):
    assert taken(uncommitted, tmp_path) is None


def test_every_block_is_named_once(uncommitted, tmp_path):
    come(uncommitted, 0, 0, 5)
    come(uncommitted, 1, 0, 15)
    uncommitted.add_initial({tmp_path / "whole": np.zeros(1)})
    first = taken(uncommitted, tmp_path, {tmp_path / "partial": np.zeros(2)})
    # Block 2 is complete, but those before it are not; blocks 0 and 3 grow.
    assert (first.rows, first.sealed) == (0, [2])
    assert sorted(first.unsealed) == [(name, block) for name in "ab" for block in (0, 3)]
    assert [(point.first, point.step) for point in first.points] == [(0, 5), (1, 15)]
    assert {file.name for file in first.initial} == {"whole", "partial"}
    # One task for the growing blocks at each count, and one for each array of a complete block.
    assert len(first.on_the_way) == 2 + 2
    second = taken(uncommitted, tmp_path)
    assert second.sealed == second.unsealed == second.on_the_way == [] and second.initial == {}
    assert second.points == first.points
    come(uncommitted, 0, 5, 20)
    third = taken(uncommitted, tmp_path)
    assert (third.rows, third.sealed, third.unsealed) == (30, [0, 1], [])
    # All rows of the first sequence count.
    assert [point.first for point in third.points] == [1]


def test_initial_states_move_with_the_dump(uncommitted, tmp_path):
    come(uncommitted, 0, 0, 20)
    uncommitted.add_initial({tmp_path / "before" / "c.0": np.zeros(1)})
    uncommitted.move(tmp_path / "before", tmp_path / "after")
    assert list(taken(uncommitted, tmp_path).initial) == [tmp_path / "after" / "c.0"]


def test_an_interrupt_between_rows_and_their_blocks_is_recognised(uncommitted, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(BlockWriter, "is_complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        come(uncommitted, 0, 0, 5)
    assert not uncommitted.is_counted
