"""Penalised logistic problems that share their states, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatescope.engine.row_blocks import RowBlocks


@dataclass(frozen=True, kw_only=True)
class Problems:
    """What is to be minimised: K problems on the states X / scale.

    Args:
        rows: X [N, H].
        shift: [H] subtracted from the rows, in their precision, or None.
        scale: [H].
        mean, sd: of each unit of X over all rows, less the shift, float64 [H]; sd is 0 for a constant.
        origin: the shift where gradients are to be those of X itself, in which a coefficient's has that much of the
            intercept's, float64 [H]; or None.
        signed_weights: called with k, returns s_n (2 y_n - 1) [N] in the precision of the rows.
        row_weight: called with k, returns s_n [N] without class weights, or None for 1 each.
        weighting: integers [K], equal for problems of equal `row_weight`.
        ridge: 1 / (C S_k) for each coefficient, float64 [H, K]; [1, K] where it is the same for all of a problem.
        total: S_k, float64 [K].
        prevalence: the weighted share of positives, float64 [K].
        start: coefficients to begin with, the intercept last, float64 [H + 1, K]; without them, or where they are NaN
            or worse than that, a problem begins at its prevalence.
        fit_intercept: whether b is fitted.
    """

    rows: RowBlocks
    shift: Any
    scale: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    origin: np.ndarray | None
    signed_weights: Callable[[int], Any]
    row_weight: Callable[[int], Any]
    weighting: np.ndarray
    ridge: np.ndarray
    total: np.ndarray
    prevalence: np.ndarray
    start: np.ndarray | None
    fit_intercept: bool


class Solution:
    """The minima of K problems on H units: arrays over K, coefficients [H, K]; NaN where a problem was not solved.

    Attributes:
        status: "converged", "max_iter", "stalled" (no step lowers the loss beyond rounding), "separable", "not_finite".
        singular: whether units were left out at the end that others determine, as far as the precision tells, [K].
        drift: about how far logits may be from those of the coefficients, from rounding in all steps, [K].
    """

    def __init__(self, n_units: int, n_problems: int):
        self.coefficients = np.full((n_units, n_problems), np.nan)
        self.intercepts = np.full(n_problems, np.nan)
        self.gradient = np.full(n_problems, np.nan)
        self.half_decrement = np.full(n_problems, np.nan)
        self.objective = np.full(n_problems, np.nan)
        self.drift = np.full(n_problems, np.nan)
        self.singular = np.zeros(n_problems, bool)
        self.status = np.full(n_problems, "max_iter", "<U16")
        self.n_iterations = np.zeros(n_problems, np.int64)
        self.n_passes = np.zeros(n_problems, np.int64)

    def update(self, finer: Solution, selected: np.ndarray) -> None:
        """Replace the results of some problems by those of a solution that began here."""
        for name in ("coefficients", "intercepts", "gradient", "half_decrement", "objective", "drift", "status"):
            getattr(self, name)[..., selected] = getattr(finer, name)[..., selected]
        self.n_iterations += finer.n_iterations
        self.n_passes += finer.n_passes
