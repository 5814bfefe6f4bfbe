"""Logistic regressions on one unit, for many hypotheses at once, from a histogram of the unit's values.

For labels y, weights s and one unit's values x each fit minimises scikit-learn's objective

    sum_n s_n log(1 + exp(-(2 y_n - 1)(w x_n + b))) + w^2 / (2 C)
        = sum_n s_n softplus(w x_n + b) - w sum_n s_n y_n x_n - b sum_n s_n y_n + w^2 / (2 C).

The labels enter through two sums alone, and the rest is an integral over the distribution of x that all hypotheses
share. It is cut into bins of equal width; inside a bin, softplus is expanded to fourth order around the middle, so that
a step of Newton's method costs 512 sigmoids for any number of rows. The error of a gradient is below 1e-8 of its scale
while the logit moves by less than `WIDEST` over half a bin; a steeper fit goes on over the distinct values themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

BINS = 512
ORDER = 4
# The widest half bin in logits for which the expansion is used.
WIDEST = 0.1
# Logits may move by this much in one step: far from the minimum the curvature says nothing.
LONGEST_STEP = 6.0
MAX_ITERATIONS = 200
# Largest gradient of the mean loss at the end, in units of the unit's standard deviation.
TOLERANCE = 1e-10
# A step is taken back where the slope at its end is steeper uphill than this share of the slope downhill at its start.
OVERSHOOT = 0.5


class Histogram:
    """A unit's distribution as moments around the middles of bins.

    Args:
        middle: [B], the unit in standard deviations from its mean.
        moments: `sum s (u - middle)^i` over the values u in each bin, float64 [ORDER + 1, B].
        half_width: of a bin.
    """

    def __init__(self, middle: np.ndarray, moments: np.ndarray, half_width: float):
        self.middle, self.half_width = middle, half_width
        self.factorial = np.array([1.0, 1.0, 2.0, 6.0, 24.0])[: len(moments)]
        # Sums over bins for the gradient in b and w, and for the Hessian: one product serves each derivative.
        mass = moments / self.factorial[:, None]
        n = len(mass)
        self.for_b = mass
        shifted = np.vstack([moments[1:] / self.factorial[: n - 1, None], np.zeros((1, len(middle)))])
        self.for_w = mass * middle + shifted
        self.for_ww = moments[0] * middle**2 + (2 * middle * moments[1] + moments[2] if n > 1 else 0.0)
        self.order = n - 1

    @classmethod
    def of_equal_bins(cls, u: np.ndarray, weight: np.ndarray | None) -> Histogram:
        """Count values [N] in BINS bins between the smallest and the largest."""
        low, high = float(u.min()), float(u.max())
        width = (high - low) / BINS
        bins = ((u - low) / width).astype(np.int64).clip(max=BINS - 1)
        middle = low + (np.arange(BINS) + 0.5) * width
        offset = u - middle[bins]
        power = np.ones_like(u) if weight is None else weight
        moments = np.empty((ORDER + 1, BINS))
        for i in range(ORDER + 1):
            moments[i] = np.bincount(bins, power, BINS)
            power = power * offset
        return cls(middle, moments, width / 2)

    @classmethod
    def of_distinct_values(cls, u: np.ndarray, weight: np.ndarray | None) -> Histogram:
        """Keep each distinct value [N] with its weight: nothing is approximated."""
        middle, place = np.unique(u, return_inverse=True)
        return cls(middle, np.bincount(place, weight, len(middle))[None, :].astype(np.float64), 0.0)

    def derivatives(self, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient [2, G] and Hessian [3, G] (ww, wb, bb) of `sum_n s_n softplus(w u_n + b)`.

        Args:
            w, b: [G].
        """
        p = torch.sigmoid(torch.from_numpy(np.outer(w, self.middle) + b[:, None])).numpy()
        slopes = [p, p * (1 - p)]
        if self.order:
            p, pq = slopes
            third = pq * (1 - 2 * p)
            slopes += [third, pq * (1 - 6 * pq), third * (1 - 12 * pq)]
        gradient = np.zeros((2, len(w)))
        power = np.ones_like(w)
        for i in range(self.order + 1):
            gradient += power * (np.stack([self.for_w[i], self.for_b[i]]) @ slopes[i].T)
            power = power * w
        hessian = np.stack([self.for_ww, self.for_w[0], self.for_b[0]]) @ slopes[1].T
        return gradient, hessian


def fit_univariate(
    values: np.ndarray, weight: np.ndarray | None, positive: np.ndarray, positive_sum: np.ndarray, C: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit one unit to G hypotheses that share their weights and have both classes.

    Args:
        values: x, float64 [N], finite, not all equal.
        weight: s, float64 [N], above 0, or None for 1 each.
        positive: the weight of the positive positions, float64 [G].
        positive_sum: sum_n s_n y_n x_n, float64 [G].
        C: inverse strength of the penalty.

    Returns:
        coefficients [G], intercepts [G], and whether each fit has converged, bool [G].
    """
    mean = float(np.average(values, weights=weight))
    sd = float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
    total = float(len(values) if weight is None else weight.sum())
    u = (values - mean) / sd
    target = np.stack([(positive_sum - positive * mean) / sd, positive])
    ridge = 1 / (C * sd**2)
    start = np.stack([np.zeros_like(positive), np.log(positive / (total - positive))])
    histogram = Histogram.of_equal_bins(u, weight)
    point, converged = _newton(histogram, target, ridge, total, start)
    steep = np.flatnonzero(~converged | (np.abs(point[0]) * histogram.half_width > WIDEST))
    if len(steep):
        exact = Histogram.of_distinct_values(u, weight)
        for g in steep.tolist():
            # One at a time: each has as many sigmoids as there are distinct values.
            part = slice(g, g + 1)
            point[:, part], converged[part] = _newton(exact, target[:, part], ridge, total, point[:, part])
    return point[0] / sd, point[1] - point[0] * mean / sd, converged


def _newton(
    histogram: Histogram, target: np.ndarray, ridge: float, total: float, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise G problems in (w, b) from `start` [2, G] by Newton's method with short steps."""
    point, converged = start.copy(), np.zeros(start.shape[1], bool)
    reach = float(np.abs(histogram.middle).max())
    active = np.arange(start.shape[1])
    gradient, hessian = _problem(histogram, point, target, ridge)
    step, slope = np.zeros_like(point), np.zeros(start.shape[1])
    for _ in range(MAX_ITERATIONS):
        done = np.abs(gradient).max(axis=0) <= TOLERANCE * total
        converged[active[done]] = True
        active, gradient, hessian = active[~done], gradient[:, ~done], hessian[:, ~done]
        if not len(active):
            break
        step = _newton_step(gradient, hessian, reach, total)
        slope = (gradient * step).sum(axis=0)
        length = np.ones(len(active))
        for _ in range(30):
            gradient, hessian = _problem(histogram, point[:, active] + length * step, target[:, active], ridge)
            end = (gradient * step).sum(axis=0)
            short = end > -OVERSHOOT * slope
            if not short.any():
                break
            # The slope of a convex function is nearly linear between the two ends.
            length = np.where(short, length * np.clip(slope / (slope - end), 0.1, 0.7), length)
        point[:, active] += length * step
    return point, converged


def _problem(
    histogram: Histogram, point: np.ndarray, target: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    gradient, hessian = histogram.derivatives(point[0], point[1])
    gradient -= target
    gradient[0] += ridge * point[0]
    hessian[0] += ridge
    return gradient, hessian


def _newton_step(gradient: np.ndarray, hessian: np.ndarray, reach: float, total: float) -> np.ndarray:
    """Return the step [2, G], made short where it would move a logit too far."""
    ww, wb, bb = hessian
    # Where every label is certain there is no curvature left to divide by.
    floor = 1e-14 * total
    ww, bb = ww + floor, bb + floor
    determinant = np.maximum(ww * bb - wb**2, 1e-14 * ww * bb)
    step = -np.stack([bb * gradient[0] - wb * gradient[1], ww * gradient[1] - wb * gradient[0]]) / determinant
    longest: Any = reach * np.abs(step[0]) + np.abs(step[1])
    return step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))
