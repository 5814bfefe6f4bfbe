"""Rows that wait in a file, because what must be known to write a dump of them is not known before the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor


class Staging:
    """A file of rows, written and read back in pieces.

    Args:
        file: where the rows go.
        arrays: the states and their width.
        dtype: of the states, float16 or float32.
    """

    def __init__(self, file: Path, arrays: dict[str, int], dtype: np.dtype) -> None:
        self._file, self._arrays, self._dtype = file, arrays, dtype
        self._pieces: list[int] = []

    def put(self, tokens: np.ndarray, states: dict[str, Tensor]) -> None:
        """Add the next rows: tokens [n], kept as uint32, and states [n, H] of the dtype, on the CPU."""
        with self._file.open("ab") as file:
            file.write(tokens.astype(np.uint32).data)
            for name in self._arrays:
                file.write(states[name].contiguous().numpy().data)
        self._pieces.append(len(tokens))

    def take(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield the rows in order, piece by piece as they came."""
        with self._file.open("rb") as file:
            for n in self._pieces:
                tokens = np.fromfile(file, np.uint32, n)
                yield (
                    tokens,
                    {
                        name: np.fromfile(file, self._dtype, n * width).reshape(n, width)
                        for name, width in self._arrays.items()
                    },
                )
