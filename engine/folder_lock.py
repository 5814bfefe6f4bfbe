"""Locks of the system, by which one program at a time writes to a folder; the program's end is theirs, however it ends.

`locked` keeps a folder of any kind: while it does, a file in it is locked, and is removed afterwards. The folder itself
cannot be what is locked there, since whoever makes a dump in it locks that for a moment, and waits (`alone_in`). A dump
is locked as a folder (`gatescope.engine.dump_folder`). On Windows, and where the file system is a network's without
locks, nobody is kept from anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gatescope.engine.errors import InputError

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other programs that ask from a folder while the block runs.

    Nobody is kept from one that is read-only either.

    Raises:
        InputError: another program has it.
    """
    file = folder / LOCK
    try:
        descriptor = _lock(file)
    except BlockingIOError:
        raise being_written(folder) from None
    except OSError:
        descriptor = None
    try:
        yield
    finally:
        if descriptor is not None:
            # Removed while it is locked, it is nobody else's.
            with suppress(OSError):
                file.unlink()
            os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other program is in such a block for the same folder, and keep others waiting while this one is."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def reserve(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a file or folder, and lock it if that can be; closing the descriptor that is returned frees it.

    Raises:
        BlockingIOError: another program has locked it.
    """
    if sys.platform == "win32":
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        # A network file system without locks.
        pass
    return descriptor


def being_written(folder: Path) -> InputError:
    """Return the error about a folder that another program has locked."""
    return InputError(f"{folder} is being written by another program: wait for it, or choose another folder")


def _lock(file: Path) -> int | None:
    """Return a descriptor of the file that has this name, locked if it can be; None on Windows."""
    if sys.platform == "win32":
        return None
    while True:
        descriptor = reserve(file, os.O_RDWR | os.O_CREAT)
        # Whoever had it may have removed it since it was opened.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        os.close(descriptor)
