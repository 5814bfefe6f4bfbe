"""The files of a dump's blocks, as Zarr's codecs `bytes`, `zstd` and `crc32c` prescribe them (Zarr v3 specification).

A file holds little-endian values, row by row, compressed or as they are, and behind them their checksum of four bytes.
"""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd

from gatescope.engine.files import write_atomic

CHECKSUM_BYTES = 4
COMPRESSIONS = ("none", "zstd")
# Of zstd, its own default: more gains nothing on states.
LEVEL = 3


def sealed(raw: np.ndarray) -> np.ndarray:
    """Write the checksum behind a block's values, and return the block: uint8, its last four bytes the checksum."""
    raw[-CHECKSUM_BYTES:] = _checksum(raw[:-CHECKSUM_BYTES])
    return raw


def encoded(raw: np.ndarray, compression: str) -> np.ndarray:
    """Return the content of a block's file; `raw` is uint8 and has room for the checksum behind the values."""
    if compression == "none":
        return sealed(raw)
    values = np.frombuffer(Zstd(level=LEVEL).encode(raw[:-CHECKSUM_BYTES]), np.uint8)
    return np.concatenate([values, _checksum(values)])


def write_block(file: Path, raw: np.ndarray, compression: str) -> None:
    """Write the file of a block atomically; `raw` as `encoded` takes it."""
    write_atomic(file, encoded(raw, compression).data)


def decoded(stored: np.ndarray, compression: str) -> np.ndarray:
    """Return a block's values, and four bytes behind them, from the content of its file.

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
    return np.concatenate([values, _checksum(values)])


def is_sealed(stored: np.ndarray) -> bool:
    """Whether the last four bytes are the checksum of those before."""
    return len(stored) > CHECKSUM_BYTES and bool(
        (stored[-CHECKSUM_BYTES:] == _checksum(stored[:-CHECKSUM_BYTES])).all()
    )


def _checksum(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(google_crc32c.value(values).to_bytes(CHECKSUM_BYTES, "little"), np.uint8)
