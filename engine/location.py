"""Where a dump lies: a folder of this machine, or a URL that fsspec knows, such as s3://bucket/states.zarr."""

from __future__ import annotations

import errno
import os
import re
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from gatescope.engine.differences import shortened
from gatescope.engine.errors import InputError

# What libraries raise on files that are damaged or of another kind; zarr-python has no exception of its own for that.
UNREADABLE = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SafetensorError,
    SyntaxError,
    TypeError,
    ValueError,
    ZeroDivisionError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
# One protocol, or several of fsspec's in a chain, such as simplecache::s3://.
_PROTOCOLS = r"((?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+)"
URL = re.compile(_PROTOCOLS + "://")
# As it stands in a text, and as a `Path` writes it.
BEGINNING_OF_URL = re.compile(_PROTOCOLS + ":/+")


class Location:
    """A folder or a URL, of which files are read by their keys.

    Args:
        place: a path, or a URL such as "https://host/states.zarr", "s3://bucket/states.zarr" or "memory://states.zarr".
        written_once: the key of a file that is never written again; its inode and its time tell a folder from another
            that takes its place.
    """

    def __init__(self, place: str | os.PathLike[str], written_once: str | None = None) -> None:
        text = path_text(place)
        self.name = text.rstrip("/") or "/"
        # It is still read after the program has changed its working folder.
        self.path: Path | None = None if is_url(text) else local_path(text).absolute()
        self._system: Any = None
        self._root = ""
        if self.path is None:
            self._system, self._root = _file_system(self.name)
        self._written_once = written_once
        self._first = self._what_is_there()

    def __str__(self) -> str:
        return self.name

    def read(self, key: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: it is not there.
            InputError: the URL cannot be read, or another folder lies here now.
        """
        if self.path is not None:
            content = (self.path / key).read_bytes()
            self.require_same()
            return content
        try:
            return self._system.cat_file(f"{self._root}/{key}")
        except FileNotFoundError:
            raise
        # Every file system has errors of its own: refused connections, permissions, names that do not resolve.
        except Exception as error:
            raise unreadable(self.name, error) from error

    def read_end(self, key: str, n_bytes: int) -> bytes:
        """Return the last bytes of a file; raises what `read` does."""
        if self.path is None:
            return self.read(key)[-n_bytes:]
        with (self.path / key).open("rb") as file:
            self.require_same()
            file.seek(-n_bytes, os.SEEK_END)
            return file.read()

    def require_same(self) -> None:
        """Check, after a file was opened, that it is of the folder that was here at first.

        Raises:
            InputError: another one has taken its place.
        """
        if self._what_is_there() != self._first:
            raise InputError(f"{self} was replaced while it was being read: open it again")

    def _what_is_there(self) -> tuple[int, ...] | None:
        if self.path is None or self._written_once is None:
            return None
        try:
            status = os.stat(self.path / self._written_once)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is a URL and not a path."""
    return bool(URL.match(os.fspath(place)))


def path_text(place: str | os.PathLike[str]) -> str:
    """Return a path or URL as text.

    Raises:
        InputError: it is neither, or empty, which would be the folder that the program is in.
    """
    text = os.fspath(place) if isinstance(place, str | os.PathLike) else None
    if not text or not isinstance(text, str):
        raise InputError(f"{shortened(place)} is not a path: expected a str or a Path")
    return text


def local_path(place: str | os.PathLike[str]) -> Path:
    """Return a path on this machine, with `~` as the home folder.

    Raises:
        InputError: it is a URL, no path at all, too long, or leads round in a circle of links.
    """
    text = path_text(place)
    if BEGINNING_OF_URL.match(text):
        url = text if is_url(text) else BEGINNING_OF_URL.sub(r"\1://", text, count=1)
        raise InputError(f"{url} is a URL: expected a path on this machine; URLs are taken only for states to read")
    path = Path(os.path.expanduser(text))
    try:
        path.stat()
    except OSError as error:
        # Whatever else is wrong with it, such as that nothing is there yet, is seen where it is used.
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} is a link that leads back to itself: give another path") from None
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{shortened(text)} is too long for a path: give a shorter one") from None
    except ValueError as error:
        raise InputError(f"{text!r} cannot be a path ({error}): give another") from None
    return path


def behind_link(path: Path) -> Path:
    """Return the target of a link, even if it is absent: a link stays a link when its target is made or replaced."""
    return path.resolve() if path.is_symlink() else path


def unreadable(name: str, error: Exception) -> InputError:
    """Return the error that says in one line why something cannot be read."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return InputError(f"{name} cannot be read: {reason[:200]}")


def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise InputError(f"{url} is a URL: reading one needs fsspec; pip install 'gatescope[files]'") from None
    try:
        system, root = fsspec.core.url_to_fs(url)
    # An unknown protocol is a ValueError, a package that its file system needs an ImportError, and others have theirs.
    except Exception as error:
        raise unreadable(url, error) from error
    return system, root.rstrip("/")
