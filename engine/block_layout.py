"""How an array of a Zarr group lies in the files of its blocks, as its metadata say (Zarr v3 specification)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from gatescope.engine.block_file import block_name


@dataclass(frozen=True)
class BlockLayout:
    """The blocks of an array: runs of rows.

    Args:
        shape: (N, H) or (N,).
        dtype: of the values.
        block_rows: rows in a block.
        compression: how a file holds them, whole rows in each: one of `COMPRESSIONS`, or None in any other way.
        separator: between the parts of a file's name.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    block_rows: int
    compression: str | None
    separator: str

    def key(self, index: int) -> str:
        """Return the name of a block's file below the array's."""
        return block_name(index, len(self.shape) - 1, self.separator)


def layout_of_array(array: zarr.Array[Any]) -> BlockLayout:
    """Return the layout of an array that zarr-python opened.

    Raises:
        ValueError: its blocks have no rows, which zarr-python lets pass.
    """
    if not all(array.chunks):
        raise ValueError(f"{array.path} has blocks of the shape {array.chunks}")
    codecs: tuple[Any, ...] = tuple(getattr(array.metadata, "codecs", ()))
    names = getattr(array.metadata, "chunk_key_encoding", None)
    whole_rows = (
        len(codecs) in (2, 3)
        and isinstance(codecs[0], BytesCodec)
        and isinstance(codecs[-1], Crc32cCodec)
        # An enumeration in older versions of zarr-python, a word in newer ones.
        and getattr(codecs[0].endian, "value", codecs[0].endian) in (None, "little")
        and np.dtype(array.dtype).newbyteorder("<") == np.dtype(array.dtype)
        and array.chunks[1:] == array.shape[1:]
        and getattr(names, "name", None) == "default"
    )
    compression = None
    if whole_rows and (len(codecs) == 2 or isinstance(codecs[1], ZstdCodec)):
        compression = "none" if len(codecs) == 2 else "zstd"
    return BlockLayout(
        array.shape, np.dtype(array.dtype), array.chunks[0], compression, getattr(names, "separator", ".")
    )
