"""The approximate inverse Hessian of each problem of a tile: a factor from a sample of rows, and the steps since.

A quasi-Newton step is `-H g`, where H comes out of the two-loop recursion (Nocedal & Wright 2006, algorithm 7.4) over
the last steps and their changes of the gradient. The matrix that it begins with is a `factor.Factor` of the
problem or, until there is one, a matrix shared by all problems of equal weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from gatescope.engine.arrays import to_host
from gatescope.engine.factor import Factor
from gatescope.engine.factor_cuda import DeviceFactor
from gatescope.engine.hessian_sampler import HessianSampler
from gatescope.engine.problems import Problems
from gatescope.engine.shared_factor import SharedFactor
from gatescope.engine.step_pairs_cuda import DevicePairs
from gatescope.engine.sweep import with_columns

# Steps remembered.
MEMORY = 20
# A sample's matrix may cost about as much as this many passes with one problem, within limits of rows for each unit.
RENEWAL_PASSES = 4
FEWEST_ROWS, MOST_ROWS = 8, 16
# The sample of a matrix that many problems begin with is larger, by one for so many of them, up to four times.
SHARING, MOST_SHARED = 8, 4


class InverseHessians:
    """Approximate inverse Hessians of W of K problems, one for each column of a tile.

    Args:
        problems: K of them.
        selected: those that will be solved, integers.
        width: W.
        at_once: Hessians at most that are made at a time, by a share of the cores each.
    """

    def __init__(self, problems: Problems, selected: np.ndarray, width: int, at_once: int):
        self.problems, self.at_once = problems, at_once
        rows, self.xp = problems.rows, problems.rows.xp
        n_rows, n_units = rows.shape
        wanted = 6 * RENEWAL_PASSES * int(rows.processes.total(n_rows)) // n_units
        self.n_sampled = min(max(wanted, FEWEST_ROWS * n_units), MOST_ROWS * n_units)
        penalised = bool((problems.ridge > 0).all())
        self.sampler = HessianSampler(
            rows, problems.shift, problems.scale, problems.sd, problems.fit_intercept, coarse=penalised
        )
        self.shared: dict[int, SharedFactor] = {}
        self.n_sharing = Counter(problems.weighting[selected].tolist())
        # Of each column the problem and its factor; pairs of a step and its change of the gradient, and the
        # reciprocals of their products.
        self.problem = np.full(width, -1)
        self.factor: list[Factor | DeviceFactor | None] = [None] * width
        self.steps, self.changes = self.xp.zeros((2, MEMORY, n_units + 1, width))
        self.reciprocals = np.zeros((MEMORY, width))
        self.n_pairs = np.zeros(width, np.int64)
        # Whether the matrix of the last direction left units out.
        self.singular = np.zeros(width, bool)

    def start(self, column: int, k: int) -> None:
        """Give a column to problem k, of which nothing is known."""
        self.problem[column], self.factor[column] = k, None
        self.reciprocals[:, column] = 0.0
        self.n_pairs[column] = 0

    def stop(self, columns: np.ndarray) -> None:
        """Leave columns to problems to come."""
        self.problem[columns] = -1

    def keep(self, columns: np.ndarray) -> None:
        """Drop all other columns."""
        self.steps, self.changes = with_columns(self.steps, columns), with_columns(self.changes, columns)
        self.reciprocals, self.n_pairs = self.reciprocals[:, columns], self.n_pairs[columns]
        self.problem, self.singular = self.problem[columns], self.singular[columns]
        self.factor = [self.factor[column] for column in columns]

    def share(self, waiting: bool) -> None:
        """Have a shared matrix for each weighting of problems without one of their own, or of all while others wait."""
        filled = [(k, factor) for k, factor in zip(self.problem.tolist(), self.factor, strict=True) if k >= 0]
        needed = [k for k, factor in filled if waiting or factor is None]
        first = {int(self.problems.weighting[k]): k for k in needed}
        kept = {number: shared for number, shared in self.shared.items() if number in first}
        for number in first.keys() - kept.keys():
            n_sampled = self.n_sampled * min(MOST_SHARED, 1 + self.n_sharing[number] // SHARING)
            weight = self.problems.row_weight(first[number])
            kept[number] = SharedFactor(self.sampler, weight, n_sampled, self._penalty(number))
        self.shared = kept

    def _penalty(self, number: int) -> np.ndarray:
        """Return the ridges of the units over their mean, which are those of all penalised problems of a weighting."""
        ridge = self.problems.ridge[:, self.problems.weighting == number].sum(axis=1)
        mean = ridge.mean()
        return ridge / mean if 0 < mean < np.inf else np.ones_like(ridge)

    def remember(self, columns: np.ndarray, step: np.ndarray, change: np.ndarray) -> None:
        """Keep steps just taken and their changes of the gradient, [H + 1, columns]; the oldest make room."""
        curved = inner(step, change)
        for column in columns[self.n_pairs[columns] == MEMORY].tolist():
            for kept in (self.steps, self.changes, self.reciprocals):
                kept[:-1, ..., column] = kept[1:, ..., column].copy()
            self.n_pairs[column] -= 1
        place = self.n_pairs[columns]
        where = self.xp.asarray(place), slice(None), self.xp.asarray(columns)
        self.steps[where], self.changes[where] = self.xp.asarray(step.T), self.xp.asarray(change.T)
        # A pair without curvature beyond rounding is left out.
        usable = curved > np.finfo(np.float64).eps * inner(change, change)
        self.reciprocals[place, columns] = np.where(usable, 1 / np.where(usable, curved, 1.0), 0.0)
        self.n_pairs[columns] += 1

    def renew(self, columns: np.ndarray, curvature: Callable[[int], Any], waiting: bool) -> None:
        """Sample a Hessian for each of these columns, and forget the steps before.

        Args:
            curvature: called with a column, returns h_n = s_n p_n (1 - p_n) where its problem now stands, [N].
            waiting: whether problems wait for a column.
        """
        renewed = set(columns.tolist())
        if not waiting and all(factor is not None or i in renewed for i, factor in enumerate(self.factor)):
            # Nobody needs a shared matrix from here on.
            self.shared = {}

        def renew(column: int, n_cores: int) -> None:
            k = self.problem[column]
            # The old one makes room.
            self.factor[column] = None
            with np.errstate(all="ignore"):
                self.factor[column] = self.sampler.factor(
                    curvature(column), self.problems.total[k], self.problems.ridge[:, k], self.n_sampled, n_cores
                )

        self.sampler.each(renew, columns.tolist(), self.at_once)
        self.n_pairs[columns] = 0
        self.reciprocals[:, columns] = 0.0

    def direction(self, columns: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return `-H g` of each column for its gradient, both [H + 1, columns], by the two-loop recursion."""
        q = -g
        n_pairs = int(self.n_pairs[columns].max(initial=0))
        if self.xp is not np:
            kept = DevicePairs(self.steps, self.changes, self.reciprocals[:n_pairs], columns)
            q = self.xp.asarray(np.ascontiguousarray(q))
            weights = kept.from_the_last(q)
            x = self._precondition(columns, q)
            kept.from_the_first(x, weights)
            return to_host(x)
        weights = np.zeros((n_pairs, len(columns)))
        pairs = [
            (self.steps[i][:, columns], self.changes[i][:, columns], self.reciprocals[i, columns])
            for i in range(n_pairs)
        ]
        for i in reversed(range(n_pairs)):
            step, change, reciprocal = pairs[i]
            weights[i] = reciprocal * inner(step, q)
            q -= weights[i] * change
        x = self._precondition(columns, q)
        for i, (step, change, reciprocal) in enumerate(pairs):
            x += step * (weights[i] - reciprocal * inner(change, x))
        return x

    def _precondition(self, columns: np.ndarray, residual: Any) -> Any:
        """Apply to each column of a residual [H + 1, columns] the inverse of its own or of a shared matrix."""
        x = self.xp.empty(residual.shape)
        sharing: dict[int, list[int]] = {}
        for i, column in enumerate(columns.tolist()):
            factor = self.factor[column]
            if factor is None:
                sharing.setdefault(int(self.problems.weighting[self.problem[column]]), []).append(i)
            else:
                x[:, i] = factor.solve(residual[:, i])
                self.singular[column] = factor.singular
        for number, places in sharing.items():
            k = self.problem[columns[places]]
            prevalence, ridge = self.problems.prevalence[k], self.problems.ridge[:, k].mean(axis=0)
            curvature = prevalence * (1 - prevalence) if self.problems.fit_intercept else np.full(len(k), 0.25)
            x[:, places] = self.shared[number].solve(residual[:, places], curvature, ridge)
            self.singular[columns[places]] = self.shared[number].singular(curvature, ridge)
        return x


def inner(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the inner product of each column, [W]."""
    return np.einsum("hk,hk->k", left, right)
