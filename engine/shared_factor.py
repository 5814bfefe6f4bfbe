"""One approximate Hessian for all hypotheses that weigh the rows alike.

Until a hypothesis has a matrix of its own it shares one, of equal weights, up to the mean of h_nk (Boehning & Lindsay
1988 bound the Hessian by it).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gatescope.engine.arrays import array_namespace
from gatescope.engine.factor import Factor, factor_of
from gatescope.engine.factor_cuda import DeviceFactor
from gatescope.engine.hessian_sampler import HessianSampler

# Factors of the shared matrix are kept for ridges a factor of 4 apart: each is within a factor of 2 of the right one.
RIDGE_STEP = 4.0
KEPT_FACTORS = 3


class SharedFactor:
    """One matrix for all hypotheses that weigh the rows alike, scaled by their mean curvatures.

    Args:
        sampler: draws the rows.
        weight: of each row [N], or None for 1 each.
        n_sampled: rows to draw, about.
        penalty: the ridges of the units over their mean, float64 [H] or [1].
    """

    def __init__(self, sampler: HessianSampler, weight: Any, n_sampled: int, penalty: np.ndarray):
        rows = sampler.rows
        self.penalty = rows.xp.asarray(penalty, dtype=rows.dtype)
        curvature = rows.xp.ones(rows.shape[0], rows.dtype) if weight is None else weight
        total = rows.processes.total(curvature.sum(dtype=np.float64))
        self.matrix, self.mean = sampler.matrix(curvature, total, n_sampled)
        self._factors: dict[int | None, Factor | DeviceFactor] = {}

    def solve(self, residual: Any, curvature: np.ndarray, ridge: np.ndarray) -> Any:
        """Apply the inverse of `curvature * matrix + ridge * diag(penalty)` to each column of a residual.

        Args:
            residual: [H + 1, k], the intercept last.
            curvature, ridge: of each column, [k].
        """
        xp = array_namespace(residual)
        curvature = np.maximum(curvature, 1e-300)
        alike: dict[int | None, list[int]] = {}
        for i, step in enumerate(_ridge_steps(curvature, ridge)):
            alike.setdefault(step, []).append(i)
        # No factor of this call may make room for another: `singular` asks for all of them afterwards.
        kept = max(KEPT_FACTORS, len(alike))
        solution = xp.empty(residual.shape)
        for step, columns in alike.items():
            solution[:, columns] = self._factor(step, kept).solve(residual[:, columns]) / xp.asarray(curvature[columns])
        return solution

    def singular(self, curvature: np.ndarray, ridge: np.ndarray) -> list[bool]:
        """Return whether the factors that `solve` has just used leave units out, for each column."""
        return [self._factors[step].singular for step in _ridge_steps(np.maximum(curvature, 1e-300), ridge)]

    def _factor(self, step: int | None, kept: int) -> Factor | DeviceFactor:
        """Return the factor for a ridge, made when it is first asked for; the oldest of more than `kept` makes room."""
        factor = self._factors.pop(step, None)
        if factor is None:
            matrix = self.matrix.copy()
            if step is not None:
                matrix.reshape(-1)[:: len(matrix) + 1] += RIDGE_STEP**step * self.penalty
            factor = factor_of(matrix, self.mean, 1.0)
        self._factors[step] = factor
        while len(self._factors) > kept:
            del self._factors[next(iter(self._factors))]
        return factor


def _ridge_steps(curvature: np.ndarray, ridge: np.ndarray) -> list[int | None]:
    """Return the powers of RIDGE_STEP nearest to ridge / curvature; None where there is no ridge."""
    return [
        round(math.log(min(max(r / h, 1e-300), 1e300), RIDGE_STEP)) if r > 0 else None
        for h, r in zip(curvature.tolist(), ridge.tolist(), strict=True)
    ]
