"""Chosen rows and columns of several arrays of states side by side, read when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.errors import InputError
from gatescope.engine.lazy_array import LazyArray


class StateColumns(LazyArray):
    """Arrays of states side by side: lazy, and whatever is read of it is a copy.

    >>> X = dump.states(["layer0/h", "layer0/c"])  # [N, 2 H], on disk
    >>> X.rows(1_000_000, 2_000_000)  # [1000000, 2 H], on disk too

    Args:
        arrays: [N, H] each.
        units: the units of each array to take, a slice, integers [C] or a mask; None for all.
        dtype: of the values that are read.
        within: the rows, one after another.

    Raises:
        InputError: units that are none of these, or that an array does not have.
    """

    def __init__(self, arrays: list[LazyArray], units: Any, dtype: np.dtype, within: range) -> None:
        if not (units is None or isinstance(units, slice)):
            given, units = units, np.asarray(units)
            if units.ndim != 1 or (units.size and units.dtype.kind not in "iub"):
                raise InputError(f"units {given!r}: expected a slice, integers [C] or a mask")
            units = units if units.size else units.astype(np.int64)
        self._arrays, self._units, self._within = arrays, units, within
        try:
            self._chosen = [np.arange(array.shape[1])[slice(None) if units is None else units] for array in arrays]
        except IndexError as error:
            widths = ", ".join(f"{array.name} has {array.shape[1]}" for array in arrays)
            raise InputError(f"units {units}: {error}; {widths}") from None
        self._edges = np.cumsum([0, *map(len, self._chosen)])
        name = " + ".join(array.name for array in arrays)
        super().__init__(name, (len(within), int(self._edges[-1])), dtype)

    def rows(self, start: int, stop: int) -> StateColumns:
        """Return the rows from `start` up to `stop`, still on disk.

        Raises:
            InputError: there are no such rows.
        """
        if not 0 <= start <= stop <= len(self):
            raise InputError(f"{self.name} has no rows {start} to {stop}: expected 0 <= start <= stop <= {len(self)}")
        return StateColumns(self._arrays, self._units, self.dtype, self._within[start:stop])

    def read_into(self, out: np.ndarray, start: int) -> None:
        first = self._within.start + start
        for array, left, right in zip(self._arrays, self._edges[:-1], self._edges[1:], strict=True):
            if self._units is None:
                array.read_into(out[:, left:right], first)
            else:
                out[:, left:right] = array[first : first + len(out), self._units]

    def _slice(self, start: int, stop: int, columns: Any) -> np.ndarray:
        if columns is None:
            return super()._slice(start, stop, columns)
        return self._taken(slice(self._within.start + start, self._within.start + stop), stop - start, columns)

    def _gather(self, index: np.ndarray, columns: Any) -> np.ndarray:
        return self._taken(self._within.start + index, len(index), columns)

    def _taken(self, rows: slice | np.ndarray, n_rows: int, columns: Any) -> np.ndarray:
        """Return rows of the arrays, of the columns that `_column_numbers` returned."""
        chosen = np.arange(self.shape[1])[slice(None) if columns is None else columns]
        numbers = np.atleast_1d(chosen)
        values = np.empty((n_rows, len(numbers)), self.dtype)
        for array, units, left in zip(self._arrays, self._chosen, self._edges[:-1], strict=True):
            here = np.flatnonzero((left <= numbers) & (numbers < left + len(units)))
            if len(here):
                values[:, here] = array[rows, units[numbers[here] - left]]
        return values.reshape(n_rows, *chosen.shape)
