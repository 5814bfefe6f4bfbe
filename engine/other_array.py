"""One array of states that another program recorded, read block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gatescope.engine.blocked_array import BlockedArray
from gatescope.engine.errors import InputError
from gatescope.engine.file_arrays import Unreadable
from gatescope.engine.kept_chunk import kept_chunk
from gatescope.engine.location import UNREADABLE, unreadable
from gatescope.engine.other_file import OtherFile
from gatescope.engine.other_sequences import Cube, steps_of_rows
from gatescope.engine.state_source import BLOCK_ROWS

BLOCK_BYTES = 2**25
# How many times the rows of a block are read at most, padding included.
MOST_PADDED = 2
# Bytes of decoded chunks that all arrays of a file keep together.
KEPT_BYTES = 2**30
# One sequence's part of a block: its number, its steps, and their places.
Part = tuple[int, slice, slice]


class OtherArray(BlockedArray):
    """States [N, H] of another program, in any float type; [T, B, H] sequence by sequence.

    Args:
        name: as `LazyArray` has it.
        file: that holds it by this name.
        cube: how sequences lie in it, if it has three dimensions.
        share: of KEPT_BYTES that it may take.
    """

    def __init__(self, name: str, file: OtherFile, cube: Cube | None, share: float = 1.0) -> None:
        array = file.arrays[name]
        if isinstance(array, Unreadable):
            raise unreadable(f"{file.location.name}: {name}", array.error)
        shape = tuple(int(size) for size in array.shape)
        if not (is_float(array.dtype) and len(shape) in (2, 3) and 0 not in shape):
            raise InputError(
                f"{file.location.name}: {name} is {array.dtype} {list(shape)}: expected floats [N, H] or [T, B, H], "
                "not empty"
            )
        width = shape[-1]
        dtype = np.dtype(array.dtype).newbyteorder("=")
        block_rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // (width * dtype.itemsize)))
        self._file, self._cube = file, cube if len(shape) == 3 else None
        self._starts = self._cube.starts if self._cube else np.array([0, shape[0]])
        axis = int(self._cube is not None and not self._cube.batch_first)
        self._kept = kept_chunk(array, axis, block_rows, int(KEPT_BYTES * share))
        super().__init__(name, (int(self._starts[-1]), width), dtype, block_rows)

    def _read_block(self, index: int, whole: bool) -> np.ndarray:
        start = index * self.block_rows
        stop = min(start + self.block_rows, len(self))
        array = self._file.arrays[self.name]
        try:
            if self._cube:
                values = self._sequences(array, start, stop, self._cube)
            else:
                values = self._kept.read(array, start, stop) if self._kept else np.asarray(array[start:stop])
        except UNREADABLE as error:
            raise unreadable(f"{self.name}, rows {start} to {stop - 1},", error) from error
        return values.astype(self.dtype, copy=False)

    def _sequences(self, array: Any, start: int, stop: int, cube: Cube) -> np.ndarray:
        """Return rows of a three-dimensional array."""
        values = np.empty((stop - start, self.shape[1]), self.dtype)
        for run in _runs(steps_of_rows(self._starts, start, stop), MOST_PADDED * self.block_rows):
            first, low = run[0][0], min(steps.start for _, steps, _ in run)
            sequences, of_all = slice(first, first + len(run)), slice(low, max(steps.stop for _, steps, _ in run))
            if self._kept:
                read = self._kept.read(array, sequences.start, sequences.stop)
                read = read[:, of_all] if cube.batch_first else read[of_all]
            else:
                read = np.asarray(array[sequences, of_all] if cube.batch_first else array[of_all, sequences])
            for number, steps, places in run:
                part = slice(steps.start - low, steps.stop - low)
                values[places] = read[number - first, part] if cube.batch_first else read[part, number - first]
        return values


def _runs(parts: Iterable[Part], most: int) -> Iterator[list[Part]]:
    """Yield the sequences that are read at once, as many as are no more than `most` rows with their padding.

    What is stored in pieces of many sequences, compressed, would be read and expanded anew for each of them.
    """
    run: list[Part] = []
    longest = 0
    for part in parts:
        longest = max(longest, part[1].stop)
        if run and longest * (len(run) + 1) > most:
            yield run
            run, longest = [], part[1].stop
        run.append(part)
    yield run


def is_float(dtype: Any) -> bool:
    """Whether values of a dtype may be states."""
    return np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize in (2, 4, 8)
