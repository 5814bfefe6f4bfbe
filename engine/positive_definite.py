"""Cholesky's method for matrices that are positive definite only as far as rounding errors tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import scipy.linalg

# A squared pivot below this multiple of what was added to the diagonal is rounding.
NULL_PIVOT = 8.0

T = TypeVar("T")


def with_least_jitter(factorise: Callable[[float], T | None], dtype: Any) -> tuple[T, float]:
    """Return the factor of a correlation matrix, and what had to be added to its diagonal for one to exist.

    Args:
        factorise: called with what is added, returns the factor, or None where there is none.
        dtype: of the matrix.
    """
    jitter = 4 * float(np.finfo(dtype).eps)
    while (factor := factorise(jitter)) is None:
        jitter *= 30
    return factor, jitter


def solution(matrix: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """Return the solution of a system, or None where only rounding errors distinguish some unknowns.

    It is solved on the scale on which every unknown varies alike.

    Args:
        matrix: float64 [n, n], symmetric; overwritten.
        right: right-hand sides, float64 [n, k].
    """
    diagonal = matrix.diagonal()
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    matrix *= scale * scale[:, None]
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True)
    except (scipy.linalg.LinAlgError, ValueError):
        return None
    # Columns that are multiples of each other leave a pivot of rounding errors.
    if factor[0].diagonal().min() ** 2 < len(matrix) * np.finfo(np.float64).eps:
        return None
    return scipy.linalg.cho_solve(factor, right * scale[:, None]) * scale[:, None]
