"""One fit of K logistic probes: in which coordinates and precision it is made, and what is made once more.

States of up to 32 bits are fitted in single precision first. What that leaves in doubt goes on in double precision from
there: fits whose gradient was not exact enough, fits that stalled, and without a penalty fits of units that single
precision takes for the sum of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.engine.arrays import computing_dtype
from gatescope.engine.gram import Moments, weighted_sd
from gatescope.engine.memory_limit import bytes_of
from gatescope.engine.objective import recompute
from gatescope.engine.predictions import cancels
from gatescope.engine.problems import Problems, Solution
from gatescope.engine.quasi_newton import QuasiNewton
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.separation import separated
from gatescope.engine.targets import BinaryTargets
from gatescope.engine.tile_width import tile_width
from gatescope.engine.weights import Weights

# Gradients of float32 sums are good to about 1e-8 of the mean loss; a finer tolerance is reached in float64 from there.
FLOAT32_NOISE = 1e-8
FINEST_FLOAT32_TOL = 1e-7
# A plane of a fit in which logits may be off by more than this is looked for once more.
LARGEST_DRIFT = 1e-3
# Columns whose mean is this many standard deviations from zero are shifted before they are multiplied.
SHIFT_RATIO = 100.0


@dataclass(frozen=True)
class Coordinates:
    """Where a fit is made: on (X - origin) / scale, float64 [H] each.

    Args:
        mean, sd: of each unit of X over all rows.
        origin: 0 where no unit is far from it.
        scale: 1 where units are not standardised.
    """

    mean: np.ndarray
    sd: np.ndarray
    origin: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class LogisticFit:
    """The settings of a fit, as `LogisticProbes` has them, C for each hypothesis [K]."""

    C: np.ndarray
    tol: float
    max_iter: int
    fit_intercept: bool
    standardize: bool
    memory_limit: str | int | None

    def minimise(
        self, X: Any, targets: BinaryTargets, selected: np.ndarray, start: tuple[np.ndarray, np.ndarray] | None
    ) -> tuple[Solution, bool]:
        """Fit hypotheses.

        Args:
            X: states [N, H].
            targets: labels and weights.
            selected: the hypotheses to fit, bool [K]; each has two classes.
            start: coefficients [H, K] and intercepts [K] to begin with, or None.

        Returns:
            The solution on the scale of X, and whether sums of single precision cancel in its predictions.
        """
        native = computing_dtype(X)
        solution, cancelling = self._solve(X, native, targets, selected, start)
        refined = self._in_doubt(solution, native) & selected
        if refined.any():
            # Once more from where a fit ended, with logits anew.
            end = (solution.coefficients, solution.intercepts)
            finer, cancelling_too = self._solve(X, np.float64, targets, refined, end)
            solution.update(finer, refined)
            cancelling |= cancelling_too
        solution.status[(solution.status == "converged") & (solution.gradient > self.tol)] = "max_iter"
        unbounded = np.flatnonzero(selected & np.isinf(self.C) & (solution.status == "converged"))
        if len(unbounded):
            with RowBlocks(X, np.float64, bytes_of(self.memory_limit), targets.weights.processes) as rows:
                split = separated(rows, targets, solution, unbounded, self.fit_intercept)
            solution.status[unbounded[split]] = "separable"
        return solution, cancelling

    def _in_doubt(self, solution: Solution, dtype: type) -> np.ndarray:
        """Return which fits were not exact enough, bool [K]."""
        converged = solution.status == "converged"
        doubtful = converged & (solution.gradient > self.tol)
        doubtful |= np.isin(solution.status, ["stalled", "separable"]) & (solution.drift > LARGEST_DRIFT)
        if dtype == np.float32:
            doubtful |= np.isin(solution.status, ["stalled", "not_finite"])
            # What single precision takes for the sum of other units may differ from it by what decides the labels.
            singular = solution.singular & np.isinf(self.C)
            doubtful |= converged & (singular | (self.tol < FINEST_FLOAT32_TOL))
        return doubtful

    def _solve(
        self,
        X: Any,
        dtype: type,
        targets: BinaryTargets,
        selected: np.ndarray,
        start: tuple[np.ndarray, np.ndarray] | None,
    ) -> tuple[Solution, bool]:
        """Minimise in coordinates of its own; returns are those of `minimise`.

        Args:
            dtype: the precision to compute in.
            selected: the hypotheses to fit, bool [K].
            start: coefficients [H, K] and intercepts [K] to begin with, on the scale of X.
        """
        tol = max(self.tol, FINEST_FLOAT32_TOL) if dtype == np.float32 else self.tol
        with RowBlocks(X, dtype, bytes_of(self.memory_limit), targets.weights.processes) as rows:
            at = self._coordinates(rows)
            problems = self._problems(rows, targets, at, tol, start)
            tile, at_once = tile_width(rows, len(self.C), np.dtype(computing_dtype(X)).itemsize)
            solution = QuasiNewton(problems, tol, self.max_iter, tile, at_once).solve(np.flatnonzero(selected))
        solution.objective *= targets.unit
        solution.coefficients /= at.scale[:, None]
        solution.intercepts -= at.origin @ solution.coefficients
        cancelling = cancels(solution.coefficients.T, solution.intercepts, at.mean, at.sd)
        # A gradient is off by a unit times a fourth of what the logits are off by, at most.
        size = (np.hypot(at.sd, at.mean - at.origin) / at.scale).max()
        inexact = ~(solution.drift * max(size, 1.0) <= tol) | (dtype == np.float32 and self.tol >= FINEST_FLOAT32_TOL)
        inexact &= np.isfinite(solution.objective)
        if inexact.any():
            with RowBlocks(X, np.float64, bytes_of(self.memory_limit), targets.weights.processes) as rows:
                around = at.origin if self.standardize else np.zeros_like(at.origin)
                recompute(rows, targets, solution, inexact, problems.ridge, around, at.scale, self.fit_intercept)
        return solution, cancelling

    def _coordinates(self, rows: RowBlocks) -> Coordinates:
        # Of all rows, whatever their weights: coordinates must not depend on the other hypotheses.
        moments = Moments(rows)
        mean, sd = moments.mean, moments.sd
        far = self.fit_intercept and bool((np.abs(mean) > SHIFT_RATIO * sd).any())
        origin = mean.astype(rows.dtype).astype(np.float64) if far else np.zeros_like(mean)
        scale = np.where(sd > 0, sd, 1.0) if self.standardize else np.ones_like(sd)
        return Coordinates(mean, sd, origin, scale)

    def _problems(
        self,
        rows: RowBlocks,
        targets: BinaryTargets,
        at: Coordinates,
        tol: float,
        start: tuple[np.ndarray, np.ndarray] | None,
    ) -> Problems:
        """Return what is to be minimised in some coordinates; arguments are those of `_solve`."""
        weights, totals = targets.weights, targets.class_totals.sum(axis=0)
        with np.errstate(all="ignore"):
            ridge, prevalence = 1 / (self.C * totals)[None], targets.class_totals[1] / totals
        if self.standardize and weights.values is not None:
            ridge = ridge * (penalty_scale(rows, weights) / at.scale[:, None]) ** 2
        # On the scale of X the noise of the intercept's gradient counts as often as columns are far from zero.
        noise = FLOAT32_NOISE * np.abs(at.origin).max() if rows.dtype == np.float32 else 0.0
        shifted, point = bool(at.origin.any()), None
        if start is not None:
            w, b = start
            point = np.vstack([w * at.scale[:, None], b + at.origin @ w])
        return Problems(
            rows=rows,
            shift=rows.xp.asarray(at.origin, dtype=rows.dtype) if shifted else None,
            scale=at.scale,
            mean=at.mean - at.origin,
            sd=at.sd,
            origin=at.origin if shifted and not self.standardize and noise < tol / 2 else None,
            signed_weights=lambda k: targets.signed(k, rows.dtype, targets.unit[k]),
            row_weight=lambda k: weights.scaled(k, rows.dtype),
            weighting=weights.groups,
            ridge=ridge,
            total=totals / targets.unit,
            # Of two classes that both have weight, however little the one has beside the other.
            prevalence=np.clip(prevalence, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg),
            start=point,
            fit_intercept=self.fit_intercept,
        )


def penalty_scale(rows: RowBlocks, weights: Weights) -> np.ndarray:
    """Return the standard deviation of each unit by the weights of each hypothesis, 1 for a constant, [H, K]."""
    _, first = np.unique(weights.groups, return_index=True)
    sd = weighted_sd(rows, weights, first)
    return np.where(sd > 0, sd, 1.0)[weights.groups].T
