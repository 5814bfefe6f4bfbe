"""Weights of N rows for K hypotheses, checked once, and handed out one hypothesis or some rows at a time."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gatescope.engine.arrays import array_namespace, as_array, as_tensor, moved, to_host
from gatescope.engine.errors import InputError
from gatescope.engine.processes import ALONE, Processes
from gatescope.engine.products import column_sums

# Rows converted to float64 at a time in the computer's memory.
CHUNK_ROWS = 8192


class Weights:
    """Non-negative weights of N rows for K hypotheses; 1 everywhere where none are given.

    Args:
        sample_weight: [N], [N, K] or None; zero leaves a position out of a hypothesis.
        n_rows, n_targets: N and K.
        xp: numpy or cupy, where the columns are wanted.
        processes: those that hold the other rows.

    Raises:
        InputError: another shape, a negative weight, NaN or infinity, or weights [N] that are zero everywhere.
    """

    def __init__(self, sample_weight: Any, n_rows: int, n_targets: int, xp: Any, processes: Processes = ALONE):
        self.shape, self.xp, self.processes = (n_rows, n_targets), xp, processes
        with processes.together():
            self.values: Any = None if sample_weight is None else self._checked(as_array(sample_weight))
        processes.check_equal("axes of sample_weight", [0 if self.values is None else self.values.ndim])
        # A column [N, K] without weight says something of one hypothesis, weights [N] of the whole call.
        if self.values is not None and self.shared and not processes.total((self.values > 0).any()):
            raise InputError("sample_weight is zero everywhere: give at least one row a positive weight")

    def _checked(self, values: Any) -> Any:
        """Return weights [N] or [N, K]."""
        n_rows, n_targets = self.shape
        own = array_namespace(values)
        if values.ndim == 0:
            values = own.full(n_rows, values, dtype=np.float64)
        if values.shape not in ((n_rows,), (n_rows, n_targets)):
            raise InputError(
                f"sample_weight has the shape {values.shape}: expected [N] = ({n_rows},) or "
                f"[N, K] = ({n_rows}, {n_targets})"
            )
        if values.dtype.kind not in "biuf":
            raise InputError(f"sample_weight has the dtype {values.dtype}: expected real numbers")
        # On a GPU as many values at a time as a column has.
        piece_rows = CHUNK_ROWS if own is np else max(CHUNK_ROWS, values.shape[0] ** 2 // values.size)
        for start in range(0, n_rows, piece_rows):
            piece = values[start : start + piece_rows]
            good = own.isfinite(piece) & (piece >= 0)
            if not good.all():
                place = tuple(int(axis[0]) for axis in own.nonzero(~good))
                where = f"row {start + place[0]}" + "".join(f", hypothesis {k}" for k in place[1:])
                raise InputError(
                    f"sample_weight is {float(piece[place])} at {where}: expected a finite number, at least 0"
                )
        return values

    @property
    def shared(self) -> bool:
        """Whether all hypotheses weigh the rows alike."""
        return self.values is None or self.values.ndim == 1

    def column(self, k: int) -> Any:
        """Return the weights [N] of hypothesis k, or None where all are 1."""
        if self.values is None:
            return None
        return moved(self.values if self.values.ndim == 1 else self.values[:, k], self.xp)

    def chunk(self, start: int, stop: int) -> np.ndarray:
        """Return the weights of some rows, float64 [n, K] or [n, 1] where they are shared."""
        if self.values is None:
            return np.ones((stop - start, 1))
        piece = to_host(self.values[start:stop])
        return piece.astype(np.float64).reshape(stop - start, -1)

    def rows(self, start: int, stop: int, columns: np.ndarray) -> Any:
        """Return the weights of some rows and hypotheses where they are wanted, float64 [n, columns] or [n, 1].

        None where all are 1.
        """
        if self.values is None:
            return None
        piece = self.values[start:stop, None] if self.shared else columns_of(self.values, slice(start, stop), columns)
        return moved(piece, self.xp).astype(np.float64)

    def scaled(self, k: int, dtype: np.dtype) -> Any:
        """Return the weights [N] of hypothesis k with a largest near 1, or None where all are 1."""
        weight = self.column(k)
        if weight is None:
            return None
        largest = float(self.processes.largest(float(weight.max()) if len(weight) else 0.0))
        return (weight / largest if largest > 0 else weight).astype(dtype)

    @functools.cached_property
    def groups(self) -> np.ndarray:
        """A number for the weights of each hypothesis, from 0 on, equal where they are: integers [K]."""
        n_targets = self.shape[1]
        if self.shared:
            return np.zeros(n_targets, np.int64)
        names = _column_digests(self.values).tolist()
        # Columns are equal if they are in every process. Each names for a column the first that equals it there.
        first = np.zeros((self.processes.size, n_targets))
        first[self.processes.rank] = [names.index(name) for name in names]
        (first,) = self.processes.totals([first])
        return np.unique(first, axis=1, return_inverse=True)[1].reshape(-1)

    def sums(self) -> np.ndarray:
        """Return the sum of the weights of each hypothesis, float64 [K], or [1] where they are shared."""
        if self.values is not None and array_namespace(self.values) is not np:
            total = to_host(column_sums(self.values.reshape(self.shape[0], -1)))
        else:
            chunks = range(0, self.shape[0], CHUNK_ROWS)
            total = sum(self.chunk(start, min(start + CHUNK_ROWS, self.shape[0])).sum(axis=0) for start in chunks)
        return np.asarray(self.processes.totals([np.asarray(total)])[0])


def equal_weights(weights: Weights) -> list[np.ndarray]:
    """Return the hypotheses grouped by equal weights."""
    number = weights.groups
    return [np.flatnonzero(number == group) for group in range(number.max() + 1)]


def _column_digests(values: Any) -> np.ndarray:
    """Return 64 bits for each column of weights [N, K]; of columns that differ they are equal once in 2^60 times or so.

    The sum over the rows, modulo 2^64, of the mixed bits of each weight times a random number of its row.
    """
    xp, (n_rows, n_targets) = array_namespace(values), values.shape
    digests, generator = np.zeros(n_targets, np.uint64), np.random.default_rng(0)
    # On a GPU as many values at a time as a column has.
    piece_rows = CHUNK_ROWS if xp is np else max(CHUNK_ROWS, n_rows // n_targets)
    for start in range(0, n_rows, piece_rows):
        bits = values[start : start + piece_rows].astype(np.float64).view(np.uint64)
        bits = (bits ^ bits >> 32) * xp.asarray(np.uint64(0x9E3779B97F4A7C15))
        bits ^= bits >> 32
        bits *= xp.asarray(generator.integers(2**64, size=(len(bits), 1), dtype=np.uint64))
        digests += to_host(as_tensor(bits.view(np.int64)).sum(dim=0)).view(np.uint64)
    return digests


def columns_of(array: Any, rows: slice, columns: np.ndarray) -> Any:
    """Return some rows of some columns of an array [N, K], by numbers [G] in the computer's memory."""
    return array[rows, moved(columns, array_namespace(array))]
