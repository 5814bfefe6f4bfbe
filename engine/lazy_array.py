"""An array of N rows on disk, of which rows and columns are read when they are asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class LazyArray:
    """A lazy array of N rows: states [N, H], or one value a row [N].

    `array[rows]` and `array[rows, columns]` take slices, integers, arrays of integers, boolean masks and `...`. Rows
    and columns are chosen independently of each other: `array[[0, 5], [1, 2, 3]]` has the shape [2, 3].
    `numpy.asarray(array)` and `torch.as_tensor(array)` read all of it.

    Args:
        name: what messages and tables call it.
        shape: (N, H) or (N,).
        dtype: of the values that are read.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, shape={self.shape}, dtype={self.dtype})"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """How many dimensions there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many values there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all values take in memory."""
        return self.size * self.dtype.itemsize

    # By these torch reads all rows at once and not one by one.
    def __dlpack__(self, **options: Any) -> Any:
        return np.asarray(self).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return np.empty(0).__dlpack_device__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self.name} is on disk: it cannot become an array without a copy")
        values = np.empty(self.shape, self.dtype)
        self.read_into(values, 0)
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = self._axes(key if isinstance(key, tuple) else (key,))
        columns = self._column_numbers(columns)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._slice(start, max(start, stop), columns)
            rows = np.arange(start, stop, step)
        index = np.asarray(rows)
        values = self._gather(self._numbers("rows", np.atleast_1d(index), len(self)), columns)
        return values if index.ndim else values[0]

    def read_into(self, out: np.ndarray, start: int) -> None:
        """Copy the rows that begin at `start` into an array: as many as it has, with all their columns."""
        raise NotImplementedError

    def _slice(self, start: int, stop: int, columns: Any) -> np.ndarray:
        """Return the rows start..stop, of the columns that `_column_numbers` returned."""
        if columns is not None:
            return self._gather(np.arange(start, stop), columns)
        values = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self.read_into(values, start)
        return values

    def _gather(self, index: np.ndarray, columns: Any) -> np.ndarray:
        """Return some rows, int64 [n] from 0 on, of the columns that `_column_numbers` returned."""
        raise NotImplementedError

    def _axes(self, key: tuple[Any, ...]) -> tuple[Any, Any]:
        """Return the rows and the columns that a key chooses, columns None where it has none."""
        if any(part is None for part in key):
            raise IndexError(f"{self.name} takes no new axis: add it after reading, array[:][:, None]")
        places = [place for place, part in enumerate(key) if part is Ellipsis]
        if len(places) > 1 or len(key) - len(places) > 2:
            raise IndexError(f"{self.name} takes rows, columns and one ..., not {len(key)} indices")
        for place in places:
            key = (*key[:place], *[slice(None)] * (self.ndim + 1 - len(key)), *key[place + 1 :])
        rows = key[0] if key else slice(None)
        return rows, key[1] if len(key) > 1 else None

    def _column_numbers(self, columns: Any) -> Any:
        """Return a choice of columns as None for all, a slice, an integer or integers [C]."""
        if columns is None or (isinstance(columns, slice) and columns == slice(None)):
            return None
        if self.ndim == 1:
            raise IndexError(f"{self.name} has one value per row: it takes no columns")
        if isinstance(columns, slice):
            return columns
        index = np.asarray(columns)
        numbers = self._numbers("columns", np.atleast_1d(index), self.shape[1])
        return numbers if index.ndim else int(numbers[0])

    def _numbers(self, what: str, index: np.ndarray, size: int) -> np.ndarray:
        """Return a choice of rows or columns, integers [n] or a mask, as int64 from 0 on."""
        if index.dtype == bool:
            if index.shape != (size,):
                raise IndexError(f"{self.name} has {size} {what}: a mask of shape {index.shape} does not fit")
            return np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise IndexError(
                f"{self.name}: {what} are a slice, integers or a mask, not {index.dtype} of shape {index.shape}"
            )
        wrong = index[(index < -size) | (index >= size)]
        if wrong.size:
            raise IndexError(f"{self.name} has {what} 0 to {size - 1}, not {wrong[0]}")
        index = index.astype(np.int64)
        return np.where(index < 0, index + size, index)

    def _width_of(self, columns: Any) -> tuple[int, ...]:
        return self.shape[1:] if columns is None else np.arange(self.shape[1])[columns].shape
