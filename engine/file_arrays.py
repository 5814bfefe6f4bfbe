"""The arrays of other programs' files, opened without reading their values: NumPy, safetensors and plain Zarr.

Each is given as an object with `shape`, `dtype` and slices along its first axes. A `.npy` file and the members of an
`.npz` that are not compressed are mapped; a compressed member is read as a whole when its first value is asked for.
HDF5 is in `gatescope.engine.hdf5`.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from safetensors import safe_open

from gatescope.engine.errors import InputError
from gatescope.engine.location import Location

SAFETENSORS = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "f4"}
SAFETENSORS |= {f"{kind}{8 * size}": f"{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)} | {"BOOL": "?"}

# Read at a time where only a checksum is made of it.
PIECE_BYTES = 16 << 20


def npy_arrays(path: Path) -> dict[str, Any]:
    """The one array of a .npy file, by the file's name."""
    return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}


def npy_folder_arrays(path: Path) -> dict[str, Any]:
    """The arrays of a folder of .npy files, by the files' names."""
    files = sorted(path.glob("*.npy"))
    return _with_a_readable({file.stem: _opened(np.load, file, "r", False) for file in files})


def npz_arrays(path: Path) -> dict[str, Any]:
    """The members of an .npz file."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    return _with_a_readable({each.filename.removesuffix(".npy"): _opened(_npz_member, path, each) for each in members})


def damaged_members(path: Path, names: Collection[str]) -> list[str]:
    """Return in a line each which members of an .npz file, of those that are mapped, something altered."""
    problems = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name not in names or member.compress_type != zipfile.ZIP_STORED:
                continue
            try:
                with archive.open(member) as file:
                    while file.read(PIECE_BYTES):
                        pass
            except zipfile.BadZipFile:
                problems.append(f"{name} does not match its checksum in {path}")
    return problems


class Unreadable:
    """An array that cannot be read, which is no matter as long as nobody asks for it."""

    shape, dtype = (), np.dtype(object)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _opened(kind: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return kind(*arguments)
    except (ValueError, EOFError) as error:
        return Unreadable(error)


def _with_a_readable(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of a file, unless none of them can be read: then its error says why."""
    errors = [array.error for array in arrays.values() if isinstance(array, Unreadable)]
    if errors and len(errors) == len(arrays):
        raise errors[0]
    return arrays


def _npz_member(path: Path, member: zipfile.ZipInfo) -> Any:
    """Return a member of an .npz file, mapped where it is not compressed."""
    found = _NpzMember(path, member)
    if member.compress_type != zipfile.ZIP_STORED or 0 in found.shape:
        return found
    with path.open("rb") as file:
        file.seek(member.header_offset)
        # Local file header (APPNOTE 4.3.7): its last two fields are the lengths of the name and of what follows it.
        name, extra = struct.unpack("<26xHH", file.read(30))
    offset = member.header_offset + 30 + name + extra + found.header_bytes
    return np.memmap(path, found.dtype, "r", offset, found.shape, "F" if found.fortran else "C")


class _NpzMember:
    """A member of an .npz file, which is read as a whole."""

    def __init__(self, path: Path, member: zipfile.ZipInfo) -> None:
        self._path, self._member = path, member
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, self.fortran, self.dtype = read(file)
            self.header_bytes = file.tell()
        if self.dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are never loaded")

    @cached_property
    def _values(self) -> np.ndarray:
        with np.load(self._path, allow_pickle=False) as archive:
            return archive[self._member.filename.removesuffix(".npy")]

    def __getitem__(self, key: Any) -> np.ndarray:
        return self._values[key]


def safetensors_arrays(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors file."""
    file = safe_open(path, "pt")
    return _with_a_readable({name: _opened(_Tensor, file.get_slice(name)) for name in file.keys()})  # noqa: SIM118


class _Tensor:
    """A tensor of a .safetensors file, of which slices are read; bfloat16, which NumPy lacks, is given as float32."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self.shape = tuple(part.get_shape())
        if part.get_dtype() not in SAFETENSORS:
            raise ValueError(f"a tensor of {part.get_dtype()}, expected one of {', '.join(SAFETENSORS)}")
        self.dtype = np.dtype(SAFETENSORS[part.get_dtype()])

    def __getitem__(self, key: Any) -> np.ndarray:
        values: torch.Tensor = self._part[key]
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def zarr_arrays(location: Location) -> dict[str, Any]:
    """The arrays of a Zarr group of version 2 or 3, or a single array by the folder's name."""
    opened = zarr.open(location.path or location.name, mode="r")
    if isinstance(opened, zarr.Array):
        return {Path(location.name).name.removesuffix(".zarr"): opened}
    arrays = {name: member for name, member in opened.members(max_depth=None) if isinstance(member, zarr.Array)}
    vocabulary = opened.attrs.get("vocabulary")
    if isinstance(vocabulary, list) and "vocabulary" not in arrays:
        return {**dict(sorted(arrays.items())), "vocabulary": np.array(vocabulary, dtype=str)}
    return dict(sorted(arrays.items()))


def is_zarr(location: Location) -> bool:
    """Whether a folder or URL holds a Zarr array or group."""
    for key in ("zarr.json", ".zgroup", ".zarray"):
        try:
            return isinstance(json.loads(location.read(key)), dict)
        except (OSError, ValueError, RecursionError, InputError):
            continue
    return False
