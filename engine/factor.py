"""Cholesky factors of approximate Hessians, packed, that leave out units which others determine."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from gatescope.engine.arrays import array_namespace
from gatescope.engine.factor_cuda import DeviceFactor
from gatescope.engine.positive_definite import NULL_PIVOT, with_least_jitter


class Factor:
    """Cholesky factor of one approximate Hessian.

    Args:
        matrix: [H, H], symmetric, positive definite up to rounding; its upper triangle is read and overwritten.
        mean: [H], around which the intercept is uncoupled, or None without an intercept.
        curvature: the mean of h_n.

    Attributes:
        singular: whether units are left out that others determine, as far as the precision tells.
    """

    def __init__(self, matrix: np.ndarray, mean: np.ndarray | None, curvature: float):
        self.mean, self.curvature = mean, curvature
        if not np.isfinite(matrix).all():
            matrix = np.eye(len(matrix), dtype=matrix.dtype)
        diagonal = matrix.diagonal()
        self.scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        matrix *= self.scale
        matrix *= self.scale[:, None]
        self.triangle, jitter = cholesky(matrix)
        # A unit that the units before it determine keeps its coefficient: what is left of its pivot is rounding, and
        # the inverse of that would send coefficients far apart.
        places = np.cumsum(np.arange(len(matrix), 0, -1)) - np.arange(len(matrix), 0, -1)
        pivots = self.triangle[places]
        kept = pivots**2 > NULL_PIVOT * jitter
        self.triangle[places] = np.where(kept, pivots, np.inf)
        self.singular = not kept.all()
        (self._solve,) = scipy.linalg.blas.get_blas_funcs(("tpsv",), (self.triangle,))

    def solve(self, residual: np.ndarray) -> np.ndarray:
        """Apply the inverse to a vector [H + 1], the intercept last, or to each column of a matrix [H + 1, k]."""
        if residual.ndim == 2:
            return np.stack([self.solve(column) for column in residual.T], axis=1)
        right = residual[:-1] if self.mean is None else residual[:-1] - residual[-1] * self.mean
        right = (right * self.scale).astype(self.triangle.dtype)
        n_units = len(right)
        half = self._solve(n_units, self.triangle, right, lower=1, overwrite_x=1)
        solution = np.zeros_like(residual)
        solution[:-1] = self._solve(n_units, self.triangle, half, lower=1, trans=1, overwrite_x=1) * self.scale
        if self.mean is not None:
            solution[-1] = residual[-1] / self.curvature - self.mean @ solution[:-1]
        return solution


def factor_of(matrix: Any, mean: np.ndarray | None, curvature: float) -> Factor | DeviceFactor:
    """Return the factor of a matrix where it lies."""
    return (Factor if array_namespace(matrix) is np else DeviceFactor)(matrix, mean, curvature)


def cholesky(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the lower factor of a correlation matrix from its upper triangle, and what was added to the diagonal.

    That is just enough for it to exist. The factor is packed column by column without the zeros [H (H + 1) / 2], half
    of the memory of a square; it is made in LAPACK's rectangular form, which packs as well and is as fast as a square.
    """
    n_units, diagonal = len(matrix), np.diag_indices(len(matrix))
    fold, factorise, pack = scipy.linalg.lapack.get_lapack_funcs(("trttf", "pftrf", "tfttp"), (matrix,))

    def packed(jitter: float) -> np.ndarray | None:
        matrix[diagonal] = 1 + jitter
        # The transpose of a symmetric matrix is the same matrix in the order that LAPACK wants.
        folded, _ = fold(matrix.T, uplo="L")
        folded, failed = factorise(n_units, folded, uplo="L", overwrite_a=1)
        return None if failed else pack(n_units, folded, uplo="L")[0]

    return with_least_jitter(packed, matrix.dtype)
