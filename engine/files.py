"""Files that are either whole or not there.

A result that a program was killed while writing must not look like a result. So every file is written under a temporary
name in its own folder, brought to the disk, and only then given its name: a reader, or the next run, sees the old bytes
or the new ones and never a mixture. What a killed program leaves behind is a file with the suffix ``.partial``.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

_BEHIND = r"\.[0-9a-f]{32}\.partial"
PARTIAL = re.compile(f".*{_BEHIND}", re.DOTALL)


def partial_name(path: Path) -> Path:
    """Return a new temporary name beside ``path``, which `remove_partial` recognises."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


def settled_name(path: str) -> str:
    """Return a path as its user knows it, where it is of a `partial_name` or within one."""
    return re.sub(f"{_BEHIND}(?=$|/)", "", path)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk, so that a file just renamed into it survives a power cut."""
    # Windows opens no folders; its file systems keep their own journal of names.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(new: Path, old: Path) -> None:
    """Let two folders of one file system change names, at once where the system can (Linux: renameat2(2)).

    Elsewhere there is a moment in which nothing has the name `old`.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    at_working_folder, swap = -100, 2
    # Not every file system knows the flag.
    if rename is None or rename(at_working_folder, os.fsencode(new), at_working_folder, os.fsencode(old), swap) != 0:
        spare = partial_name(old)
        os.rename(old, spare)
        os.rename(new, old)
        os.rename(spare, new)
    sync_folder(old.parent)


def write_atomic(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> None:
    """Write a file so that it has either its old bytes or all of the new ones, whenever the program ends.

    The bytes go to a temporary file in the same folder, which is brought to the disk and then takes the file's name.

    Args:
        path: the file; its folder must exist.
        data: its whole content.

    Raises:
        OSError: the disk is full, the folder is missing or may not be written. The old file is intact then and the
            temporary one removed.
    """
    path = Path(path)
    partial = partial_name(path)
    try:
        _write_synced(partial, data)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_new(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file that nothing refers to yet, under its own name; what is there is not written over but unlinked.

    It saves the disk one of two waits. A program that is killed may leave half of it: whoever reads must know from
    elsewhere that it is whole.

    Raises:
        OSError: the disk is full, the folder is missing or may not be written; the file is gone then.
    """
    path.unlink(missing_ok=True)
    try:
        _write_synced(path, data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _write_synced(path: Path, data: bytes | bytearray | memoryview) -> None:
    with path.open("xb", buffering=0) as file:
        rest = memoryview(data).cast("B")
        # An unbuffered write may take less than it was given: at 2 GiB on Linux, or at the disk's last free block.
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON, atomically, indented and with a newline at its end.

    The bytes follow from the value alone. Characters outside ASCII are escaped, so that any string can be written, file
    names that are not UTF-8 included.

    Args:
        path: the file; its folder must exist.
        value: dicts with string keys, which keep their order, lists, strings, finite numbers, booleans and None.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say; use None.
        OSError: see `write_atomic`.
    """
    text = json.dumps(value, indent=2, allow_nan=False)
    write_atomic(path, (text + "\n").encode("ascii"))


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partial_of(path: Path) -> None:
    """Remove the temporary files that killed programs left of one file; its folder is there."""
    for entry in path.parent.iterdir():
        if entry.name.startswith(f"{path.name}.") and PARTIAL.fullmatch(entry.name) and entry.is_file():
            entry.unlink()


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Remove what killed programs left in a folder and in those below: temporary files and folders, nothing else.

    Call it only where no other program can be writing.
    """
    for parent, folders, files in os.walk(folder):
        for name in [name for name in folders if PARTIAL.fullmatch(name)]:
            shutil.rmtree(os.path.join(parent, name))
            folders.remove(name)
        for name in filter(PARTIAL.fullmatch, files):
            os.unlink(os.path.join(parent, name))
