"""Reserving a dump's folder: two writers at once, and an old dump that is replaced only once the new one has rows."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from forked import SERVER

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_folder import DumpFolder, settle_at, waiting_beside
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name, settled_name

N, H, BLOCK = 40, 3, 8
STATES = np.random.default_rng(0).normal(size=(N, H)).astype(np.float32)


def spec(seed=0):
    bounds = np.array([0, N], dtype=np.int64)
    return DumpSpec(
        arrays={"layer0/h": H},
        sequence_starts=bounds,
        document_starts=bounds,
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float16),
        attributes={"vocabulary": ["a"], "seed": seed},
        block_rows=BLOCK,
    )


def write(path, seed=0, rows=N, values=STATES, overwrite=False):
    with DumpWriter(path, spec(seed), overwrite=overwrite) as writer:
        writer.append(0, np.zeros(rows, np.uint8), {"layer0/h": values[:rows]})


def _race(path, barrier, results):
    barrier.wait()
    try:
        write(path)
        results.put("written")
    except InputError as error:
        results.put(str(error))


def test_messages_name_a_dump_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("s.zarr"))
    shutil.copytree("s.zarr", "elsewhere/s.zarr")
    with pytest.raises(InputError, match=r"^s\.zarr "):
        write(Path("s.zarr"), seed=1)
    # A link is followed, and its target is created.
    Path("link.zarr").symlink_to("elsewhere/s.zarr")
    write(Path("link.zarr"), seed=1, overwrite=True)
    assert StateDump.open("elsewhere/s.zarr").attributes["seed"] == 1 and Path("link.zarr").is_symlink()
    assert StateDump.open("s.zarr").attributes["seed"] == 0


def test_racing_writers_of_a_new_dump_leave_a_finished_dump(tmp_path):
    barrier, results = SERVER.Barrier(2), SERVER.Queue()
    for trial in range(5):
        path = tmp_path / f"{trial}.zarr"
        writers = [SERVER.Process(target=_race, args=(path, barrier, results)) for _ in range(2)]
        for writer in writers:
            writer.start()
        ends = sorted(results.get(timeout=60) for _ in writers)
        for writer in writers:
            writer.join()
        # The second waits its turn, and finds a dump that is finished or still being written.
        refused = f"{path} is being written by another program: wait for it, or choose another folder"
        assert ends[1] == "written" and ends[0] in (refused, "written")
        dump = StateDump.open(path)
        assert dump.verify() == [] and np.array_equal(dump.array("layer0/h")[:], STATES.astype(np.float16))
        assert sorted(os.listdir(tmp_path)) == [f"{number}.zarr" for number in range(trial + 1)]


def test_a_dump_that_another_writer_is_making_is_left_alone(tmp_path):
    path = tmp_path / "states.zarr"
    write(path)
    replacing = DumpFolder(path, spec(1), overwrite=True)
    assert len(os.listdir(tmp_path)) == 2
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is being written by another program"):
            DumpWriter(path, spec(2), overwrite=overwrite)
    assert replacing.path.is_dir()
    replacing.settle()
    replacing.release()
    assert os.listdir(tmp_path) == ["states.zarr"] and StateDump.open(path, finished=False).attributes["seed"] == 1


@pytest.mark.parametrize("error", [InputError, OSError, KeyboardInterrupt])
def test_the_earlier_dump_stays_until_something_new_is_committed(tmp_path, error):
    path = tmp_path / "states.zarr"
    write(path)
    with pytest.raises(error), DumpWriter(path, spec(1), overwrite=True) as writer:
        writer.append(0, np.zeros(BLOCK - 1, np.uint8), {"layer0/h": STATES[: BLOCK - 1]})
        assert StateDump.open(path).attributes["seed"] == 0
        raise error
    dump = StateDump.open(path)
    assert dump.attributes["seed"] == 0 and dump.verify() == [] and os.listdir(tmp_path) == ["states.zarr"]


def test_rejected_states_leave_the_earlier_dump(tmp_path):
    path = tmp_path / "states.zarr"
    write(path)
    with pytest.raises(InputError, match="beyond float16"):
        write(path, 1, values=STATES + np.float32(1e6), overwrite=True)
    assert StateDump.open(path).attributes["seed"] == 0
    write(path, 1, overwrite=True)
    assert StateDump.open(path).attributes["seed"] == 1


def test_an_interrupted_replacement_resumes_from_its_first_commit(tmp_path):
    path = tmp_path / "states.zarr"
    write(path)
    with pytest.raises(KeyboardInterrupt), DumpWriter(path, spec(1), overwrite=True) as writer:
        writer.append(0, np.zeros(2 * BLOCK, np.uint8), {"layer0/h": STATES[: 2 * BLOCK]})
        raise KeyboardInterrupt
    dump = StateDump.open(path, finished=False)
    assert (dump.attributes["seed"], dump.committed_rows) == (1, 2 * BLOCK)
    write(path, 1)
    assert StateDump.open(path).verify() == []


def test_a_dump_left_under_a_temporary_name_is_recovered(tmp_path):
    # Where folders cannot be exchanged atomically, a program killed between two renames leaves this.
    path = tmp_path / "states.zarr"
    write(path)
    expected = Path(path / "layer0" / "h" / "c.0.0").read_bytes()
    path.rename(partial_name(path))
    shutil.copytree(next(tmp_path.iterdir()), partial_name(path))
    write(path)
    assert os.listdir(tmp_path) == ["states.zarr"]
    assert (path / "layer0" / "h" / "c.0.0").read_bytes() == expected


def test_leftovers_of_a_killed_program_are_removed(tmp_path):
    path = tmp_path / "states.zarr"
    begun = DumpFolder(path, spec(), overwrite=False)
    begun.release()
    path.rename(partial_name(path))
    write(path)
    assert os.listdir(tmp_path) == ["states.zarr"]


def test_writers_of_a_file_system_without_locks_leave_a_whole_dump(tmp_path, monkeypatch):
    """As on NFS, which locks only what was opened for writing, and so no folder."""

    def refuse(descriptor, how):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / "s.zarr"
    write(path)
    with pytest.raises(FileNotFoundError) as lost, DumpWriter(path, spec(1), overwrite=True) as slower:
        write(path, seed=2, overwrite=True)
        slower.append(0, np.zeros(N, np.uint8), {"layer0/h": STATES})
    assert settled_name(str(lost.value.filename)).startswith(str(path))
    dump = StateDump.open(path)
    assert dump.attributes["seed"] == 2 and dump.verify() == [] and list(tmp_path.iterdir()) == [path]


def test_leftovers_may_vanish_while_they_are_removed(tmp_path, monkeypatch):
    removed, path = [], tmp_path / "s.zarr"
    partial_name(path).mkdir()

    def vanish(entry, **options):
        removed.append(entry)
        remove(entry, **options)
        remove(entry, **options)

    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", vanish)
    write(path)
    assert len(removed) == 1 and list(tmp_path.iterdir()) == [path]


def test_a_finished_dump_moves_to_its_final_path(tmp_path):
    path, new = tmp_path / "states.zarr", tmp_path / "new.zarr"
    write(new)
    settle_at(path, new, overwrite=False)
    assert StateDump.open(path).attributes["seed"] == 0 and os.listdir(tmp_path) == ["states.zarr"]
    write(new, 1)
    with pytest.raises(InputError, match="already exists"):
        settle_at(path, new, overwrite=False)
    with DumpWriter(path, spec()), pytest.raises(InputError, match="is being written by another program"):
        settle_at(path, new, overwrite=True)
    assert StateDump.open(path).attributes["seed"] == 0
    settle_at(path, new, overwrite=True)
    assert StateDump.open(path).attributes["seed"] == 1 and StateDump.open(new).attributes["seed"] == 0


def test_only_one_program_may_wait_beside_a_path(tmp_path):
    path = tmp_path / "states.zarr"
    left = partial_name(path.with_name(".states.zarr"))
    left.mkdir()
    with waiting_beside(path) as folder:
        assert not left.exists()
        (folder / "rows").touch()
        with pytest.raises(InputError, match="is being recorded by another program"), waiting_beside(path):
            pass
        # Writing the dump itself does not collide with waiting beside it.
        write(path)
        assert (folder / "rows").exists()
    # Nor does waiting beside a path whose name is longer.
    with waiting_beside(tmp_path / "states.zarr.2"), waiting_beside(path):
        pass
    assert os.listdir(tmp_path) == ["states.zarr"]
