"""One array of states that another program recorded, read block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.blocked_array import BlockedArray
from gatescope.engine.errors import InputError
from gatescope.engine.location import UNREADABLE, unreadable
from gatescope.engine.state_source import BLOCK_ROWS

BLOCK_BYTES = 2**25


class OtherArray(BlockedArray):
    """States [N, H] of another program, in any float type; [T, B, H] sequence by sequence."""

    def __init__(self, name: str, array: Any, batch_first: bool) -> None:
        shape = tuple(int(size) for size in array.shape)
        if not (is_float(array.dtype) and len(shape) in (2, 3) and 0 not in shape):
            raise InputError(f"{name} is {array.dtype} {list(shape)}: expected floats [N, H] or [T, B, H], not empty")
        width = shape[-1]
        dtype = np.dtype(array.dtype).newbyteorder("=")
        block_rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (width * dtype.itemsize)))
        super().__init__(name, (shape[0] * shape[1] if len(shape) == 3 else shape[0], width), dtype, block_rows)
        self._array, self._batch_first = array, batch_first
        self._steps = shape[1 if batch_first else 0] if len(shape) == 3 else 0

    def _read_block(self, index: int, whole: bool) -> np.ndarray:
        start = index * self.block_rows
        stop = min(start + self.block_rows, len(self))
        try:
            values = self._sequences(start, stop) if self._steps else np.asarray(self._array[start:stop])
        except UNREADABLE as error:
            raise unreadable(f"{self.name}, rows {start} to {stop - 1},", error) from error
        return values.astype(self.dtype, copy=False)

    def _sequences(self, start: int, stop: int) -> np.ndarray:
        """Return rows of a three-dimensional array."""
        values = np.empty((stop - start, self.shape[1]), self.dtype)
        row = start
        while row < stop:
            sequence, step = divmod(row, self._steps)
            n = min(self._steps - step, stop - row)
            if self._batch_first:
                values[row - start : row - start + n] = self._array[sequence, step : step + n]
            else:
                values[row - start : row - start + n] = self._array[step : step + n, sequence]
            row += n
        return values


def is_float(dtype: Any) -> bool:
    """Whether values of a dtype may be states."""
    return np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize in (2, 4, 8)
