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

from gatescope.engine.block_file import CHECKSUM_BYTES, decoded, is_sealed
from gatescope.engine.block_layout import BlockLayout
from gatescope.engine.blocked_array import BlockedArray
from gatescope.engine.errors import InputError
from gatescope.engine.finite import first_not_finite
from gatescope.engine.location import Location

# Linux's flag that fetches a file's pages when it is mapped.
POPULATE = getattr(mmap, "MAP_POPULATE", 0)


class StateArray(BlockedArray):
    """A lazy array of a state dump; values are given as they are stored.

    Args:
        layout: of its blocks.
        name: its path in the group.
        location: of the group.
        array: as zarr-python opened it; needed for a layout without `compression`.
    """

    def __init__(
        self, layout: BlockLayout, name: str, location: Location, array: zarr.Array[Any] | None = None
    ) -> None:
        super().__init__(name, layout.shape, layout.dtype, layout.block_rows)
        self._layout = layout
        self._location = location
        self._array = array

    def read_into(self, out: np.ndarray, start: int) -> None:
        if not (self._is_mapped and out.flags.c_contiguous and out.dtype == self.dtype and hasattr(os, "preadv")):
            super().read_into(out, start)
            return
        # Copied by the system from its own memory of the file: a mapping would have to be made and taken down for it.
        for index, low, high in self._pieces(start, start + len(out)):
            self._read(index, low - index * self.block_rows, out[low - start : high - start])

    def _read_block(self, index: int, whole: bool) -> np.ndarray:
        if self._layout.compression is None:
            assert self._array is not None
            first = index * self.block_rows
            values = np.asarray(self._array[first : min(first + self.block_rows, len(self))])
            self._location.require_same()
            values.flags.writeable = False
            return values
        return self._rows_of(self._raw(index, whole), index)

    def check_block(self, index: int, n_rows: int) -> str | None:
        """Return in one line what is wrong with a block, or None.

        Compares the length and the checksum, and looks for values that are not finite in its first `n_rows` rows.
        """
        try:
            if self._layout.compression is not None:
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
    def ends_with_checksums(self) -> bool:
        """Whether each block is a file of its values, followed by their checksum."""
        return self._layout.compression == "none"

    def stored_checksum(self, index: int) -> bytes:
        """Return the checksum at the end of a block's file."""
        return self._location.read_end(self._key(index), CHECKSUM_BYTES)

    @property
    def _is_mapped(self) -> bool:
        return self._layout.compression == "none" and self._location.path is not None

    def _where(self, index: int) -> str:
        first = index * self.block_rows
        return f"{self.name}: block {index} (rows {first} to {min(first + self.block_rows, len(self)) - 1})"

    def _key(self, index: int) -> str:
        return f"{self.name}/{self._layout.key(index)}"

    def _rows_of(self, raw: np.ndarray, index: int) -> np.ndarray:
        """Return the rows of a block from its bytes, without the checksum and the padding of the last block."""
        values = raw[:-CHECKSUM_BYTES].view(self.dtype).reshape(self.block_rows, *self.shape[1:])
        return values[: len(self) - index * self.block_rows]

    def _raw(self, index: int, whole: bool) -> np.ndarray:
        """Return a block's values, followed by four bytes, as uint8; raises InputError where it is not whole."""
        try:
            raw = self._map(index, whole) if self._is_mapped else self._load(index)
        except FileNotFoundError:
            raise self._missing(index) from None
        except IsADirectoryError:
            raise InputError(f"{self._where(index)} is a folder, expected a file: write the dump again") from None
        self._require_length(index, len(raw))
        return raw

    @property
    def _file_bytes(self) -> int:
        return self.block_rows * math.prod(self.shape[1:]) * self.dtype.itemsize + CHECKSUM_BYTES

    def _missing(self, index: int) -> InputError:
        self._location.require_same()
        return InputError(f"{self._where(index)} is missing: write the dump again")

    def _require_length(self, index: int, n_bytes: int) -> None:
        expected = self._file_bytes
        if n_bytes != expected:
            fault = "truncated" if n_bytes < expected else "too long"
            raise InputError(
                f"{self._where(index)} is {fault}: {n_bytes} bytes, expected {expected}; write the dump again"
            )

    def _read(self, index: int, row: int, out: np.ndarray) -> None:
        """Fill an array with a block's rows from `row` on."""
        assert self._location.path is not None
        try:
            descriptor = os.open(self._location.path / self._key(index), os.O_RDONLY)
        except FileNotFoundError:
            raise self._missing(index) from None
        try:
            self._location.require_same()
            self._require_length(index, os.fstat(descriptor).st_size)
            rest, place = out.reshape(-1).view(np.uint8).data, row * out[:1].nbytes
            while rest:
                n = os.preadv(descriptor, [rest], place)
                if not n:
                    # It became shorter just now.
                    self._require_length(index, place)
                rest, place = rest[n:], place + n
        finally:
            os.close(descriptor)

    def _map(self, index: int, whole: bool) -> np.ndarray:
        assert self._location.path is not None
        with (self._location.path / self._key(index)).open("rb") as file:
            self._location.require_same()
            self._require_length(index, os.fstat(file.fileno()).st_size)
            if whole and POPULATE:
                # All pages at once: one by one they cost as much as copying them.
                mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | POPULATE, mmap.PROT_READ)
            else:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return np.frombuffer(mapped, np.uint8)

    def _load(self, index: int) -> np.ndarray:
        stored = np.frombuffer(self._location.read(self._key(index)), np.uint8)
        compression = self._layout.compression
        assert compression is not None
        if compression == "none" and len(stored) != self._file_bytes:
            return stored
        try:
            raw = decoded(stored, compression)
        except ValueError as error:
            raise InputError(f"{self._where(index)} {error}; write the dump again") from None
        raw.flags.writeable = False
        return raw
