"""Writing a state dump: interrupted, repeated, refused; `test_dump_writer_killed.py` kills the writer."""

import errno
import os
import resource
import tempfile
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import contents
from written_rows import BLOCK, GROUP, INITIAL, SPEC, STARTS, STATES, TOKENS, H, N, fill, groups, write

from gatescope.engine import block_writer, commits
from gatescope.engine.block_writer import BlockWriter
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.resume_points import ResumePoint


@pytest.fixture(autouse=True)
def commits_at_once(monkeypatch):
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "states.zarr"
    write(path)
    return path


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in memory where there is one: no test here needs a disk, and every commit would wait for it."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def limited_files():
    """Return a function that limits how large files may grow, as on a full disk, and one that lifts the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_written_data_reads_back_unchanged(undisturbed):
    dump = StateDump.open(undisturbed)
    assert dump.verify() == []
    assert np.array_equal(dump.tokens, TOKENS)
    for name, values in STATES.items():
        assert np.array_equal(np.asarray(dump.array(name)), values.astype(np.float16))
    for name, values in INITIAL.items():
        assert np.array_equal(dump.initial(name), values.astype(np.float16))
    assert dump.attributes == SPEC.attributes
    assert sorted(os.listdir(undisturbed.parent)) == ["states.zarr"]


def test_bytes_do_not_depend_on_how_rows_arrive(undisturbed, tmp_path):
    with DumpWriter(tmp_path / "one.zarr", SPEC) as writer:
        writer.write_initial(0, {name: torch.from_numpy(values) for name, values in INITIAL.items()})
        writer.append(0, torch.from_numpy(TOKENS), {name: torch.from_numpy(values) for name, values in STATES.items()})
    assert contents(tmp_path / "one.zarr") == contents(undisturbed)
    with DumpWriter(tmp_path / "many.zarr", SPEC) as writer:
        for sequence in range(len(STARTS) - 1):
            writer.write_initial(sequence, {name: values[sequence, None] for name, values in INITIAL.items()})
            for row in range(3 * sequence, 3 * sequence + 3):
                writer.append(row, TOKENS[row, None], {name: values[row, None] for name, values in STATES.items()})
    assert contents(tmp_path / "many.zarr") == contents(undisturbed)


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1024, 2048, 2099])
def test_an_interrupted_dump_can_be_resumed(undisturbed, tmp_path, rows):
    path = tmp_path / "states.zarr"

    class StopError(Exception):
        pass

    with pytest.raises(StopError), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:rows], {name: values[:rows] for name, values in STATES.items()})
        raise StopError
    writer = DumpWriter(path, SPEC)
    assert writer.committed_rows == rows // BLOCK * BLOCK
    fill(writer)
    writer.close()
    assert writer.committed_rows == N
    assert contents(path) == contents(undisturbed)


def test_a_finished_dump_is_left_alone(undisturbed):
    before = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*")}
    with DumpWriter(undisturbed, SPEC) as writer:
        assert writer.committed_rows == N
        fill(writer)
    assert {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*")} == before


def test_a_full_disk_keeps_committed_rows(undisturbed, tmp_path, limited_files):
    path = tmp_path / "states.zarr"
    with pytest.raises(OSError, match="too large"), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        for _, start, tokens, states in groups():
            writer.append(start, tokens, states)
            if start > 700 and writer.committed_rows:
                limited_files(2000)
    limited_files()
    committed = writer.committed_rows
    assert 256 <= committed < N
    assert not list(path.rglob("*.partial"))
    dump = StateDump.open(path, finished=False)
    assert dump.verify() == [f"not finished: {committed} of {N} rows are written"]
    write(path)
    assert contents(path) == contents(undisturbed)


def test_a_failed_block_is_never_skipped(undisturbed, tmp_path, limited_files):
    path = tmp_path / "states.zarr"

    def append(start):
        rows = slice(start, start + BLOCK)
        writer.append(start, TOKENS[rows], {name: values[rows] for name, values in STATES.items()})

    writer = DumpWriter(path, SPEC)
    writer.write_initial(0, INITIAL)
    append(0)
    wait([writer._commits.underway])
    limited_files(2000)
    with pytest.raises(OSError, match="too large"):
        append(BLOCK)
    limited_files()
    with pytest.raises(ValueError, match="rows 512 to 768 of 2100 do not follow on 256"):
        append(2 * BLOCK)
    with pytest.raises(ValueError, match="256 of 2100 rows"):
        writer.close()
    assert StateDump.open(path, finished=False).committed_rows == BLOCK
    write(path)
    assert contents(path) == contents(undisturbed)


def test_nothing_is_committed_after_a_background_failure(undisturbed, tmp_path):
    path = tmp_path / "states.zarr"

    def append(start):
        rows = slice(start, start + BLOCK)
        writer.write_initial(0, {name: values[: rows.stop // 3 + 1] for name, values in INITIAL.items()})
        writer.append(start, TOKENS[rows], {name: values[rows] for name, values in STATES.items()})

    with pytest.raises(FileNotFoundError), DumpWriter(path, SPEC) as writer:
        append(0)
        wait([writer._commits.underway])
        # Initial states are written anew with every commit, and now their place is gone.
        (path / "initial" / "layer0" / "h").rename(path / "elsewhere")
        for start in range(BLOCK, 5 * BLOCK, BLOCK):
            append(start)
            wait([writer._commits.underway])
    (path / "elsewhere").rename(path / "initial" / "layer0" / "h")
    assert StateDump.open(path, finished=False).committed_rows == BLOCK
    write(path)
    assert contents(path) == contents(undisturbed)


def test_rows_that_the_disk_failed_to_sync_are_not_counted(undisturbed, tmp_path, monkeypatch):
    path, sync = tmp_path / "states.zarr", BlockWriter.sync

    def fails(self, name, block):
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(block_writer, "_SYNC_FILE_RANGE", lambda *_: 0)
    with pytest.raises(OSError, match="the disk fails"), DumpWriter(path, SPEC) as writer:
        for first, start, tokens, states in groups():
            # The system reports the error once, to the first who asks; files opened later know nothing of it.
            monkeypatch.setattr(BlockWriter, "sync", fails if start > 600 and writer.committed_rows else sync)
            writer.write_initial(first, {name: values[first : first + GROUP] for name, values in INITIAL.items()})
            writer.append(start, tokens, states)
            on_the_way = writer._uncommitted._on_the_way
            wait([writer._commits.underway, *on_the_way] if writer._commits.underway else on_the_way)
    committed = writer.committed_rows
    assert 0 < committed < 1000
    monkeypatch.setattr(BlockWriter, "sync", sync)
    assert StateDump.open(path, finished=False).verify() == [f"not finished: {committed} of {N} rows are written"]
    write(path)
    assert contents(path) == contents(undisturbed)


def test_an_interrupt_while_counting_rows_commits_none(undisturbed, tmp_path, monkeypatch):
    path, add = tmp_path / "states.zarr", BlockWriter.add

    def interrupted(self, starts, lengths):
        add(self, starts, lengths)
        if self.n_filled > 1000:
            raise KeyboardInterrupt
        return np.unique(starts // BLOCK)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(BlockWriter, "add", interrupted)
        write(path)
    dump = StateDump.open(path, finished=False)
    assert dump.verify() == [f"not finished: {dump.committed_rows} of {N} rows are written"]
    write(path)
    assert contents(path) == contents(undisturbed)


def test_a_full_disk_before_the_first_row_leaves_nothing(tmp_path, limited_files):
    limited_files(1000)
    with pytest.raises(OSError, match="too large"):
        DumpWriter(tmp_path / "states.zarr", SPEC)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": {**SPEC.arrays, "layer1/gates/i": H}}, "arrays.layer1/gates/i is unset there and 6 now"),
        ({"arrays": {"layer0/h": H}}, "arrays.layer0/gates/i is 6 there and unset now"),
        ({"dtype": np.dtype(np.float32)}, "dtype is 'float16' there and 'float32' now"),
        ({"token_dtype": np.dtype(np.uint16)}, "token_dtype is 'uint8' there and 'uint16' now"),
        ({"block_rows": 100}, "block_rows is 256 there and 100 now"),
        ({"initial": ()}, "initial is .* there and .* now"),
        ({"attributes": {**SPEC.attributes, "seed": 4}}, "seed is 3 there and 4 now"),
        ({"attributes": {**SPEC.attributes, "config": {"prime": "a", "lengths": [3, 5]}}}, r"config.lengths\[1\] is 4"),
        (
            {"attributes": {**SPEC.attributes, "vocabulary": ["a", "b", "c"]}},
            r"vocabulary\[2\] is 'ü' there and 'c' now",
        ),
        ({"document_starts": STARTS[[0, 101, 700]]}, r"document_starts\[1\] is 300 there and 303 now"),
        ({"sequence_starts": STARTS[[0, *range(2, 701)]]}, "sequences is 700 there and 699 now"),
    ],
)
def test_another_spec_is_refused(undisturbed, change, message):
    with pytest.raises(InputError, match=f"begun with other settings: {message}.*--overwrite$") as error:
        DumpWriter(undisturbed, replace(SPEC, **change))
    # The dump is free again, although the error still refers to the writer.
    DumpWriter(undisturbed, SPEC).close()
    assert error.tb
    assert StateDump.open(undisturbed).committed_rows == N


def test_overwrite_replaces_a_dump(undisturbed, tmp_path):
    path = tmp_path / "states.zarr"
    with DumpWriter(path, replace(SPEC, attributes={"vocabulary": ["a", "b", "c"]})) as writer:
        fill(writer)
    write(path, overwrite=True)
    assert contents(path) == contents(undisturbed)
    assert os.listdir(tmp_path) == ["states.zarr"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_dumps_are_ever_replaced(tmp_path, overwrite):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("more")
    for name in ("work", "file"):
        with pytest.raises(InputError, match=f"{name} is not a state dump: .*; only a dump may be overwritten: choose"):
            DumpWriter(tmp_path / name, SPEC, overwrite=overwrite)
    assert contents(tmp_path) == {"work/thesis.tex": b"years of work", "file": b"more"}
    with pytest.raises(InputError, match="missing is not a folder"):
        DumpWriter(tmp_path / "missing" / "states.zarr", SPEC)


def test_a_symlink_stays_a_symlink(undisturbed, tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "states.zarr").symlink_to(tmp_path / "large disk")
    for _ in range(2):
        write(tmp_path / "states.zarr", overwrite=True)
        assert (tmp_path / "states.zarr").is_symlink()
        assert contents(tmp_path / "large disk") == contents(undisturbed)


def test_an_empty_folder_may_become_a_dump(undisturbed, tmp_path):
    write(tmp_path)
    assert contents(tmp_path) == contents(undisturbed)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_writer_is_refused(tmp_path, overwrite):
    path = tmp_path / "states.zarr"
    writer = DumpWriter(path, SPEC)
    with pytest.raises(InputError, match="is being written by another program"):
        DumpWriter(path, SPEC, overwrite=overwrite)
    fill(writer)
    writer.close()
    assert StateDump.open(path).verify() == []
    DumpWriter(path, SPEC).close()


def test_a_dump_without_initial_states_refuses_them(tmp_path):
    with DumpWriter(tmp_path / "states.zarr", replace(SPEC, initial=())) as writer:
        with pytest.raises(ValueError, match="initial/layer0/h"):
            writer.write_initial(0, INITIAL)
        for first, start, tokens, states in groups():
            writer.write_initial(first, {})
            writer.append(start, tokens, states)
    dump = StateDump.open(tmp_path / "states.zarr")
    assert dump.verify() == [] and dump.initial_arrays == {}


@pytest.mark.parametrize("gone", ["layer0/h", "tokens", None])
def test_sequences_resume_only_if_all_earlier_rows_are_present(tmp_path, gone):
    """Only the first two rows of the first 100 sequences are written; they end within the second block."""
    path, point = tmp_path / "states.zarr", ResumePoint(0, 100, 2, (torch.zeros(100, H),))
    writer = DumpWriter(path, SPEC)
    writer.write_initial(0, {name: values[:100] for name, values in INITIAL.items()})
    rows = (STARTS[:100, None] + np.arange(2)).ravel()
    states = {name: torch.from_numpy(values[rows].reshape(100, 2, H)).half() for name, values in STATES.items()}
    writer.write_steps(0, 0, TOKENS[rows].reshape(100, 2), states)
    assert writer.count_steps(point, 0) == 200
    writer.__exit__(KeyboardInterrupt)
    if gone:
        next((path / gone).glob("c*1*")).unlink()
    with pytest.raises(KeyboardInterrupt), DumpWriter(path, SPEC) as writer:
        found = writer.resume(lambda _: True)
        assert [(each.first, each.n, each.step) for each in found] == ([] if gone else [(0, 100, 2)])
        assert writer.n_rows_there == (0 if gone else 200)
        raise KeyboardInterrupt
