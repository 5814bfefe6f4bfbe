"""Only one program at a time in a folder."""

import multiprocessing
import os

import pytest
from forked import SERVER

from gatescope.engine.errors import InputError
from gatescope.engine.folder_lock import LOCK, locked

if os.name == "nt":
    pytest.skip("Windows has no flock", allow_module_level=True)


def _hold(folder, ready):
    with locked(folder):
        ready.set()
        multiprocessing.Event().wait()


def test_a_killed_program_releases_its_lock(tmp_path):
    ready = SERVER.Event()
    process = SERVER.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    ready.wait()
    with pytest.raises(InputError, match="is being written by another program"), locked(tmp_path):
        pass
    process.kill()
    process.join()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_one_of_two_waiting_programs_gets_the_lock(tmp_path, monkeypatch):
    """The lock file that one process has opened is removed by the process that leaves, and created anew by a third."""
    leaving, third = locked(tmp_path), locked(tmp_path)
    leaving.__enter__()
    opened = os.open

    def slow(*given):
        descriptor = opened(*given)
        monkeypatch.setattr(os, "open", opened)
        leaving.__exit__(None, None, None)
        third.__enter__()
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    with pytest.raises(InputError, match="is being written by another program"), locked(tmp_path):
        pass
    third.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), OSError(38, "Function not implemented")])
def test_programs_proceed_where_locks_are_unsupported(tmp_path, monkeypatch, error):
    def refuse(*given):
        raise error

    monkeypatch.setattr("os.open" if error.errno == 30 else "fcntl.flock", refuse)
    entered = []
    with locked(tmp_path), locked(tmp_path):
        entered.append(True)
    assert entered and list(tmp_path.iterdir()) == []
