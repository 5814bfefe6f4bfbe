"""The rows of a recording, kept in files until everything is known of its dump, which is then written at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.dump_folder import settle_at
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.staging import Staging


class RecordedRows:
    """Rows of sequences, in the order in which they come; those of one sequence may come in several parts.

    Args:
        folder: where they wait; it is there, empty, and removed by the caller.
        dtype: of the states, float16 or float32.
        attributes: of the dump.

    Attributes:
        n_sequences: how many sequences have begun.
    """

    def __init__(self, folder: Path, dtype: np.dtype, attributes: dict[str, Any]) -> None:
        self._folder, self._dtype, self._attributes = folder, dtype, attributes
        self._widths: dict[str, int] = {}
        self._staging: Staging | None = None
        self._numbers: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self.n_sequences = 0

    def add(self, tokens: np.ndarray, states: dict[str, Tensor], lengths: np.ndarray, numbers: np.ndarray) -> None:
        """Add rows; where that fails, none of them counts.

        Args:
            tokens: [n], of one sequence after another.
            states: [n, H] of each array, of the dtype, on the CPU.
            lengths: int64, how many of the rows each sequence has.
            numbers: int64, which sequence of the dump it is; new ones have the next numbers.

        Raises:
            InputError: arrays that a dump cannot hold, another width than before, or states that are not finite.
            OSError: the disk is full.
        """
        widths = {array: values.shape[1] for array, values in states.items()}
        if self._staging is None:
            # Refuse now what the first rows show to be wrong, not after the whole loop.
            self._spec(widths, np.array([0, 1], np.int64))
        elif widths != self._widths:
            raise InputError(f"the modules returned {widths} units, but {self._widths} before")
        for array, values in states.items():
            wrong = (~torch.isfinite(values)).nonzero()
            if len(wrong):
                row, unit = wrong[0].tolist()
                raise InputError(
                    f"{array}: {values[row, unit]:g} at row {row} of this add, unit {unit}: expected finite states, "
                    f"within the range of {self._dtype}"
                )
        if self._staging is None:
            self._widths, self._staging = widths, Staging(self._folder, widths, self._dtype)
        self._staging.put(tokens, states)
        self._numbers.append(numbers)
        self._lengths.append(lengths)
        self.n_sequences = max(self.n_sequences, int(numbers.max()) + 1)

    def write(self, path: Path, *, overwrite: bool) -> None:
        """Write the dump of all rows, beside its place, and give it its place when it is whole.

        Raises:
            InputError: no rows were added, or the place is not free.
            OSError: the disk is full, or fails.
        """
        if self._staging is None:
            raise InputError("no sequence was added: call add(tokens) after every forward pass")
        numbers, lengths = np.concatenate(self._numbers), np.concatenate(self._lengths)
        starts = np.cumsum(lengths) - lengths
        in_order = np.argsort(numbers, kind="stable")
        bounds = np.append(0, np.cumsum(lengths[in_order]))
        # A sequence begins with its first part.
        first = np.flatnonzero(np.diff(numbers[in_order], prepend=-1))
        spec = self._spec(self._widths, np.append(bounds[first], bounds[-1]))
        new = self._folder / "dump" / path.name
        new.parent.mkdir()
        with DumpWriter(new, spec) as writer:
            row = 0
            for tokens, states in self._staging.take(starts[in_order], lengths[in_order]):
                writer.append(row, tokens, states)
                row += len(tokens)
        settle_at(path, new, overwrite=overwrite)

    def _spec(self, widths: dict[str, int], starts: np.ndarray) -> DumpSpec:
        n_words = len(self._attributes["vocabulary"])
        size = np.uint8 if n_words <= 2**8 else np.uint16 if n_words <= 2**16 else np.uint32
        return DumpSpec(widths, starts, starts, (), np.dtype(size), self._dtype, self._attributes)
