"""A file of arrays that another program wrote, which a process opens when it first reads from it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from gatescope.engine.errors import InputError
from gatescope.engine.file_arrays import (
    damaged_members,
    is_zarr,
    npy_arrays,
    npy_folder_arrays,
    npz_arrays,
    safetensors_arrays,
    zarr_arrays,
)
from gatescope.engine.hdf5 import hdf5_arrays
from gatescope.engine.location import UNREADABLE, Location, unreadable

READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npy": npy_arrays,
    ".npz": npz_arrays,
    ".safetensors": safetensors_arrays,
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), hdf5_arrays),
}


class OtherFile:
    """The arrays of a file, of a folder of .npy files, or of Zarr in a folder or at a URL.

    Another process gets its place alone, and opens it anew.

    Args:
        location: where it is.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._arrays: dict[str, Any] | None = None
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays by their names, each with `shape`, `dtype` and slices.

        Raises:
            InputError: the file was closed, is damaged or of an unknown kind.
        """
        if self._closed:
            raise InputError(f"{self.location} is closed: open it again")
        if self._arrays is None:
            self._arrays = _opened(self.location)
        return self._arrays

    def damaged(self, names: Collection[str]) -> list[str]:
        """Return in a line each which arrays do not match a checksum that is not compared when they are read."""
        path = self.location.path
        return damaged_members(path, names) if path is not None and path.suffix.lower() == ".npz" else []

    def close(self) -> None:
        """Let go of the file."""
        # Only datasets of HDF5 hold a file open; other arrays close theirs with the last reference.
        files = [getattr(array, "file", None) for array in (self._arrays or {}).values()]
        self._arrays, self._closed = None, True
        file = next((each for each in files if each is not None), None)
        if file is not None:
            file.close()


def _opened(location: Location) -> dict[str, Any]:
    suffix = Path(location.name).suffix.lower()
    try:
        if location.path is None or is_zarr(location):
            return zarr_arrays(location)
        if location.path.is_dir():
            return npy_folder_arrays(location.path)
        if suffix not in READERS:
            raise InputError(f"{location} has an unknown format: expected a state dump, {', '.join(READERS)} or Zarr")
        return READERS[suffix](location.path)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(location.name, error) from error
