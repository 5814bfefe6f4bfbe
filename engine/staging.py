"""Keeping the rows of later sequences on disk until those before them are complete.

Sequences are computed side by side, and a dump takes their rows one sequence after another. Where they are too long to
wait in memory, each waits in a file of its own, which is read back piece by piece and removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from gatescope.engine.files import partial_name


class Staging:
    """Files for the rows of sequences that have to wait.

    Args:
        folder: where the files go; `gatescope.engine.files.remove_partial` removes what a killed program leaves there.
        arrays: the states and their width.
        token_dtype: of the tokens.
        dtype: of the states, as NumPy holds their bytes.
    """

    def __init__(self, folder: Path, arrays: dict[str, int], token_dtype: np.dtype, dtype: np.dtype):
        self._folder = folder
        self._files: dict[int, Path] = {}
        self._layout = {"tokens": ((), token_dtype), **{name: ((width,), dtype) for name, width in arrays.items()}}
        self._pieces: dict[int, list[int]] = {}

    def put(self, sequence: int, tokens: np.ndarray, states: dict[str, Tensor]) -> None:
        """Add the next rows of a sequence: tokens [T] and states [T, H] of the dump's dtype."""
        path = self._files.setdefault(sequence, partial_name(self._folder / "waiting"))
        with path.open("ab") as file:
            file.write(tokens.astype(self._layout["tokens"][1]).data)
            for name in self._layout:
                if name != "tokens":
                    file.write(states[name].numpy().data)
        self._pieces.setdefault(sequence, []).append(len(tokens))

    def take(self, sequence: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield the rows of a sequence, piece by piece, and remove them."""
        if sequence not in self._pieces:
            return
        path = self._files.pop(sequence)
        with path.open("rb") as file:
            for n_rows in self._pieces.pop(sequence):
                values = {
                    name: np.fromfile(file, dtype, n_rows * int(np.prod(tail))).reshape(n_rows, *tail)
                    for name, (tail, dtype) in self._layout.items()
                }
                yield values.pop("tokens"), values
        path.unlink()

    def remove(self) -> None:
        """Remove what is left."""
        for path in self._files.values():
            path.unlink(missing_ok=True)
