"""Labels and weights of K hypotheses, checked once, and handed to the solver one hypothesis at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import array_namespace, moved, to_host
from gatescope.engine.errors import InputError
from gatescope.engine.log_loss import column_sums
from gatescope.engine.shards import ALONE, Processes

# Rows converted to float64 at a time while weights are summed in the computer's memory.
CHUNK_ROWS = 8192

ClassWeight = str | Mapping[Any, float] | None


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
            self.values: Any = None if sample_weight is None else self._checked(_as_array(sample_weight))
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
        piece = self.values[start:stop, None] if self.shared else _columns(self.values, slice(start, stop), columns)
        return moved(piece, self.xp).astype(np.float64)

    def scaled(self, k: int, dtype: np.dtype) -> Any:
        """Return the weights [N] of hypothesis k with a largest near 1, or None where all are 1."""
        weight = self.column(k)
        if weight is None:
            return None
        largest = float(self.processes.largest(float(weight.max()) if len(weight) else 0.0))
        return (weight / largest if largest > 0 else weight).astype(dtype)

    def groups(self) -> np.ndarray:
        """Return a number for the weights of each hypothesis, from 0 on, equal where they are: integers [K]."""
        n_targets = self.shape[1]
        if self.shared:
            return np.zeros(n_targets, np.int64)
        digests = [hashlib.blake2b(digest_size=16) for _ in range(n_targets)]
        for start in range(0, self.shape[0], CHUNK_ROWS):
            for digest, column in zip(digests, to_host(self.values[start : start + CHUNK_ROWS]).T, strict=True):
                digest.update(column.tobytes())
        names = [digest.digest() for digest in digests]
        # Two columns are equal where they are in every process: each tells the first column that its own is equal to.
        first = np.zeros((self.processes.size, n_targets))
        first[self.processes.rank] = [names.index(name) for name in names]
        (first,) = self.processes.totals([first])
        return np.unique(first, axis=1, return_inverse=True)[1].reshape(-1)

    def sums(self) -> np.ndarray:
        """Return the sum of the weights of each hypothesis, float64 [K], or [1] where they are shared."""
        chunks = range(0, self.shape[0], CHUNK_ROWS)
        total = sum(self.chunk(start, min(start + CHUNK_ROWS, self.shape[0])).sum(axis=0) for start in chunks)
        return np.asarray(self.processes.totals([np.asarray(total)])[0])


def equal_weights(weights: Weights, n_targets: int) -> list[np.ndarray]:
    """Return the hypotheses grouped by equal weights."""
    number = weights.groups()
    return [np.flatnonzero(number == group) for group in range(number.max() + 1)]


class BinaryTargets:
    """Labels of K hypotheses with their weights, class weights included.

    Args:
        Y: [N, K], bool.
        weights: of the rows.
        class_weight: None, "balanced" (total weight / (2 x weight of the class), over the rows of positive weight, as
            scikit-learn counts), or {False: ..., True: ...}.

    Attributes:
        class_totals: the sum of the weights of each class, class weights included, float64 [2, K].
        unit: a power of two near the mean weight of a row, [K]: in it no weight leaves the range of single precision.
    """

    def __init__(self, Y: Any, weights: Weights, class_weight: ClassWeight):
        self.Y, self.weights = Y, weights
        (totals,) = weights.processes.totals([self._class_sums()])
        self.factors = _class_factors(class_weight, totals)
        self.class_totals = totals * self.factors
        mean = self.class_totals.sum(axis=0) / weights.processes.total(len(Y))
        self.unit = np.ldexp(1.0, np.clip(np.frexp(mean)[1] - 1, -1000, 1000))
        self.unit[~((mean > 0) & np.isfinite(mean))] = 1.0

    def _class_sums(self) -> np.ndarray:
        """Return the sum of the weights of each class in this process, float64 [2, K].

        Each is summed by itself: a difference would leave rounding errors of a class without weight.
        """
        n_rows, n_targets = self.Y.shape
        xp = array_namespace(self.Y)
        if xp is not np and self.weights.xp is xp:
            sums = xp.zeros((2, n_targets))
            # As many values at a time as a column has.
            piece_rows, every = max(CHUNK_ROWS, n_rows // n_targets), np.arange(n_targets)
            for start in range(0, n_rows, piece_rows):
                labels = self.Y[start : start + piece_rows]
                weight = self.weights.rows(start, start + piece_rows, every)
                weight = xp.ones((len(labels), 1)) if weight is None else weight
                sums[0] += column_sums(~labels * weight)
                sums[1] += column_sums(labels * weight)
            return to_host(sums)
        totals = np.zeros((2, n_targets))
        for start in range(0, n_rows, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, n_rows)
            labels = to_host(self.Y[start:stop])
            weight = np.broadcast_to(self.weights.chunk(start, stop), labels.shape)
            for total, chosen in zip(totals, (~labels, labels), strict=True):
                total += np.einsum("nk,nk->k", chosen.astype(np.float64), weight)
        return totals

    def signed(self, k: int, dtype: np.dtype, unit: float = 1.0) -> Any:
        """Return s_n (2 y_n - 1) / unit of hypothesis k: [N], the sign is the label and the size the weight."""
        xp = self.weights.xp
        negative, positive = self.factors[:, k] / unit
        values = xp.where(moved(self.Y[:, k], xp), positive, -negative)
        weight = self.weights.column(k)
        if weight is not None:
            values *= weight
        return values.astype(dtype, copy=False)

    def signed_rows(self, start: int, stop: int, columns: np.ndarray) -> Any:
        """Return s_n (2 y_n - 1) / unit of some rows and hypotheses, float64 [n, columns]."""
        xp, rows = self.weights.xp, slice(start, stop)
        negative, positive = (xp.asarray(factor) for factor in self.factors[:, columns] / self.unit[columns])
        signed = xp.where(moved(_columns(self.Y, rows, columns), xp), positive, -negative)
        weight = self.weights.rows(start, stop, columns)
        return signed if weight is None else signed * weight


def _columns(array: Any, rows: slice, columns: np.ndarray) -> Any:
    """Return some rows of some columns of an array [N, K], by numbers [G] in the computer's memory."""
    return array[rows, moved(columns, array_namespace(array))]


def _class_factors(class_weight: ClassWeight, totals: np.ndarray) -> np.ndarray:
    """Return what each class's weights are multiplied by, [2, K]."""
    if class_weight is None:
        return np.ones_like(totals)
    if isinstance(class_weight, Mapping):
        factors = np.ones_like(totals)
        for label, factor in class_weight.items():
            if not np.isfinite(factor) or factor < 0:
                raise InputError(f"class_weight of class {label!r} is {factor}: expected a finite number, at least 0")
            factors[int(label)] = factor
        return factors
    if class_weight != "balanced":
        raise InputError(f"class_weight {class_weight!r} is unknown: expected None, 'balanced' or a dictionary")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(totals > 0, totals.sum(axis=0) / (2 * totals), 1.0)


def _as_array(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        # The others have no bfloat16; every one of its values is one of float32.
        values = values.detach().float() if values.dtype == torch.bfloat16 else values.detach()
        xp = array_namespace(values)
        return values.numpy() if xp is np else xp.from_dlpack(values)
    return values if array_namespace(values) is not np else np.asarray(values)


def as_targets(Y: Any, n_rows: int) -> Any:
    """Return labels as an array with N rows.

    Raises:
        InputError: no labels, more than two dimensions, another number of rows, or NaN among them.
    """
    if Y is None:
        raise InputError("requires y to be passed, but the target y is None: give labels [N] or [N, K]")
    Y = _as_array(Y)
    if Y.ndim not in (1, 2):
        raise InputError(f"Y has the shape {Y.shape}: expected labels [N] or [N, K]")
    if len(Y) != n_rows:
        raise InputError(f"X has {n_rows} rows and Y {len(Y)}: inconsistent numbers of samples")
    if Y.ndim == 2 and Y.shape[1] == 0:
        raise InputError(f"Y has the shape {Y.shape}: expected at least one hypothesis")
    if Y.dtype.kind == "c":
        raise InputError("Y has complex values. Complex data not supported: give labels or real numbers")
    xp = array_namespace(Y)
    if Y.dtype.kind == "f" and not xp.isfinite(Y).all():
        place = tuple(int(axis[0]) for axis in xp.nonzero(~xp.isfinite(Y)))
        raise InputError(f"Y contains NaN or inf at {place}: give undefined positions the sample weight 0 instead")
    return Y


def as_continuous(Y: Any) -> Any:
    """Return targets [N, K] that are real numbers.

    Raises:
        InputError: the values are not numbers.
    """
    Y = Y.reshape(len(Y), -1)
    if Y.dtype.kind in "biuf":
        return Y
    try:
        return Y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"Unknown label type: Y has the dtype {Y.dtype}: expected real numbers ({error})") from error


def as_binary(Y: Any) -> Any:
    """Return labels [N, K] as booleans.

    Raises:
        InputError: a value is neither 0 nor 1.
    """
    if Y.dtype.kind == "b":
        return Y
    xp = array_namespace(Y)
    if Y.dtype.kind not in "iuf":
        raise InputError(f"Y has the dtype {Y.dtype}: expected booleans or 0 and 1 in [N, K]")
    positive = Y == 1
    other = ~(positive | (Y == 0))
    if other.any():
        row, k = (int(axis[0]) for axis in xp.nonzero(other))
        raise InputError(f"Y is {float(Y[row, k]):g} at row {row}, hypothesis {k}: expected 0 or 1")
    return positive
