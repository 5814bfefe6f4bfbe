"""Many penalised logistic problems that share their states, minimised together.

For hypothesis k, weights s_n >= 0 and labels y_n in {0, 1} this minimises the mean loss

    f(w, b) = sum_n s_n log(1 + exp(-(2 y_n - 1)(w . x_n + b))) / S + |w|^2 / (2 C S),    S = sum_n s_n,

by the limited-memory BFGS method (Nocedal 1980; Nocedal & Wright 2006, algorithm 7.4), whose initial matrix is not a
multiple of the identity but the inverse of a Hessian from a sample of the rows (`hessian_sampler`), sampled anew every
few steps while the curvature moves. Every pass over X is a trial step of every problem, and a problem that has
converged gives its column to the next.

A step is applied to the coefficients in the very precision in which it was multiplied with X. A trial is judged by the
slope at its end, which is exact where the loss no longer changes (Hager & Zhang 2005, approximate Wolfe). Where labels
can be told apart almost everywhere the loss falls like an exponential and a Newton-like step is far too short: the
slopes at multiples of the step, which cost no product with X, tell how far to go on.

Candidates tried: Newton's method with K exact weighted Gram matrices a step (`python -m benchmarks.exact_newton`). On
the states of a recurrent network that reads text it takes half as many steps as this takes passes, and is faster for
one hypothesis on up to 64 units, by hundredths of a second, and slower for more. Beginning with coefficients fitted to
every fourth row: 590 passes in all and 122 sampled matrices, where beginning at the prevalence takes 628 and 57 (32
hypotheses, 50,000 states of 512 units of the model of the benchmarks). There the choices below are in a flat minimum: 4
to 10 rows for each unit and renewal after 2 to 6 steps are within 15% in estimated time. Within 3%, and left out, for
32 hypotheses and for 100 of 1000: no renewal while half the decrement falls to a quarter or less in a step, half as
many rows while it is above 0.05 of the loss, samples' matrices times n / (n - H). Steps conjugate to the one before
cost 62 matrices instead of 48 with 32 hypotheses; to all before, twice the passes.

On a GPU, 32 hypotheses on (1e6, 1536) float16 states took 0.253 s and 18 passes (NVIDIA H200, torch 2.11, CuPy 14.2;
before samples had fewer rows where few carry the curvature). When factors were renewed as on the CPU, 43 of them in 15
passes, columns were summed by CuPy and steps remembered in array operations, it was 1.55 s (NVIDIA H100 80GB HBM3).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from gatescope.engine.inverse_hessian import MEMORY, InverseHessians, inner
from gatescope.engine.problems import Problems, Solution
from gatescope.engine.sweep import MULTIPLES, Sums, SweepTile

SUFFICIENT_DECREASE = 1e-4
SMALLEST_STEP = 1e-8
# A step that ends with this share of its slope left goes on, if that is for this much longer at least.
STEEP = 0.3
LONGER = 1.3
# Steps after which a Hessian is sampled anew, unless half the decrement was less than this share of the loss when it
# was sampled last: near the minimum the curvature stays, and only the memory of steps is worth keeping.
RENEWAL_STEPS = 4
SETTLED_DECREMENT = 0.05
# On a GPU a pass costs nearly the same for one problem as for all, and a Hessian with its factor as much as so many
# passes: they are sampled after as many steps as they cost, or when the memory of steps is full. (In a profile on an
# NVIDIA H100 80GB HBM3, torch 2.11, CuPy 14.2, with (1e6, 1536) float16 states and 32 hypotheses, a pass had 1.4 ms of
# products and kernels, and a Hessian with its factor 4 to 5 ms. Other numbers of passes were not measured in a fit.)
DEVICE_RENEWAL_PASSES = 3
# Where the loss is at its rounding error, and for so many steps no gradient is below this share of the smallest one
# before, only noise is left of it.
PATIENCE, PROGRESS = 8, 0.7
# In single precision the same of the smallest gradient of all after so many steps, though each seems to lower the loss.
LONG_PATIENCE = 50
# The objective is at most about this share of tol above its minimum, relative to itself.
DECREMENT_SHARE = 0.02
VECTORS = ("w", "g", "x", "v", "kept")
COUNTERS = ("n_steps", "n_idle", "n_flat")
SCALARS = (*COUNTERS, "loss", "slope", "alpha", "travel", "fresh", "given", "stretch", "settled", "smallest", "least")


class QuasiNewton:
    """Solves a queue of problems, a tile of them at a time.

    Args:
        problems: K of them.
        tol: largest absolute gradient of the mean loss, and half Newton decrement, at the end.
        max_iter: steps at most.
        tile: problems at most in one pass.
        at_once: Hessians at most that are made at a time, by a share of the cores each.
    """

    def __init__(self, problems: Problems, tol: float, max_iter: int, tile: int, at_once: int = 1):
        self.problems, self.tol, self.max_iter, self.tile, self.at_once = problems, tol, max_iter, tile, at_once
        rows = self.rows = problems.rows
        self.solution = Solution(rows.shape[1], len(problems.total))
        self.rounding = float(np.finfo(rows.dtype).eps)
        # Root mean squares of the units, and the loss where a problem begins without a start.
        self.size = np.hypot(problems.sd, problems.mean) / problems.scale
        with np.errstate(all="ignore"):
            share = problems.prevalence if problems.fit_intercept else np.full(len(problems.total), 0.5)
            self.plain_loss = -(share * np.log(share) + (1 - share) * np.log1p(-share))

    def solve(self, selected: np.ndarray) -> Solution:
        """Minimise the selected problems, integers; the others' entries stay NaN."""
        if not len(selected):
            return self.solution
        # Problems that share a matrix follow one another; rare labels, which take longest, come first.
        rarity = np.minimum(self.problems.prevalence, 1 - self.problems.prevalence)[selected]
        self.queue = deque(selected[np.lexsort((rarity, self.problems.weighting[selected]))].tolist())
        # Overflow and NaN are results here: they are looked for in the loss and the gradient.
        with np.errstate(all="ignore"):
            self._allocate(selected)
            self._admit()
            while self.queue or self._compact():
                sums = self._sweep()
                self.solution.n_passes[self.problem] += 1
                self._judge(sums)
                self._admit()
        return self.solution

    def _allocate(self, selected: np.ndarray) -> None:
        n_coordinates, width = self.rows.shape[1] + 1, min(self.tile, len(selected))
        self.arrays = SweepTile(self.rows, self.problems.shift, width)
        self.inverse = InverseHessians(self.problems, selected, width, self.at_once)
        # Coefficients, gradient, step, what the next pass moves by, the last coefficients that were accepted; the
        # intercept comes last.
        self.w, self.g, self.x, self.v, self.kept = (np.zeros((n_coordinates, width)) for _ in VECTORS)
        self.loss, self.slope, self.alpha, self.smallest, self.least, self.travel = np.zeros((6, width))
        self.n_steps, self.n_idle, self.n_flat = np.zeros((3, width), np.int64)
        self.fresh, self.given, self.stretch, self.settled = np.zeros((4, width), bool)

    @property
    def problem(self) -> np.ndarray:
        """The problem of each column, -1 where there is none."""
        return self.inverse.problem

    def _admit(self) -> None:
        """Give idle columns to waiting problems; each begins with a step from zero to where it starts."""
        idle = np.flatnonzero(self.problem < 0).tolist()[: len(self.queue)]
        admitted = [(column, self.queue.popleft()) for column in idle]
        self.rows.each(lambda pair: self.arrays.start(pair[0], self.problems.signed_weights(pair[1])), admitted)
        for column, k in admitted:
            self.inverse.start(column, k)
            for name in VECTORS:
                getattr(self, name)[:, column] = 0.0
            start = self.problems.start
            self.given[column] = False
            if start is not None and np.isfinite(start[:, k]).all():
                self.given[column], self.v[:, column] = True, start[:, k]
            elif self.problems.fit_intercept:
                self.v[-1, column] = self._plain_intercept(k)
            self.travel[column] = 0.0
            self.n_steps[column] = self.n_idle[column] = self.n_flat[column] = 0
            self.fresh[column], self.stretch[column], self.settled[column] = True, True, False
            self.alpha[column], self.slope[column] = 1.0, 0.0
            self.loss[column] = self.smallest[column] = self.least[column] = np.inf
        self.inverse.share(waiting=bool(self.queue))

    def _plain_intercept(self, k: int) -> float:
        """Return the logit of the prevalence of problem k."""
        prevalence = self.problems.prevalence[k]
        return math.log(prevalence / (1 - prevalence))

    def _restart(self, columns: np.ndarray) -> None:
        """Have problems whose start was worse than none begin without it, with logits that have not been there."""
        for column in columns.tolist():
            self.arrays.restart(column)
            self.w[:, column] = self.v[:, column] = 0.0
            if self.problems.fit_intercept:
                self.v[-1, column] = self._plain_intercept(self.problem[column])
            self.travel[column] = 0.0

    def _compact(self) -> bool:
        """Drop idle columns; return whether any problem is left."""
        active = np.flatnonzero(self.problem >= 0)
        if len(active) == len(self.problem):
            return True
        self.arrays.keep(active)
        self.inverse.keep(active)
        for name in VECTORS:
            setattr(self, name, getattr(self, name)[:, active])
        for name in SCALARS:
            setattr(self, name, getattr(self, name)[active])
        return len(active) > 0

    def _sweep(self) -> Sums:
        scale, dtype = self.problems.scale[:, None], self.rows.dtype
        step, offset = (self.v[:-1] / scale).astype(dtype), self.v[-1].astype(dtype)
        # The coefficients move by what the rows are multiplied with, to the bit.
        self.w[:-1] += step.astype(np.float64) * scale
        self.w[-1] += offset
        self.travel += self.size @ np.abs(self.v[:-1]) + np.abs(self.v[-1])
        stretching = np.flatnonzero(self.stretch & ~self.fresh & (self.alpha == 1))
        sums = self.arrays(step, offset, stretching)
        sums.products /= scale
        return sums

    def _judge(self, sums: Sums) -> None:
        """Accept the steps that went down far enough, lengthen or shorten the others."""
        k, w, x, slope, alpha = self.problem, self.w, self.x, self.slope, self.alpha
        total, ridge = self.problems.total[k], self.problems.ridge[:, k]
        g = np.empty_like(w)
        loss = sums.losses / total + 0.5 * inner(ridge * w[:-1], w[:-1])
        g[:-1] = sums.products / total + ridge * w[:-1]
        g[-1] = sums.residuals / total if self.problems.fit_intercept else 0.0
        end_slope = inner(g, x)
        lower = loss <= self.loss + SUFFICIENT_DECREASE * alpha * slope
        level = (end_slope <= -0.8 * slope) & (loss <= self.loss * (1 + 16 * self.rounding))
        shorter = np.clip(-slope / (end_slope - slope), 0.1, 0.7) * alpha
        finite = np.isfinite(loss) & np.isfinite(g).all(axis=0)
        shorter = np.where(finite & (end_slope > 0), shorter, np.where(finite, 0.5, 0.1) * alpha)
        worse = self.given & ~(loss <= self.plain_loss[k] * (1 + 16 * self.rounding))
        self.given[:] = False
        accepted = finite & ~worse & (self.fresh | lower | level)
        failed = ~accepted & ~worse & (self.fresh | (shorter < SMALLEST_STEP))
        first = accepted & ~self.fresh & (alpha == 1)
        steep = first & (end_slope < STEEP * slope)
        longer = np.ones_like(alpha)
        for i in np.flatnonzero(steep & self.stretch).tolist():
            pull = ridge[:, i] * x[:-1, i]
            penalty = np.array([(w[:-1, i] + (m - 1) * x[:-1, i]) @ pull for m in MULTIPLES])
            longer[i] = _flat_at(end_slope[i], sums.slopes[:, i] / total[i] + penalty)
        longer[longer < LONGER] = 1.0
        self.stretch[first] = steep[first]
        again = (~accepted & ~failed & ~worse) | (longer > 1)
        target = np.where(longer > 1, longer, shorter)
        self.v[:, again] = x[:, again] * (target - alpha)[again]
        self.alpha[again] = target[again]
        settled = np.flatnonzero(accepted & (longer == 1))
        moved = settled[~self.fresh[settled]]
        self.inverse.remember(moved, x[:, moved] * alpha[moved], g[:, moved] - self.g[:, moved])
        self.g[:, settled], self.loss[settled], self.kept[:, settled] = g[:, settled], loss[settled], w[:, settled]
        self.n_steps[settled] += ~self.fresh[settled]
        self.fresh[settled] = False
        self._restart(np.flatnonzero(worse))
        self._finish(np.flatnonzero(failed & ~finite), "not_finite")
        self._finish(np.flatnonzero(failed & finite), "stalled")
        self._begin(settled)

    def _begin(self, columns: np.ndarray) -> None:
        """Stop the columns that have converged; choose the direction of the others' next step."""
        if not len(columns):
            return
        g, k = self.g[:, columns], self.problem[columns]
        if self.problems.start is not None:
            self._renew(np.array([column for column in columns.tolist() if self.inverse.factor[column] is None], int))
        origin = self.problems.origin
        seen = g if origin is None else np.vstack([g[:-1] + np.outer(origin, g[-1]), g[-1:]])
        largest = np.abs(seen).max(axis=0)
        x = self.inverse.direction(columns, g)
        slope = inner(g, x)
        self.solution.gradient[k], self.solution.half_decrement[k] = largest, -0.5 * slope
        done = (largest <= self.tol) & (-0.5 * slope <= DECREMENT_SHARE * self.tol * np.minimum(self.loss[columns], 1))
        # Without a penalty, data that a plane separates have no minimum. (Those that it separates but for rows on it
        # meet the tolerance: `separation` finds them.)
        split = np.zeros_like(done)
        for i in np.flatnonzero(self.problems.ridge[0, k] == 0).tolist():
            split[i] = self.arrays.separates(int(columns[i]))
        out_of_steps = ~done & ~split & (self.n_steps[columns] >= self.max_iter)
        better = (largest < PROGRESS * self.smallest[columns]) | (-0.5 * slope > self.rounding * self.loss[columns])
        lowest = largest < PROGRESS * self.least[columns]
        self.least[columns] = np.where(lowest, largest, self.least[columns])
        self.n_flat[columns] = np.where(lowest, 0, self.n_flat[columns] + 1)
        self.smallest[columns] = np.where(better, largest, self.smallest[columns])
        self.n_idle[columns] = np.where(better, 0, self.n_idle[columns] + 1)
        idle = self.n_idle[columns] >= PATIENCE
        if self.rows.dtype == np.float32:
            idle |= self.n_flat[columns] >= LONG_PATIENCE
        stalled = ~(done | split | out_of_steps) & idle
        self._finish(columns[split], "separable")
        self._finish(columns[done & ~split], "converged")
        self._finish(columns[out_of_steps], "max_iter")
        self._finish(columns[stalled], "stalled")
        stale = ~(done | split | out_of_steps | stalled) & ~self.settled[columns]
        stale &= self.inverse.n_pairs[columns] >= self._renewal_steps(int(stale.sum()))
        if stale.any():
            self._renew(columns[stale])
            x[:, stale] = self.inverse.direction(columns[stale], g[:, stale])
            slope[stale] = inner(g[:, stale], x[:, stale])
            self.settled[columns[stale]] = -0.5 * slope[stale] < SETTLED_DECREMENT * self.loss[columns[stale]]
        self.x[:, columns] = self.v[:, columns] = x
        self.alpha[columns], self.slope[columns] = 1.0, slope

    def _renewal_steps(self, n_columns: int) -> int:
        """Return after how many steps so many problems each have a Hessian sampled anew."""
        if self.rows.xp is np:
            return RENEWAL_STEPS
        return min(max(RENEWAL_STEPS, DEVICE_RENEWAL_PASSES * n_columns), MEMORY)

    def _renew(self, columns: np.ndarray) -> None:
        """Sample a Hessian for each of these problems where it now stands, and forget the steps before."""
        self.inverse.renew(columns, self.arrays.curvature, waiting=bool(self.queue))

    def _finish(self, columns: np.ndarray, status: str) -> None:
        k = self.problem[columns]
        solution = self.solution
        solution.status[k] = status
        solution.n_iterations[k] = self.n_steps[columns]
        solution.drift[k] = self.rounding * self.travel[columns]
        solution.singular[k] = self.inverse.singular[columns]
        if status != "not_finite":
            # A step that failed led elsewhere.
            solution.coefficients[:, k], solution.intercepts[k] = self.kept[:-1, columns], self.kept[-1, columns]
            solution.objective[k] = self.loss[columns] * self.problems.total[k]
        self.inverse.stop(columns)


def _flat_at(slope: float, slopes: np.ndarray) -> float:
    """Return the multiple of a step at which a convex loss is lowest, from its slopes at 1 and at MULTIPLES."""
    left, low = 1.0, slope
    for multiple, high in zip(MULTIPLES, slopes.tolist(), strict=True):
        if not high < 0:
            return left + (multiple - left) * low / (low - high) if math.isfinite(high) else left
        left, low = multiple, high
    return left
