"""Does a plane separate the labels? Without a penalty a logistic regression has a minimum only if none does.

The loss has no minimum where a direction (w, b) has `(2 y_n - 1)(w . x_n + b) >= 0` at every row of positive weight and
more than 0 at one of them (Albert & Anderson 1984: complete and quasi-complete separation): it falls along it for ever.
How large logits are tells nothing of that, since units are unbounded. But along such a direction no row is torn, and a
fit that has met its tolerance has put those that move on their right side. The rows that it leaves on the wrong side
are then on the plane, and mostly they alone leave no direction at all. Where they do, a linear programme looks among
those few.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from scipy.optimize import linprog

from gatescope.engine.arrays import to_host
from gatescope.engine.gram import Moments
from gatescope.engine.problems import Solution
from gatescope.engine.products import states_times
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.targets import BinaryTargets

# Hypotheses whose rows are told apart in one pass: a byte for each of their rows is less than a fit has had.
TILE = 16
# Rows on the wrong side that are looked at first, and rows that are added at a time, for each unit.
ROWS_PER_UNIT = 2
# A direction is free where it moves rows of length 1 by this share of the largest at most.
SMALLEST = 1e-10
# Logits along a direction that count as 0, and as more than 0, in standard deviations of the units. Linear programmes
# are solved to 1e-7.
ZERO, POSITIVE = 1e-6, 1e-3
# A row on the wrong side. One on the right side is -1 or 1, its label, and one without weight 0.
WRONG = 2


def separated(
    rows: RowBlocks, targets: BinaryTargets, solution: Solution, columns: np.ndarray, fit_intercept: bool
) -> np.ndarray:
    """Return which of some hypotheses a plane separates, bool [G]; a few passes over X for each.

    Args:
        rows: X [N, H] in float64.
        targets: labels and weights.
        solution: minima without a penalty, on the scale of X.
        columns: the hypotheses, integers [G].
        fit_intercept: whether the plane may miss the origin.
    """
    moments = Moments(rows)
    center = moments.mean if fit_intercept else np.zeros_like(moments.mean)
    spread = np.sqrt(moments.sd**2 + (moments.mean - center) ** 2)
    planes = _Planes(rows, center, spread, fit_intercept)
    found = []
    for some in np.split(columns, range(TILE, len(columns), TILE)):
        sides = _sides(rows, targets, solution, some)
        found += [planes.separate(sides[:, g]) for g in range(len(some))]
    return np.array(found)


def _sides(rows: RowBlocks, targets: BinaryTargets, solution: Solution, columns: np.ndarray) -> Any:
    """Return what each row is to some hypotheses, int8 [N, G]."""
    xp = rows.xp
    w, b = (xp.asarray(each[..., columns]) for each in (solution.coefficients, solution.intercepts))
    sides = xp.empty((rows.shape[0], len(columns)), np.int8)

    def note_sides(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        logits = states_times(block, w)
        logits += b
        signed = targets.signed_rows(start, stop, columns)
        wrong = (logits * signed <= 0) & (signed != 0)
        sides[start:stop] = xp.where(wrong, WRONG, 1 * (signed > 0) - 1 * (signed < 0))
        return (wrong.sum(),)

    rows.totals(note_sides)
    return sides


class _Planes:
    """Directions in the coordinates (x - center) / spread, the intercept last.

    Args:
        rows: X [N, H] in float64.
        center: [H].
        spread: [H]; a unit with 0 has no part.
        fit_intercept: whether there is an intercept.
    """

    def __init__(self, rows: RowBlocks, center: np.ndarray, spread: np.ndarray, fit_intercept: bool):
        self.rows, self.center, self.fit_intercept = rows, rows.xp.asarray(center), fit_intercept
        self.varying = np.flatnonzero(spread > 0)
        self.spread = spread[self.varying]

    def separate(self, sides: Any) -> bool:
        """Whether a direction moves no row of one hypothesis that is on the wrong side, and others towards their label.

        Args:
            sides: of the rows, int8 [N].
        """
        sides = to_host(sides)
        right, wrong = np.abs(sides) == 1, np.flatnonzero(sides == WRONG)
        n_points = ROWS_PER_UNIT * (len(self.varying) + 1)
        still = self._points(wrong[np.linspace(0, len(wrong) - 1, min(n_points, len(wrong))).astype(int)])
        directions = _free(still)
        if not directions.shape[1]:
            return False
        known = np.zeros(len(sides), bool)
        total, bounded = self._sum(np.where(right, sides, 0)), np.zeros((0, len(directions)))
        while directions.shape[1]:
            # The farthest that all rows on the right side can go together, as far as the bounded ones allow.
            step = linprog(-total @ directions, -bounded @ directions, np.zeros(len(bounded)), bounds=(-1, 1))
            # Where the programme fails nothing was found, and the others go on.
            if step.fun is None or -step.fun <= POSITIVE:
                return False
            moved = self._along(directions @ step.x)
            excess = np.where(right, -sides * moved, np.where(sides == WRONG, np.abs(moved), 0.0))
            excess[known] = 0.0
            worst = np.argsort(excess)[-n_points:]
            worst = np.sort(worst[excess[worst] > ZERO])
            if not self.rows.processes.total(len(worst)):
                return True
            known[worst] = True
            still = np.vstack([still, self._points(worst[~right[worst]])])
            bounded = np.vstack([bounded, self._points(worst[right[worst]], sides)])
            directions = _free(still)
        return False

    def _points(self, index: np.ndarray, sides: np.ndarray | None = None) -> np.ndarray:
        """Return some rows of all processes in the coordinates [n, H + 1], with `sides` each times its label."""
        values = to_host(self.rows.gather(self.rows.xp.asarray(index), self.center))
        points = values[:, self.varying] / self.spread
        if self.fit_intercept:
            points = np.column_stack([points, np.ones(len(points))])
        if sides is not None:
            points *= sides[index, None]
        return self.rows.processes.rows_of_all(points)

    def _sum(self, signs: np.ndarray) -> np.ndarray:
        """Return the sum of the rows in the coordinates, each times its sign [N]."""
        signs = self.rows.xp.asarray(signs.astype(np.float64))

        def add(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            return signs[start:stop] @ block, signs[start:stop].sum()

        products, count = (to_host(value) for value in self.rows.totals(add, shift=self.center))
        products = products[self.varying] / self.spread
        return np.append(products, count) if self.fit_intercept else products

    def _along(self, direction: np.ndarray) -> np.ndarray:
        """Return how far each row moves along a direction, [N]."""
        w = np.zeros(self.rows.shape[1])
        w[self.varying] = direction[: len(self.varying)] / self.spread
        w, b = self.rows.xp.asarray(w), direction[-1] if self.fit_intercept else 0.0
        moved = self.rows.xp.empty(self.rows.shape[0])

        def move(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            moved[start:stop] = block @ w + b
            return (moved[start:stop].sum(),)

        self.rows.totals(move, shift=self.center)
        return to_host(moved)


def _free(points: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the directions in which no point moves, [H + 1, directions]."""
    length = np.linalg.norm(points, axis=1, keepdims=True)
    points = points / np.where(length > 0, length, 1.0)
    return scipy.linalg.null_space(np.linalg.qr(points, mode="r"), rcond=SMALLEST)
