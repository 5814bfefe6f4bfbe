"""The distinct values of a unit in ascending order, and their exact mid-ranks.

The area under the ROC curve of a unit is a sum of ranks (Mann & Whitney 1947). With weights s the mid-rank of a value v
is the weight below v plus half of the weight at v, and over positions i of the positive class, of weight S1 in all,
`sum_i s_i midrank(x_i) - S1^2 / 2` is the weight of the pairs in which the positive one is higher, ties counted half.
A unit's values are put in order once. After that every hypothesis, whatever its weights, needs only the weight that
each distinct value has in either class. 16-bit floating-point numbers have only 65,536 codes, so that a table orders
them and nothing is sorted. With weights 0 and 1 all sums are of half-integers, exact in float64.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.sparse
import torch

N_CODES = 2**16
# More rows than this could not be counted in 16 bits.
COUNTABLE = N_CODES - 1


def code_values(dtype: Any) -> np.ndarray | None:
    """Return the value of every code of a 16-bit floating-point type, float64 [N_CODES]; None for other types."""
    codes = np.arange(N_CODES, dtype=np.uint16)
    if dtype == torch.bfloat16:
        # bfloat16 is the upper half of float32; signalling NaNs are values here as well.
        with np.errstate(invalid="ignore"):
            return (codes.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return codes.view(np.float16).astype(np.float64) if dtype == np.float16 else None


def as_codes(values: Any) -> Any:
    """Return 16-bit floating-point numbers as their codes, without a copy; other values as they are."""
    if isinstance(values, torch.Tensor):
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.view(np.uint16) if values.dtype == np.float16 else values


@functools.cache
def ascending_codes() -> np.ndarray:
    """Return all codes by the value they stand for: negative numbers have the upper half, the largest last."""
    return np.concatenate([np.arange(N_CODES - 1, N_CODES // 2 - 1, -1), np.arange(N_CODES // 2)])


class DistinctValues:
    """What a unit's values are, and which of them each row has.

    Args:
        column: [N], codes of 16-bit numbers or numbers of any other type.
        by_code: the values of the codes, or None where `column` holds numbers.

    Attributes:
        values: ascending, float64 [D]; empty where a value is NaN or infinite.
        places: the number of each row's value, integers [N].
        counts: how many rows have each value, int64 [D].
    """

    def __init__(self, column: np.ndarray, by_code: np.ndarray | None):
        index = np.int32 if len(column) < 2**31 else np.int64
        self.places: np.ndarray
        if by_code is None:
            order = np.argsort(column)
            ascending = column[order]
            first = np.concatenate([[True], ascending[1:] != ascending[:-1]])
            starts = np.flatnonzero(first)
            self.values = ascending[starts].astype(np.float64)
            self.counts = np.diff(starts, append=len(column))
            self.places = np.empty(len(column), index)
            self.places[order] = np.cumsum(first, dtype=index) - 1
        else:
            at_code = np.bincount(column, minlength=N_CODES)
            # Zero has two codes.
            at_code[0] += at_code[N_CODES // 2]
            at_code[N_CODES // 2] = 0
            present = ascending_codes()[at_code[ascending_codes()] > 0]
            self.values, self.counts = by_code[present], at_code[present]
            number = np.zeros(N_CODES, index)
            number[present] = np.arange(len(present), dtype=index)
            number[N_CODES // 2] = number[0]
            self.places = number.take(column)
        if not np.isfinite(self.values).all():
            self.values = self.values[:0]

    def sums(self, columns: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """Return the sums of some columns [N, G] over the rows of each value, float64 [D, G].

        Args:
            columns: uint16 columns hold 0 and 1 only: sums in 16 bits move a quarter of the memory of float64.
            groups: the number of each value's group, integers [D], to sum over the rows of each group instead.
        """
        places = self.places if groups is None else groups.astype(self.places.dtype).take(self.places)
        n_groups = len(self.values) if groups is None else int(groups.max()) + 1
        # A group may hold every row of a part.
        whole = columns.dtype != np.uint16 or (groups is None and self.counts.max() <= COUNTABLE)
        step = len(columns) if whole else COUNTABLE
        sums: np.ndarray | None = None
        for start in range(0, len(columns), step):
            part = _sums_of_rows(places[start : start + step], columns[start : start + step], n_groups)
            sums = part if sums is None else sums + part
        assert sums is not None
        return sums

    def sum_of(self, columns: np.ndarray, g: int) -> np.ndarray:
        """Return the sum of one of the columns [N, G] over the rows of each value, float64 [D]."""
        return np.bincount(self.places, columns[:, g], len(self.values))


def _sums_of_rows(places: np.ndarray, columns: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the sums of columns [n, G] over the rows of each group, float64 [n_groups, G]."""
    ones, ends = np.ones(len(places), columns.dtype), np.arange(len(places) + 1, dtype=places.dtype)
    one_hot = scipy.sparse.csc_array((ones, places, ends), shape=(n_groups, len(places)))
    return np.asarray((one_hot @ columns).astype(np.float64, copy=False))


def mid_ranks(mass: np.ndarray) -> np.ndarray:
    """Return the weight below each value plus half of the weight at it.

    Args:
        mass: the weight at each of the ascending values, float64 [D, M].

    Returns:
        float64 [D, M].
    """
    return np.cumsum(mass, axis=0) - 0.5 * mass
