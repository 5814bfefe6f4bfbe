"""Rows that wait in files, because what must be known to write a dump of them is not known before the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from gatescope.engine.block_file import RowTypes

# Rows that are read back at once.
CHUNK_ROWS = 8192


class Staging:
    """Files of rows, one for each array, written in one order and read back in another.

    Args:
        folder: where the files go; it is there and empty.
        arrays: the states and their width.
        dtype: of the states, float16 or float32.

    Attributes:
        n_rows: how many rows there are.
    """

    def __init__(self, folder: Path, arrays: dict[str, int], dtype: np.dtype) -> None:
        self._shapes: RowTypes = {"tokens": ((), np.dtype(np.uint32))}
        self._shapes |= {name: ((width,), dtype) for name, width in arrays.items()}
        self._files = {name: folder / str(number) for number, name in enumerate(self._shapes)}
        self.n_rows = 0

    def put(self, tokens: np.ndarray, states: dict[str, Tensor]) -> None:
        """Add the next rows: tokens [n], kept as uint32, and states [n, H] of the dtype, on the CPU.

        Raises:
            OSError: the disk is full; none of these rows counts then.
        """
        for name, file in self._files.items():
            values = tokens.astype(np.uint32) if name == "tokens" else states[name].contiguous().numpy()
            width, dtype = self._shapes[name]
            with file.open("r+b" if file.exists() else "wb") as opened:
                opened.seek(self.n_rows * int(np.prod(width)) * dtype.itemsize)
                opened.write(values.data)
        self.n_rows += len(tokens)

    def take(self, starts: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield runs of rows one after another, in pieces of tokens [n] and states [n, H].

        Args:
            starts, lengths: int64, the first row of each run and how many it has.
        """
        arrays = {
            name: np.asarray(np.memmap(file, self._shapes[name][1], "r", shape=(self.n_rows, *self._shapes[name][0])))
            for name, file in self._files.items()
        }
        bounds = np.cumsum([0, *lengths])
        for first in range(0, int(bounds[-1]), CHUNK_ROWS):
            rows = np.arange(first, min(first + CHUNK_ROWS, int(bounds[-1])))
            run = np.searchsorted(bounds, rows, side="right") - 1
            there = starts[run] + rows - bounds[run]
            piece = {name: array[there] for name, array in arrays.items()}
            yield piece.pop("tokens"), piece
