"""The folder of a dump that one writer has reserved: made where there is none, and put in the place of another late.

A dump that replaces another is made beside it and takes its place at its first commit. Until then the earlier one stays
as it is; a program killed at any moment leaves one of the two, and what else it leaves is removed by the next writer.
"""

from __future__ import annotations

import errno
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gatescope.engine.dump import read_group
from gatescope.engine.dump_spec import DumpSpec, create_skeleton
from gatescope.engine.errors import InputError
from gatescope.engine.files import PARTIAL, exchange, partial_name, sync_folder
from gatescope.engine.folder_lock import alone_in, being_written, reserve
from gatescope.engine.location import behind_link


class DumpFolder:
    """A dump's folder, kept from other writers until `release`.

    Args:
        path: the dump.
        spec: what it holds if it has to be made.
        overwrite: make it anew though it is there.

    Raises:
        InputError: the path holds something else, or a dump that another program is writing.
    """

    def __init__(self, path: Path, spec: DumpSpec, *, overwrite: bool) -> None:
        self._final = behind_link(path)
        if not self._final.parent.is_dir():
            raise InputError(f"{path.parent} is not a folder: make it first, or choose another")
        self.path = self._final
        self._locks: list[int] = []
        self.release = weakref.finalize(self, _close, self._locks)
        try:
            # Two writers that begin at once must not remove each other's beginnings.
            with alone_in(self._final.parent):
                if not is_absent(self._final):
                    self._locks.append(_lock(self._final))
                _clear(self._final)
                absent = is_absent(self._final)
                self.is_new = absent or overwrite
                self.replaces = overwrite and not absent
                if not absent and not self._locks:
                    self._locks.append(_lock(self._final))
                if self.replaces:
                    self.path = partial_name(self._final)
                    create_skeleton(self.path, spec)
                elif absent:
                    # Where there are no locks, another may have come first: it is that one's.
                    self.is_new = _create(self._final, spec)
                if self.is_new or absent:
                    self._locks.append(_lock(self.path))
        except BaseException:
            if self.path != self._final:
                shutil.rmtree(self.path, ignore_errors=True)
            self.release()
            raise

    def settle(self) -> None:
        """Put the new dump in the place of the one that it replaces, and remove that."""
        put_in_place(self.path, self._final)
        earlier, self.path, self.replaces = self.path, self._final, False
        shutil.rmtree(earlier)

    def discard(self) -> None:
        """Remove the dump that was made here; one that it was to replace stays."""
        if not self.replaces:
            self.path = partial_name(self._final)
            os.replace(self._final, self.path)
        shutil.rmtree(self.path)


@contextmanager
def reserved(path: Path) -> Iterator[None]:
    """Keep other writers from a dump while the block runs, and remove what one that was killed left beside it.

    Raises:
        InputError: there is no dump, or another program is writing it.
    """
    locks: list[int] = []
    try:
        with alone_in(path.parent):
            locks.append(_lock(path))
            _clear(path)
        yield
    finally:
        _close(locks)


def put_in_place(new: Path, old: Path) -> None:
    """Let the folders of two dumps change names; the earlier one has the name `new` then."""
    with alone_in(old.parent):
        exchange(new, old)


def require_free(path: Path, *, overwrite: bool) -> None:
    """Check that a new dump may take a path.

    Raises:
        InputError: something is there; with `overwrite`, something that is no dump.
    """
    if is_absent(path):
        return
    if not overwrite:
        raise InputError(f"{path} already exists: choose another path, or overwrite=True")
    _require_dump(path)


@contextmanager
def waiting_beside(path: Path) -> Iterator[Path]:
    """Make a folder beside a path for what is not a dump yet, for one program at a time; it is gone after the block.

    Raises:
        InputError: another has such a folder.
    """
    # The writer of a dump removes folders that begin with its name.
    hidden = path.with_name(f".{path.name}")
    folder, locks = partial_name(hidden), list[int]()
    try:
        with alone_in(path.parent):
            _clear(hidden)
            if any(_is_beside(hidden, entry) for entry in path.parent.iterdir()):
                raise InputError(f"{path} is being recorded by another program: wait for it, or choose another path")
            folder.mkdir()
            locks.append(reserve(folder))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _close(locks)


def settle_at(path: Path, new: Path, *, overwrite: bool) -> None:
    """Give a finished dump its place; an earlier one that was there has the name `new` then.

    Raises:
        InputError: the place is not free, or another program is writing there.
    """
    locks: list[int] = []
    try:
        with alone_in(path.parent):
            require_free(path, overwrite=overwrite)
            if is_absent(path):
                os.replace(new, path)
            else:
                locks.append(_lock(path))
                exchange(new, path)
        sync_folder(path.parent)
    finally:
        _close(locks)


def is_absent(path: Path) -> bool:
    """Whether a path is free for a dump: nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _create(path: Path, spec: DumpSpec) -> bool:
    """Make a dump without rows, all at once; False if another has come first."""
    skeleton = partial_name(path)
    try:
        create_skeleton(skeleton, spec)
        os.replace(skeleton, path)
    except BaseException as error:
        shutil.rmtree(skeleton, ignore_errors=True)
        if not isinstance(error, OSError) or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    sync_folder(path.parent)
    return True


def _clear(path: Path) -> None:
    """Remove what a program left that was killed while it made or replaced this dump."""
    for entry in path.parent.iterdir():
        if not _is_beside(path, entry) or _is_locked(entry):
            continue
        # Where folders cannot change names at once, there is a moment in which none has the dump's.
        if not path.exists() and _has_rows(entry):
            os.replace(entry, path)
        else:
            # Where there are no locks, another may be removing it as well.
            with suppress(FileNotFoundError):
                shutil.rmtree(entry)


def _is_beside(path: Path, entry: Path) -> bool:
    """Whether an entry of a path's folder is a temporary folder for it."""
    # Those of a longer name begin in the same way.
    alike = entry.name.startswith(f"{path.name}.") and len(entry.name) == len(partial_name(path).name)
    return alike and bool(PARTIAL.fullmatch(entry.name)) and entry.is_dir()


def _has_rows(path: Path) -> bool:
    try:
        return bool(read_group(path)["attributes"]["gatescope"]["rows_committed"])
    except InputError:
        return False


def _is_locked(path: Path) -> bool:
    try:
        os.close(reserve(path))
    except BlockingIOError:
        return True
    return False


def _require_dump(path: Path) -> None:
    """Check that what is there may be written to, or over."""
    try:
        read_group(path)
    except InputError as error:
        raise InputError(f"{error}; only a dump may be overwritten: choose another path, or remove this") from None


def _lock(path: Path) -> int:
    """Reserve a dump for this writer; the system lets go of it when the program ends, however it ends.

    Returns:
        A descriptor of the folder; closing it frees the dump.
    """
    _require_dump(path)
    try:
        return reserve(path)
    except BlockingIOError:
        raise being_written(path) from None
