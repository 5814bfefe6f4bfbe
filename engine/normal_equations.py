"""Penalised least squares from a Gram matrix, as exactly as float64 sums of products tell.

Sums are those of centred units and targets, so that nothing cancels in units far from zero; what the means add to the
matrix without an intercept is of rank one. Most problems are solved by Cholesky's method on the scale on which every
unit varies alike. Where that ends in rounding errors, as with two equal units and no penalty, eigenvectors tell which
directions have a coefficient at all. Each penalty is solved by itself: what others are asked for changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import array_namespace, moved, to_host
from gatescope.engine.gram import Moments
from gatescope.engine.positive_definite import solution
from gatescope.engine.row_blocks import RowBlocks


class NormalEquations:
    """The least-squares problems of the targets of one group, which share their weights.

    Args:
        rows: X [N, H].
        Y: [N, K].
        weight: [N] or None.
        group: the targets, integers [G].
        fit_intercept: whether means are taken out for good; they are for the sums in any case, which are then exact.
    """

    def __init__(self, rows: RowBlocks, Y: Any, weight: Any, group: np.ndarray, fit_intercept: bool):
        xp = rows.xp
        moments = Moments(rows, weight, covariance=True)
        self.total = moments.total
        if self.total == 0:
            return
        columns = moved(group, array_namespace(Y)) if len(group) < Y.shape[1] else slice(None)

        def block_targets(start: int, stop: int) -> tuple[Any, Any]:
            targets = moved(Y[start:stop, columns], xp).astype(np.float64)
            return targets, xp.ones(stop - start) if weight is None else weight[start:stop].astype(np.float64)

        def sum_targets(_: Any, start: int, stop: int) -> tuple[Any, ...]:
            targets, share = block_targets(start, stop)
            return (share @ targets,)

        self.target_mean = to_host(rows.totals(sum_targets)[0]) / self.total
        center = xp.asarray(self.target_mean)

        def cross(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            targets, share = block_targets(start, stop)
            targets = targets - center
            weighted = targets * share[:, None]
            return block.T @ weighted, (targets * weighted).sum(axis=0)

        products, squares = (to_host(value) for value in rows.totals(cross, shift=xp.asarray(moments.mean)))
        self.mean, self.sd, self.fit_intercept = moments.mean, moments.sd, fit_intercept
        self.gram, self.cross, self.squares = moments.covariance, products / self.total, squares / self.total
        self.finite = bool(np.isfinite(self.gram).all() and np.isfinite(self.cross).all())

    def solutions(self, C: np.ndarray) -> np.ndarray:
        """Return the coefficients [H, G] for the penalties of the targets [G]; NaN where one is infinite."""
        w = np.empty_like(self.cross)
        for value in np.unique(C).tolist():
            with np.errstate(over="ignore", divide="ignore"):
                chosen, ridge = value == C, float(1 / np.float64(value * self.total))
            if np.isinf(ridge):
                w[:, chosen] = np.nan
                continue
            right = np.column_stack([self.cross[:, chosen], self.mean])
            # A constant unit leaves only rounding errors in the matrix, which must not be scaled up.
            solvable = ridge > 0 or self.sd.all()
            solved = solution(self.gram + ridge * np.eye(len(self.gram)), right) if solvable else None
            if solved is None:
                w[:, chosen] = self._smallest(chosen, ridge)
                continue
            w[:, chosen], pull = solved[:, :-1], solved[:, -1]
            if not self.fit_intercept:
                # Means are a part of rank one of the matrix, and may be all that would be left of it (Sherman &
                # Morrison 1950).
                rest = (self.target_mean[chosen] - self.mean @ w[:, chosen]) / (1 + self.mean @ pull)
                w[:, chosen] += np.outer(pull, rest)
        return w

    def _smallest(self, chosen: np.ndarray, ridge: float) -> np.ndarray:
        """Return the coefficients of some targets, and 0 in directions in which X varies by rounding errors at most."""
        diagonal = self.gram.diagonal() + ridge
        # Every unit is as long as any other; one that does not vary may do what an intercept would.
        size = np.where((self.sd > 0) | (ridge > 0), np.sqrt(diagonal), np.abs(self.mean))
        scale = 1 / np.where(size > 0, size, 1.0)
        matrix = (self.gram + ridge * np.eye(len(scale))) * scale * scale[:, None]
        eigenvalues, vectors = np.linalg.eigh(matrix)
        usable = eigenvalues > eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps
        inverse = np.where(usable, 1 / np.where(usable, eigenvalues, 1.0), 0.0)[:, None]
        w = inverse * (vectors.T @ (self.cross[:, chosen] * scale[:, None]))
        if not self.fit_intercept:
            mean = vectors.T @ (self.mean * scale)
            missing = self.target_mean[chosen] - mean @ w
            # A direction in which X is constant but not 0 does what an intercept would.
            constant = np.where(usable, 0.0, mean)
            if np.linalg.norm(constant) > len(mean) * np.finfo(np.float64).eps * np.linalg.norm(mean):
                w += np.outer(constant, missing) / (constant @ constant)
            else:
                pull = inverse[:, 0] * mean
                w += np.outer(pull, missing / (1 + mean @ pull))
        return (vectors @ w) * scale[:, None]

    def intercepts(self, w: np.ndarray) -> np.ndarray:
        """Return the intercepts [G] that go with coefficients [H, G]."""
        missing = self.target_mean - self.mean @ w
        return missing if self.fit_intercept else np.zeros_like(missing)

    def gradient(self, w: np.ndarray, C: np.ndarray) -> np.ndarray:
        """Return the gradient [H, G] of the mean loss at coefficients [H, G] and their intercepts."""
        return self.gram @ w - self.cross + w / (C * self.total) - np.outer(self.mean, self._mean_residual(w))

    def objective(self, w: np.ndarray, C: np.ndarray) -> np.ndarray:
        """Return the sum that is minimised [G], at coefficients [H, G] and their intercepts."""
        loss = self.squares - 2 * (w * self.cross).sum(axis=0) + (w * (self.gram @ w)).sum(axis=0)
        # The sum of squares of a perfect fit is 0 up to rounding.
        loss = loss.clip(min=0) + self._mean_residual(w) ** 2
        return 0.5 * (self.total * loss + (w * w).sum(axis=0) / C)

    def _mean_residual(self, w: np.ndarray) -> np.ndarray:
        return self.target_mean - self.mean @ w - self.intercepts(w)
