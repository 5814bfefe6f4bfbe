"""The files of a dump's blocks, as Zarr's codecs `bytes`, `zstd` and `crc32c` prescribe them (Zarr v3 specification).

A file holds little-endian values, row by row, compressed or as they are, followed by their checksum of four bytes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd

from gatescope.engine.files import write_atomic

CHECKSUM_BYTES = 4
COMPRESSIONS = ("none", "zstd")
# Zstd's own default: higher levels gain nothing on states.
LEVEL = 3
# The shape of a row and the dtype of each array, by name; the arrays share their rows.
RowTypes = dict[str, tuple[tuple[int, ...], np.dtype]]


class BlockFiles:
    """The files of arrays that share their rows: one for each array and each block of as many rows.

    Args:
        path: the dump.
        arrays: what their rows are.
        n_rows: N.
        block_rows: rows in a block.
        compression: one of `COMPRESSIONS`.
    """

    def __init__(
        self,
        path: Path,
        arrays: RowTypes,
        n_rows: int,
        block_rows: int,
        compression: str = "none",
    ) -> None:
        self.path = path
        self.arrays = arrays
        self.n_rows = n_rows
        self.block_rows = min(block_rows, n_rows)
        self.compression = compression

    def file(self, name: str, block: int) -> Path:
        """Return where a block is."""
        return self.path / name / block_name(block, len(self.arrays[name][0]))

    def row_bytes(self, name: str) -> int:
        """Return the bytes of a row."""
        tail, dtype = self.arrays[name]
        return int(np.prod(tail)) * dtype.itemsize

    def raw_bytes(self, name: str) -> int:
        """Return the bytes of a block that is not compressed, its checksum included."""
        return self.block_rows * self.row_bytes(name) + CHECKSUM_BYTES


def block_name(block: int, n_axes: int, separator: str = ".") -> str:
    """Return the name of a block's file, whose rows have as many axes."""
    return separator.join(["c", str(block), *"0" * n_axes])


def fill_value(dtype: np.dtype) -> Any:
    """Return what rows are that were never filled: NaN, so that they never look like states, and 0 for integers."""
    return np.nan if dtype.kind == "f" else 0


def sealed(raw: np.ndarray) -> np.ndarray:
    """Write the checksum after a block's values, and return the block: uint8, its last four bytes the checksum."""
    raw[-CHECKSUM_BYTES:] = checksum(raw[:-CHECKSUM_BYTES])
    return raw


def encoded(raw: np.ndarray, compression: str) -> np.ndarray:
    """Return the content of a block's file; `raw` is uint8 and has room for the checksum after the values."""
    if compression == "none":
        return sealed(raw)
    values = np.frombuffer(Zstd(level=LEVEL).encode(raw[:-CHECKSUM_BYTES]), np.uint8)
    return np.concatenate([values, checksum(values)])


def write_block(file: Path, raw: np.ndarray, compression: str) -> None:
    """Write the file of a block atomically; `raw` as `encoded` takes it."""
    write_atomic(file, encoded(raw, compression).data)


def decoded(stored: np.ndarray, compression: str) -> np.ndarray:
    """Return a block's values, followed by four bytes, from the content of its file.

    Raises:
        ValueError: it does not match its checksum, or is not compressed so.
    """
    if not is_sealed(stored):
        raise ValueError("does not match its checksum")
    if compression == "none":
        return stored
    try:
        values = np.frombuffer(Zstd().decode(stored[:-CHECKSUM_BYTES]), np.uint8)
    except RuntimeError as error:
        raise ValueError(f"is not zstd ({error})") from None
    return np.concatenate([values, checksum(values)])


def is_sealed(stored: np.ndarray) -> bool:
    """Whether the last four bytes are the checksum of those before."""
    return len(stored) > CHECKSUM_BYTES and bool((stored[-CHECKSUM_BYTES:] == checksum(stored[:-CHECKSUM_BYTES])).all())


def checksum(*pieces: np.ndarray) -> np.ndarray:
    """Return the checksum of values that lie in one or more pieces, uint8 each: four bytes."""
    value = functools.reduce(google_crc32c.extend, pieces, 0)
    return np.frombuffer(value.to_bytes(CHECKSUM_BYTES, "little"), np.uint8)
