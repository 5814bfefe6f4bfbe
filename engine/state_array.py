"""One array of a state dump, read block by block and mapped into memory where that is possible.

A block is one Zarr chunk: a run of rows with all their columns, in one file. Where the dump lies on a local disk and is
not compressed, the file holds the values as they are, little-endian and row by row, followed by four bytes of CRC32C
checksum (Zarr v3 specification, codecs `bytes` and `crc32c`). Such a block is mapped and nothing is copied until values
are asked for that lie in several blocks; its checksum is compared by `check_block`. With the codec `zstd` between the
two, or from a URL, the file is read as a whole, and its checksum compared at once. Any other layout that zarr-python
reads is read through it.
"""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from gatescope.engine.block_file import CHECKSUM_BYTES, decoded, is_sealed
from gatescope.engine.blocked_array import BlockedArray, first_not_finite
from gatescope.engine.errors import InputError
from gatescope.engine.location import Location

# Linux's flag that fetches a file's pages when it is mapped.
POPULATE = getattr(mmap, "MAP_POPULATE", 0)


class StateArray(BlockedArray):
    """A lazy array of a state dump; values are given as they are stored.

    Args:
        array: as zarr-python opened it.
        name: its path in the group.
        location: of the group.
    """

    def __init__(self, array: zarr.Array[Any], name: str, location: Location) -> None:
        super().__init__(name, array.shape, np.dtype(array.dtype), array.chunks[0])
        self._array = array
        self._location = location
        self._codec = _codec(array)

    def _read_block(self, index: int, whole: bool) -> np.ndarray:
        if self._codec is None:
            first = index * self.block_rows
            values = np.asarray(self._array[first : min(first + self.block_rows, len(self))])
            values.flags.writeable = False
            return values
        return self._rows_of(self._raw(index, whole), index)

    def check_block(self, index: int, n_rows: int) -> str | None:
        """Return in one line what is wrong with a block, or None.

        Compares the length and the checksum, and looks for values that are not finite in its first `n_rows` rows.
        """
        try:
            if self._codec is not None:
                raw = self._raw(index, whole=True)
                if self._is_mapped and not is_sealed(raw):
                    return f"{self._where(index)} does not match its checksum"
                values = self._rows_of(raw, index)
            else:
                values = self.block(index)
        except InputError as error:
            return str(error)
        except (OSError, RuntimeError, ValueError) as error:
            return f"{self._where(index)} cannot be read: {' '.join(str(error).split())}"
        place = first_not_finite(values[:n_rows])
        if place is not None:
            row, *unit = place
            at = f"row {index * self.block_rows + row}" + "".join(f", unit {column}" for column in unit)
            return f"{self.name}: {values[place]} at {at}"
        return None

    @property
    def _is_mapped(self) -> bool:
        return self._codec == "none" and self._location.path is not None

    def _where(self, index: int) -> str:
        first = index * self.block_rows
        return f"{self.name}: block {index} (rows {first} to {min(first + self.block_rows, len(self)) - 1})"

    def _key(self, index: int) -> str:
        return f"{self.name}/{self._array.metadata.encode_chunk_key((index,) + (0,) * (self.ndim - 1))}"

    def _rows_of(self, raw: np.ndarray, index: int) -> np.ndarray:
        """Return the rows of a block from its bytes, without the checksum and the padding of the last block."""
        values = raw[:-CHECKSUM_BYTES].view(self.dtype).reshape(self.block_rows, *self.shape[1:])
        return values[: len(self) - index * self.block_rows]

    def _raw(self, index: int, whole: bool) -> np.ndarray:
        """Return a block's values and four bytes behind them, as uint8; raises InputError where it is not whole."""
        expected = self.block_rows * math.prod(self.shape[1:]) * self.dtype.itemsize + CHECKSUM_BYTES
        try:
            raw = self._map(index, expected, whole) if self._is_mapped else self._load(index, expected)
        except FileNotFoundError:
            raise InputError(f"{self._where(index)} is missing: write the dump again") from None
        if len(raw) == expected:
            return raw
        fault = "truncated" if len(raw) < expected else "too long"
        raise InputError(
            f"{self._where(index)} is {fault}: {len(raw)} bytes, expected {expected}; write the dump again"
        )

    def _map(self, index: int, expected: int, whole: bool) -> np.ndarray:
        assert self._location.path is not None
        with (self._location.path / self._key(index)).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected:
                # Nothing but its length is looked at; an empty file cannot be mapped.
                return np.broadcast_to(np.uint8(0), (size,))
            if whole and POPULATE:
                # All pages at once: one by one they cost as much as copying them.
                mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | POPULATE, mmap.PROT_READ)
            else:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return np.frombuffer(mapped, np.uint8)

    def _load(self, index: int, expected: int) -> np.ndarray:
        stored = np.frombuffer(self._location.read(self._key(index)), np.uint8)
        assert self._codec is not None
        if self._codec == "none" and len(stored) != expected:
            return stored
        try:
            raw = decoded(stored, self._codec)
        except ValueError as error:
            raise InputError(f"{self._where(index)} {error}; write the dump again") from None
        raw.flags.writeable = False
        return raw


def _codec(array: zarr.Array[Any]) -> str | None:
    """How the files of an array hold its values, whole rows in each: a name of COMPRESSIONS, or None for others."""
    codecs: tuple[Any, ...] = tuple(getattr(array.metadata, "codecs", ()))
    whole_rows = (
        len(codecs) in (2, 3)
        and isinstance(codecs[0], BytesCodec)
        and isinstance(codecs[-1], Crc32cCodec)
        and (codecs[0].endian is None or codecs[0].endian.value == "little")
        and np.dtype(array.dtype).newbyteorder("<") == np.dtype(array.dtype)
        and array.chunks[1:] == array.shape[1:]
    )
    if not whole_rows or (len(codecs) == 3 and not isinstance(codecs[1], ZstdCodec)):
        return None
    return "none" if len(codecs) == 2 else "zstd"
