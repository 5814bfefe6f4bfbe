"""The rows of chosen sequences, one sequence after another, read when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.lazy_array import LazyArray


class SequenceRows(LazyArray):
    """Rows of some sequences of an array [N, H]: an X for probes that is larger than memory.

    Args:
        array: of all sequences.
        starts, stops: int64 [S], the first row of each sequence and the one after its last.
        before: [S, H], the states before the first row of each: then row n holds the states before character n; None:
            those after it, as they are stored.
    """

    def __init__(self, array: LazyArray, starts: np.ndarray, stops: np.ndarray, before: np.ndarray | None = None):
        present = np.flatnonzero(stops > starts)
        starts, stops = starts[present], stops[present]
        if before is None and len(starts):
            # Sequences that follow one another are read as one.
            begins = np.flatnonzero(np.append(True, starts[1:] != stops[:-1]))
            starts, stops = starts[begins], stops[np.append(begins[1:], len(stops)) - 1]
        self._array, self._starts = array, starts
        self._before = None if before is None else before[present]
        self._edges = np.append(0, np.cumsum(stops - starts))
        super().__init__(array.name, (int(self._edges[-1]), array.shape[1]), array.dtype)

    def read_into(self, out: np.ndarray, start: int) -> None:
        stop = start + len(out)
        first, last = self._run_of(start), np.searchsorted(self._edges, stop)
        for run in range(first, last):
            low, high = max(start, self._edges[run]), min(stop, self._edges[run + 1])
            part, row = out[low - start : high - start], int(self._starts[run] + low - self._edges[run])
            if self._before is not None:
                if low == self._edges[run]:
                    part[0] = self._before[run]
                    part, row = part[1:], row + 1
                row -= 1
            if len(part):
                self._array.read_into(part, row)

    def _run_of(self, rows: Any) -> Any:
        return np.searchsorted(self._edges, rows, side="right") - 1

    def _gather(self, index: np.ndarray, columns: Any) -> np.ndarray:
        run = self._run_of(index)
        rows, chosen = self._starts[run] + index - self._edges[run], slice(None) if columns is None else columns
        if self._before is None:
            return self._array[rows, chosen]
        at_first = index == self._edges[run]
        values = self._array[np.where(at_first, rows, rows - 1), chosen]
        values[at_first] = self._before[run[at_first]][:, chosen]
        return values
