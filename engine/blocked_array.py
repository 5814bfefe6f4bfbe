"""An array of N rows that is read block by block, whatever it is stored in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gatescope.engine.lazy_array import LazyArray


class BlockedArray(LazyArray):
    """A lazy array whose rows lie in blocks.

    A slice of rows inside one block may be a read-only view of a mapped file; everything else is a copy.

    Args:
        name, shape, dtype: as `LazyArray` has them.
        block_rows: rows in a block.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype, block_rows: int) -> None:
        super().__init__(name, shape, dtype)
        self.block_rows = block_rows
        self._last: tuple[int, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads for itself.
        return {**self.__dict__, "_last": None}

    @property
    def n_blocks(self) -> int:
        """How many blocks the rows are in, the last of which may have fewer."""
        return -(-self.shape[0] // self.block_rows)

    def blocks(self) -> Iterator[np.ndarray]:
        """Iterate over the blocks [block_rows, H] in order; at most one is held at a time, apart from what is kept."""
        for index in range(self.n_blocks):
            yield self.block(index, whole=True)

    def read_into(self, out: np.ndarray, start: int) -> None:
        for index, low, high in self._pieces(start, start + len(out)):
            first = index * self.block_rows
            block = self.block(index, whole=high - low == self.block_rows)
            out[low - start : high - start] = block[low - first : high - first]

    def block(self, index: int, *, whole: bool = False) -> np.ndarray:
        """Return one block [block_rows, H], the last one without the padding after its rows.

        Args:
            index: its number.
            whole: all of it will be read, so that it is fetched at once.

        Raises:
            InputError: the block is missing or not whole.
        """
        last = self._last
        if last is not None and last[0] == index:
            return last[1]
        values = self._read_block(index, whole)
        self._last = (index, values)
        return values

    def _read_block(self, index: int, whole: bool) -> np.ndarray:
        raise NotImplementedError

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield each block that holds some rows: its number, the first of these rows, and the row after the last."""
        for index in range(start // self.block_rows, -(-stop // self.block_rows)):
            first = index * self.block_rows
            yield index, max(start, first), min(stop, first + self.block_rows)

    def _slice(self, start: int, stop: int, columns: Any) -> np.ndarray:
        if start == stop:
            return np.empty((0, *self._width_of(columns)), self.dtype)
        index = start // self.block_rows
        if stop <= (index + 1) * self.block_rows:
            rows = self.block(index)[start - index * self.block_rows : stop - index * self.block_rows]
            return rows if columns is None else rows[:, columns]
        if columns is None:
            return super()._slice(start, stop, columns)
        values = np.empty((stop - start, *self._width_of(columns)), self.dtype)
        for low in range(start - start % self.block_rows, stop, self.block_rows):
            first, high = max(low, start), min(low + self.block_rows, stop)
            values[first - start : high - start] = self._slice(first, high, columns)
        return values

    def _gather(self, index: np.ndarray, columns: Any) -> np.ndarray:
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
