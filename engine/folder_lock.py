"""A folder that one program at a time writes to: while it does, a file in it is locked, and is removed afterwards.

The system lets go of the lock when the program ends, however it ends. The folder itself cannot be what is locked: who
makes a dump in it locks that for a moment, and waits (`gatescope.engine.dump_folder`).
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

    Where no lock can be had, as where the file system is read-only or a network's, nobody is kept from it.

    Raises:
        InputError: another program has it.
    """
    file = folder / LOCK
    try:
        descriptor = _lock(file)
    except BlockingIOError:
        raise InputError(
            f"{folder} is being written by another program: wait for it, or choose another folder"
        ) from None
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


def _lock(file: Path) -> int | None:
    """Return a descriptor of the file that has this name, locked if it can be; None on Windows."""
    if sys.platform == "win32":
        return None
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                # A network file system without locks.
                return descriptor
            # Whoever had it may have removed it since it was opened.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
