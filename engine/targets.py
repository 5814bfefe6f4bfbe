"""Labels of K hypotheses with their weights, checked once, and handed to the solver one hypothesis at a time."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from gatescope.engine.arrays import array_namespace, as_array, moved, to_host
from gatescope.engine.errors import InputError
from gatescope.engine.products import column_sums
from gatescope.engine.weights import CHUNK_ROWS, Weights, columns_of

ClassWeight = str | Mapping[Any, float] | None


def inverse_penalties(C: Any, n_targets: int) -> np.ndarray:
    """Return the inverse strength of the penalty of each target, float64 [K].

    Raises:
        InputError: it is neither a number above 0 nor one for each.
    """
    try:
        values = np.asarray(C, dtype=np.float64)
    except (TypeError, ValueError):
        # No numbers at all.
        values = np.full((), np.nan)
    if values.shape not in ((), (n_targets,)) or not (values > 0).all():
        raise InputError(f"C is {C}: expected a number above 0, or one for each of {n_targets} columns of Y")
    return np.broadcast_to(values, (n_targets,))


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
        signed = xp.where(moved(columns_of(self.Y, rows, columns), xp), positive, -negative)
        weight = self.weights.rows(start, stop, columns)
        return signed if weight is None else signed * weight


def _class_factors(class_weight: ClassWeight, totals: np.ndarray) -> np.ndarray:
    """Return what each class's weights are multiplied by, [2, K]."""
    if class_weight is None:
        return np.ones_like(totals)
    if isinstance(class_weight, Mapping):
        factors = np.ones_like(totals)
        for label, factor in class_weight.items():
            if not isinstance(factor, Real) or not np.isfinite(factor) or factor < 0:
                raise InputError(f"class_weight of class {label!r} is {factor}: expected a finite number, at least 0")
            factors[int(label)] = factor
        return factors
    if class_weight != "balanced":
        raise InputError(f"class_weight {class_weight!r} is unknown: expected None, 'balanced' or a dictionary")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(totals > 0, totals.sum(axis=0) / (2 * totals), 1.0)


def as_targets(Y: Any, n_rows: int) -> Any:
    """Return labels as an array with N rows.

    Raises:
        InputError: no labels, more than two dimensions, another number of rows, or NaN among them.
    """
    if Y is None:
        raise InputError("requires y to be passed, but the target y is None: give labels [N] or [N, K]")
    Y = as_array(Y)
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
        raise InputError(f"Y contains NaN or inf at {place}: give undefined ones any label and a sample weight of 0")
    return Y


def as_continuous(Y: Any) -> Any:
    """Return targets [N, K] that are real numbers.

    Raises:
        InputError: the values are not numbers, or one of them is NaN or infinite.
    """
    Y = Y.reshape(len(Y), -1)
    if Y.dtype.kind in "biuf":
        return Y
    try:
        if Y.dtype.kind in "mM":
            raise TypeError("times have no zero: convert them to numbers")
        values = Y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Unknown label type: Y has the dtype {Y.dtype}: expected real numbers ({error}); give undefined ones any "
            "label and a sample weight of 0"
        ) from error
    return as_targets(values, len(values))


def as_binary(Y: Any) -> Any:
    """Return labels [N, K] as booleans.

    Raises:
        InputError: a value is neither 0 nor 1.
    """
    if Y.dtype.kind == "O":
        # From a table whose columns have several types or missing values.
        Y = as_continuous(Y)
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
