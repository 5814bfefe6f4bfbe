"""Killing a stage at a chosen write, and comparing what a second run then leaves with an undisturbed run.

Victims are forked from a server that has imported everything, so that each takes a fraction of a second. Python reports
every opening for writing, renaming and removal to an audit hook. The hook counts those inside the stage's folder and
kills its own process at the given number, whatever its other threads are doing. Creating folders is not counted: how
often threads that need the same folder try to create it varies by chance.
"""

import errno
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
from forked import SERVER

EVENTS = {"open", "os.rename", "os.remove", "os.truncate", "os.link"}


def _is_write(event, values, folder):
    if event not in EVENTS or not isinstance(values[0], str | bytes | os.PathLike):
        return False
    if event == "open" and not (values[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        return False
    return os.fsdecode(values[0]).startswith(str(folder))


def _victim(function, arguments, folder, kill_at, count):
    def hook(event, values):
        if not _is_write(event, values, folder):
            return
        with lock:
            count.value += 1
            if count.value == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    # The process's own lock: a shared one would stay locked when its holder is killed.
    lock = threading.Lock()
    sys.addaudithook(hook)
    function(*arguments)


def run_forked(function, arguments, folder, kill_at=0):
    """Run a function in a forked process and return how many writes it made in the folder, and its exit code."""
    count = SERVER.RawValue("q", 0)
    process = SERVER.Process(target=_victim, args=(function, arguments, folder, kill_at, count))
    process.start()
    process.join()
    return count.value, process.exitcode


def _reader(function, arguments, folder):
    def hook(event, values):
        if _is_write(event, values, folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(values[0]))

    sys.addaudithook(hook)
    function(*arguments)


def run_read_only(function, arguments, folder):
    """Run a function in a forked process in which the folder is on a read-only file system; return its exit code."""
    process = SERVER.Process(target=_reader, args=(function, arguments, folder))
    process.start()
    process.join()
    return process.exitcode


def contents(folder, without=("log.jsonl",)):
    """Return the bytes of every file below a folder, by relative path, without the log."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name not in without)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_survives_kills(function, arguments_for, tmp_path, n_kills, look=None):
    """Kill a stage at n_kills writes spread from its first to its last; repeating it must give the undisturbed files.

    Args:
        function: importable; writes only into the folder that it is given.
        arguments_for: makes its arguments from a folder.
        tmp_path: where the folders are created.
        n_kills: how many runs to kill.
        look: called with the folder after each kill.
    """
    whole = tmp_path / "whole"
    n_writes, code = run_forked(function, arguments_for(whole), whole)
    assert code == 0
    expected = contents(whole)
    assert n_writes >= 2 and expected
    for number, kill_at in enumerate(np.linspace(1, n_writes, n_kills).round().astype(int)):
        folder = tmp_path / f"killed{number}"
        _, code = run_forked(function, arguments_for(folder), folder, int(kill_at))
        assert code == -signal.SIGKILL, f"not killed at write {kill_at} of {n_writes}"
        if look is not None:
            look(folder)
        _, code = run_forked(function, arguments_for(folder), folder)
        assert code == 0, f"did not go on after a kill at write {kill_at} of {n_writes}"
        found = contents(folder)
        assert found.keys() == expected.keys(), f"kill at write {kill_at} of {n_writes}"
        different = [name for name in expected if found[name] != expected[name]]
        assert not different, f"{different} differ after a kill at write {kill_at} of {n_writes}"
