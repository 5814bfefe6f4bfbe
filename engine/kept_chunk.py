"""The last chunk of a stored array, kept decoded while blocks of rows are read from it.

Zarr and HDF5 decode a chunk as a whole, whatever part of it is asked for. One of many more rows than a block has would
be decoded anew for each block. HDF5 itself keeps small chunks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class KeptChunk:
    """Reads an array along one axis, its chunks one after another.

    Args:
        axis: of the rows, or of the sequences.
        size: of a chunk along this axis.
    """

    def __init__(self, axis: int, size: int) -> None:
        self._axis, self._size = axis, size
        self._last: tuple[int, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads for itself.
        return {**self.__dict__, "_last": None}

    def read(self, array: Any, start: int, stop: int) -> np.ndarray:
        """Return a copy of what lies from `start` to `stop` along the axis, whole along the others.

        The last chunk is kept until its end has been read.
        """
        parts = []
        for number in range(start // self._size, -(-stop // self._size)):
            first = number * self._size
            chunk = self._chunk(array, number)
            parts.append(chunk[self._along(max(start - first, 0), stop - first)])
            self._last = (number, chunk) if stop < first + chunk.shape[self._axis] else None
        return np.concatenate(parts, axis=self._axis)

    def _chunk(self, array: Any, number: int) -> np.ndarray:
        last = self._last
        if last is not None and last[0] == number:
            return last[1]
        first = number * self._size
        return np.asarray(array[self._along(first, min(first + self._size, array.shape[self._axis]))])

    def _along(self, start: int, stop: int) -> tuple[slice, ...]:
        return (*[slice(None)] * self._axis, slice(start, stop))


def kept_chunk(array: Any, axis: int, more_than: int, most_bytes: int) -> KeptChunk | None:
    """Return what keeps the chunks of an array, or None where that is needless or they are too large.

    Args:
        array: of Zarr, HDF5 or another kind, which has no chunks.
        axis: along which it is read.
        more_than: rows that are read at a time; chunks of no more are decoded about once.
        most_bytes: of a chunk, and of those beside it along the other axes.
    """
    chunks = getattr(array, "chunks", None)
    if not chunks:
        return None
    size = min(chunks[axis], array.shape[axis])
    # Several sequences are read at once; of one by itself only the steps that are asked for.
    others = [chunks[place] if size == 1 else n for place, n in enumerate(array.shape[:-1]) if place != axis]
    n_bytes = size * math.prod(array.shape) // array.shape[axis] * np.dtype(array.dtype).itemsize
    return KeptChunk(axis, size) if size * math.prod(others) > more_than and n_bytes <= most_bytes else None
