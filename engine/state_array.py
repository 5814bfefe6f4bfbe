"""One array of a state dump, read block by block and mapped into memory where that is possible.

A block is one Zarr chunk: a run of rows with all their columns, in one file. Where the dump lies on a local disk and is
not compressed, the file holds the values as they are, little-endian and row by row, followed by four bytes of CRC32C
checksum (Zarr v3 specification, codecs `bytes` and `crc32c`). Such a block is mapped and nothing is copied until values
are asked for that lie in several blocks. Any other layout that zarr-python reads is read through it.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from gatescope.engine.errors import InputError

CHECKSUM_BYTES = 4


class StateArray:
    """A lazy array of N rows: states [N, H], or one value a row [N].

    `array[rows]` and `array[rows, columns]` take slices with step 1, integers, arrays of integers and boolean masks.
    Rows and columns are chosen independently of each other: `array[[0, 5], [1, 2, 3]]` has the shape [2, 3]. A slice of
    rows inside one block is a read-only view of the mapped file; everything else is a copy. `numpy.asarray(array)`
    reads all of it. Values are given as they are stored; their checksums are compared by `StateDump.verify`.
    """

    def __init__(self, array: zarr.Array[Any], name: str, folder: Path) -> None:
        self.name = name
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.block_rows: int = array.chunks[0]
        self._array = array
        self._folder = folder
        self._mapped = _is_plain(array)
        self._last: tuple[int, np.ndarray] | None = None

    def __repr__(self) -> str:
        return f"StateArray({self.name!r}, shape={self.shape}, dtype={self.dtype})"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def n_blocks(self) -> int:
        return -(-self.shape[0] // self.block_rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self.name} is in several blocks on disk: it cannot become one array without a copy")
        values = np.empty(self.shape, self.dtype)
        self.read_into(values, 0)
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, None)
        columns = self._column_numbers(columns)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise IndexError(f"{self.name}: rows are taken one after another, not in steps of {step}")
            return self._slice(start, max(start, stop), columns)
        index = np.asarray(rows)
        return self._gather(index, columns) if index.ndim else self._gather(index.reshape(1), columns)[0]

    def blocks(self, rows_per_block: int | None = None, columns: Any = None) -> Iterator[np.ndarray]:
        """Iterate over the rows in order.

        At most one block is mapped at a time, apart from pieces that the caller keeps.

        Args:
            rows_per_block: rows in each piece but the last; default: those of the blocks on disk, which are not copied.
            columns: a slice or integers [C]; only these are copied.

        Yields:
            Arrays [rows_per_block, H] or [rows_per_block, C] of the dump's dtype.

        Raises:
            InputError: a block is missing or not whole.
        """
        step = rows_per_block or self.block_rows
        columns = self._column_numbers(columns)
        for start in range(0, len(self), step):
            yield self._slice(start, min(start + step, len(self)), columns)

    def read_into(self, out: np.ndarray, start: int) -> None:
        """Copy the rows that begin at `start` into an array: as many as it has, with all their columns."""
        stop = start + len(out)
        for index in range(start // self.block_rows, -(-stop // self.block_rows)):
            first = index * self.block_rows
            low, high = max(start, first), min(stop, first + self.block_rows)
            out[low - start : high - start] = self.block(index)[low - first : high - first]

    def block(self, index: int) -> np.ndarray:
        """Return one block [block_rows, H], the last one without the padding behind its rows.

        Raises:
            InputError: the block is missing or not whole.
        """
        last = self._last
        if last is not None and last[0] == index:
            return last[1]
        if self._mapped:
            values = self._rows_of(self._map(index), index)
        else:
            first = index * self.block_rows
            values = np.asarray(self._array[first : min(first + self.block_rows, len(self))])
            values.flags.writeable = False
        self._last = (index, values)
        return values

    def check_block(self, index: int, n_rows: int) -> str | None:
        """Return in one line what is wrong with a block, or None.

        Compares the length and the checksum, and looks for values that are not finite in its first `n_rows` rows.
        """
        try:
            if self._mapped:
                raw = self._map(index)
                values = self._rows_of(raw, index)
                stored = int.from_bytes(raw[-CHECKSUM_BYTES:].tobytes(), "little")
                if google_crc32c.value(raw[:-CHECKSUM_BYTES]) != stored:
                    return f"{self._where(index)} does not match its checksum"
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

    def _where(self, index: int) -> str:
        first = index * self.block_rows
        return f"{self.name}: block {index} (rows {first} to {min(first + self.block_rows, len(self)) - 1})"

    def _path(self, index: int) -> Path:
        key = self._array.metadata.encode_chunk_key((index,) + (0,) * (self.ndim - 1))
        return self._folder / self.name / key

    def _rows_of(self, raw: np.ndarray, index: int) -> np.ndarray:
        """Return the rows of a block from its bytes, without the checksum and the padding of the last block."""
        values = raw[:-CHECKSUM_BYTES].view(self.dtype).reshape(self.block_rows, *self.shape[1:])
        return values[: len(self) - index * self.block_rows]

    def _map(self, index: int) -> np.ndarray:
        """Return the bytes of a block's file, mapped for reading; raises InputError where it is not whole."""
        expected = self.block_rows * math.prod(self.shape[1:]) * self.dtype.itemsize + CHECKSUM_BYTES
        try:
            with self._path(index).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == expected:
                    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except FileNotFoundError:
            raise InputError(f"{self._where(index)} is missing: write the dump again") from None
        fault = "truncated" if size < expected else "too long"
        raise InputError(f"{self._where(index)} is {fault}: {size} bytes, expected {expected}; write the dump again")

    def _slice(self, start: int, stop: int, columns: Any) -> np.ndarray:
        if start == stop:
            return np.empty((0, *self._width_of(columns)), self.dtype)
        index = start // self.block_rows
        if stop <= (index + 1) * self.block_rows:
            rows = self.block(index)[start - index * self.block_rows : stop - index * self.block_rows]
            return rows if columns is None else rows[:, columns]
        if columns is None:
            values = np.empty((stop - start, *self.shape[1:]), self.dtype)
            self.read_into(values, start)
            return values
        values = np.empty((stop - start, *self._width_of(columns)), self.dtype)
        for low in range(start - start % self.block_rows, stop, self.block_rows):
            first, high = max(low, start), min(low + self.block_rows, stop)
            values[first - start : high - start] = self._slice(first, high, columns)
        return values

    def _gather(self, index: np.ndarray, columns: Any) -> np.ndarray:
        index = self._row_numbers(index)
        values = np.empty((len(index), *self._width_of(columns)), self.dtype)
        # Rows of one block are taken together, whatever order they were asked for in.
        order = np.argsort(index // self.block_rows, kind="stable")
        numbers, firsts = np.unique(index[order] // self.block_rows, return_index=True)
        for number, places in zip(numbers, np.split(order, firsts[1:]), strict=bool(len(index))):
            rows = index[places] - number * self.block_rows
            if columns is None:
                values[places] = self.block(int(number))[rows]
            elif isinstance(columns, np.ndarray):
                values[places] = self.block(int(number))[rows[:, None], columns]
            else:
                values[places] = self.block(int(number))[rows, columns]
        return values

    def _row_numbers(self, index: np.ndarray) -> np.ndarray:
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise IndexError(f"{self.name} has {len(self)} rows: a mask of shape {index.shape} does not fit")
            return np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise IndexError(
                f"{self.name}: rows are a slice, integers or a mask, not {index.dtype} of shape {index.shape}"
            )
        if index.size and not (-len(self) <= index.min() and index.max() < len(self)):
            raise IndexError(f"{self.name} has rows 0 to {len(self) - 1}, not {index.min()} to {index.max()}")
        index = index.astype(np.int64)
        return np.where(index < 0, index + len(self), index)

    def _column_numbers(self, columns: Any) -> Any:
        """Return a choice of columns as None for all, a slice, an integer or integers [C]."""
        if columns is None or (isinstance(columns, slice) and columns == slice(None)):
            return None
        if self.ndim == 1:
            raise IndexError(f"{self.name} has one value a row: it takes no columns")
        if isinstance(columns, slice):
            return columns
        chosen = np.arange(self.shape[1])[columns if isinstance(columns, int | np.integer) else np.asarray(columns)]
        return chosen if chosen.ndim else int(chosen)

    def _width_of(self, columns: Any) -> tuple[int, ...]:
        return self.shape[1:] if columns is None else np.arange(self.shape[1])[columns].shape


def first_not_finite(values: np.ndarray) -> tuple[int, ...] | None:
    """Return the first index at which an array holds NaN or infinity, or None; integers are always finite."""
    if values.dtype.kind != "f" or not values.size:
        return None
    # The bits of infinity and of every NaN are larger than those of any finite value of the same sign (IEEE 754), and
    # the largest integer is found in one pass: fifteen times as fast as isfinite on float16, and without a copy.
    infinity = np.array([np.inf, -np.inf], values.dtype)
    kinds = [np.dtype(f"{kind}{values.dtype.itemsize}") for kind in "iu"]
    if all(values.view(kind).max() < infinity.view(kind)[sign] for sign, kind in enumerate(kinds)):
        return None
    place = np.argwhere(~np.isfinite(values))[0]
    return tuple(int(axis) for axis in place)


def _is_plain(array: zarr.Array[Any]) -> bool:
    """Whether the files of an array hold its values as they are, whole rows in each, with a checksum behind them."""
    codecs: tuple[Any, ...] = tuple(getattr(array.metadata, "codecs", ()))
    return (
        len(codecs) == 2
        and isinstance(codecs[0], BytesCodec)
        and isinstance(codecs[1], Crc32cCodec)
        and (codecs[0].endian is None or codecs[0].endian.value == "little")
        and np.dtype(array.dtype).newbyteorder("<") == np.dtype(array.dtype)
        and array.chunks[1:] == array.shape[1:]
    )
