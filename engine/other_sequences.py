"""The sequences of states that another program recorded, as its file and the user describe them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError

# Arrays, or columns of labels, that give the sequence of each row.
IDS = ("sequence_ids", "sequence_id")
LENGTHS = "lengths"


@dataclass(frozen=True)
class Cube:
    """How sequences lie in arrays of three dimensions.

    Args:
        shape: (T, B), or (B, T) where `batch_first`.
        batch_first: the arrays are [B, T, H], not [T, B, H].
        lengths: int64 [B], the steps of each sequence; steps after them are padding.
    """

    shape: tuple[int, int]
    batch_first: bool
    lengths: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """The first row of each sequence, and N: int64 [B + 1]."""
        return np.append(0, np.cumsum(self.lengths)).astype(np.int64)

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Return an array of the shape of the cube, or [T, B, K], sequence by sequence without padding: [N], [N, K]."""
        values = values if self.batch_first else values.swapaxes(0, 1)
        return values[np.arange(values.shape[1]) < self.lengths[:, None]]


def steps_of_rows(starts: np.ndarray, start: int, stop: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield each sequence that has some of the rows `start` to `stop`: its number, its steps, and their places there.

    Args:
        starts: the first row of each sequence, and N: int64 [S + 1].
    """
    row, number = start, int(np.searchsorted(starts, start, side="right")) - 1
    while row < stop:
        first, behind = starts[number : number + 2].tolist()
        end = min(behind, stop)
        yield number, slice(row - first, end - first), slice(row - start, end - start)
        row, number = end, number + 1


def cube_of(name: str, arrays: dict[str, Any], chosen: dict[str, Any], batch_first: bool) -> Cube | None:
    """Return how the sequences lie in a file's states of three dimensions, or None where it has no such.

    Args:
        name: of the file, for messages.
        arrays: all that are in it; `lengths` [B] holds the steps of each sequence.
        chosen: those that are states.
        batch_first: they are [B, T, H], not [T, B, H].

    Raises:
        InputError: states of different sequences, or lengths that do not fit them.
    """
    shapes = sorted({tuple(map(int, array.shape[:2])) for array in chosen.values() if len(array.shape) == 3})
    if not shapes:
        return None
    sizes = [shape if batch_first else shape[::-1] for shape in shapes]
    if len(shapes) > 1:
        raise InputError(
            f"{name}: its arrays have {' and '.join(f'{n} sequences of {steps} rows' for n, steps in sizes)}: choose "
            "arrays that belong together with --arrays"
        )
    n_sequences, n_steps = sizes[0]
    lengths = np.full(n_sequences, n_steps, np.int64)
    if LENGTHS in arrays:
        given = np.asarray(arrays[LENGTHS][:])
        fits = given.shape == lengths.shape and given.dtype.kind in "iu"
        if not fits or not ((given >= 1) & (given <= n_steps)).all():
            # Sequences and steps may have been taken for each other.
            turned = "; give --batch-first, or leave it out" if given.shape == (n_steps,) != lengths.shape else ""
            raise InputError(
                f"{name}: {LENGTHS} {given.dtype} {list(given.shape)}: expected whole numbers from 1 to {n_steps}, one "
                f"for each of {n_sequences} sequences{turned}"
            )
        lengths = given.astype(np.int64)
    return Cube((shapes[0][0], shapes[0][1]), batch_first, lengths)


def own_sequences(name: str, arrays: dict[str, Any], cube: Cube | None, n_rows: int) -> np.ndarray | None:
    """Return the first row of each sequence, and N, if the file has them, else None.

    Args:
        name: of the file, for messages.
        arrays: all that are in it.
        cube: how the sequences lie in states of three dimensions, if there are such.
        n_rows: N.
    """
    if "sequence_starts" in arrays:
        return checked_bounds(name, "sequence_starts", arrays["sequence_starts"], n_rows)
    ids = next((arrays[each] for each in IDS if each in arrays), None)
    if ids is not None:
        given = np.asarray(ids[:])
        if given.shape != (n_rows,):
            raise InputError(f"{name}: its sequence ids are {list(given.shape)}, expected one for each of {n_rows:,}")
        return _starts_of(name, given)
    return None if cube is None else cube.starts


def sequences(name: str, own: np.ndarray | None, ids: np.ndarray | None, length: int, n_rows: int) -> np.ndarray:
    """Return the first row of each sequence, and N: int64 [S + 1].

    Args:
        name, n_rows: as `own_sequences` has them.
        own: the file's own sequences, if it has some.
        ids: [N], the sequence of each row, if the labels have it.
        length: rows in each, if the user says so; else 0.
    """
    if own is not None and length:
        raise InputError(f"{name} has its own sequences: leave out --sequence-length")
    if ids is not None and length:
        raise InputError(f"{name} has sequences from the labels' sequence_id: leave out --sequence-length")
    if ids is not None:
        if ids.shape != (n_rows,):
            there = counted(len(ids), "row") if ids.ndim == 1 else f"the shape {list(ids.shape)}"
            raise InputError(
                f"the labels' sequence_id has {there}, and {name} has {counted(n_rows, 'row')}: give a row for each "
                "state, after a line of column names"
            )
        starts = _starts_of(name, ids)
        if own is not None and not np.array_equal(own, starts):
            # Each way has as many sequences as the other has rows in each: [B, T, H] was read as [T, B, H].
            turned = set(np.diff(own)) == {len(starts) - 1} and set(np.diff(starts)) == {len(own) - 1}
            remedy = "give --batch-first, or leave it out" if turned else "leave one of the two out"
            raise InputError(
                f"{name} has {_told(own)}, and by the labels' sequence_id it has {_told(starts)}: {remedy}"
            )
        return starts
    if own is not None:
        return own
    return np.append(np.arange(0, n_rows, length or n_rows), n_rows).astype(np.int64)


def _told(starts: np.ndarray) -> str:
    """How many sequences there are, and how long they are."""
    sizes = np.diff(starts)
    lengths = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    return f"{counted(len(sizes), 'sequence')} of {lengths} rows"


def checked_bounds(name: str, array: str, values: Any, n_rows: int) -> np.ndarray:
    """Return an array that is to rise from 0 to N as int64, and refuse another."""
    bounds = np.asarray(values[:])
    rises = bounds.ndim == 1 and bounds.dtype.kind in "iu" and len(bounds) >= 2
    if not rises or bounds[0] != 0 or bounds[-1] != n_rows or (np.diff(bounds.astype(np.int64)) <= 0).any():
        raise InputError(f"{name}: {array} does not increase from 0 to {n_rows}")
    return bounds.astype(np.int64)


def _starts_of(name: str, ids: np.ndarray) -> np.ndarray:
    """Return the first row of each run of equal ids [N], and N."""
    missing = np.array([each is None or each != each for each in ids]) if ids.dtype.kind in "Of" else np.zeros(0, bool)
    if missing.any():
        raise InputError(f"{name}: row {int(np.argmax(missing))} has no sequence id: give one for each row")
    firsts = np.append(0, np.flatnonzero(ids[1:] != ids[:-1]) + 1)
    _, once = np.unique(ids[firsts], return_index=True)
    if len(once) < len(firsts):
        again = firsts[np.setdiff1d(np.arange(len(firsts)), once)[0]]
        raise InputError(f"{name}: sequence {ids[again]!s} resumes at row {again} after another: sort rows by sequence")
    return np.append(firsts, len(ids)).astype(np.int64)
