"""The sequences of states that another program recorded, out of what its file and the user say of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.errors import InputError

IDS = ("sequence_ids", "sequence_id")


def own_sequences(
    name: str, arrays: dict[str, Any], chosen: dict[str, Any], batch_first: bool, n_rows: int
) -> np.ndarray | None:
    """Return the first row of each sequence, and N, as the file tells them; None where it does not.

    Args:
        name: of the file, for messages.
        arrays: all that are in it.
        chosen: those that are states.
        batch_first: states of three dimensions are [B, T, H], not [T, B, H].
        n_rows: N.
    """
    if "sequence_starts" in arrays:
        return checked_bounds(name, "sequence_starts", arrays["sequence_starts"], n_rows)
    ids = next((arrays[each] for each in IDS if each in arrays), None)
    if ids is not None:
        return _starts_of(name, np.asarray(ids[:]), n_rows)
    cubes = {array.shape[1 if batch_first else 0] for array in chosen.values() if len(array.shape) == 3}
    if len(cubes) > 1:
        raise InputError(f"{name}: its arrays have sequences of {' and '.join(map(str, sorted(cubes)))} rows")
    return np.arange(0, n_rows + 1, cubes.pop(), dtype=np.int64) if cubes else None


def sequences(name: str, own: np.ndarray | None, ids: np.ndarray | None, length: int, n_rows: int) -> np.ndarray:
    """Return the first row of each sequence, and N: int64 [S + 1].

    Args:
        name, n_rows: as `own_sequences` has them.
        own: the file's own sequences, if it has some.
        ids: [N], the sequence of each row as the labels tell it, if they do.
        length: rows in each, if the user says so; else 0.
    """
    if own is not None and length:
        raise InputError(f"{name} has sequences of its own: leave out --sequence-length")
    if ids is not None:
        starts = _starts_of(name, ids, n_rows)
        if own is not None and not np.array_equal(own, starts):
            raise InputError(f"{name} has sequences of its own, and the labels' sequence_id tells others")
        return starts
    if own is not None:
        return own
    return np.append(np.arange(0, n_rows, length or n_rows), n_rows).astype(np.int64)


def checked_bounds(name: str, array: str, values: Any, n_rows: int) -> np.ndarray:
    """Return an array that is to rise from 0 to N as int64, and refuse another."""
    bounds = np.asarray(values[:])
    rises = bounds.ndim == 1 and bounds.dtype.kind in "iu" and len(bounds) >= 2
    if not rises or bounds[0] != 0 or bounds[-1] != n_rows or (np.diff(bounds.astype(np.int64)) <= 0).any():
        raise InputError(f"{name}: {array} does not rise from 0 to {n_rows}")
    return bounds.astype(np.int64)


def _starts_of(name: str, ids: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the first row of each run of equal ids, and N."""
    if ids.shape != (n_rows,):
        raise InputError(f"{name} has {n_rows} rows, and sequence ids of shape {list(ids.shape)}: give one a row")
    missing = np.array([each is None or each != each for each in ids]) if ids.dtype.kind in "Of" else np.zeros(0, bool)
    if missing.any():
        raise InputError(f"{name}: row {int(np.argmax(missing))} has no sequence id: give one for each row")
    firsts = np.append(0, np.flatnonzero(ids[1:] != ids[:-1]) + 1)
    _, once = np.unique(ids[firsts], return_index=True)
    if len(once) < len(firsts):
        again = firsts[np.setdiff1d(np.arange(len(firsts)), once)[0]]
        raise InputError(f"{name}: sequence {ids[again]!s} goes on at row {again} after another: sort rows by sequence")
    return np.append(firsts, n_rows).astype(np.int64)
