"""Logistic regressions on one unit, for many hypotheses at once, from the weights of the unit's distinct values.

For labels y, weights s and one unit's values x each fit minimises scikit-learn's objective

    sum_n s_n log(1 + exp(-(2 y_n - 1)(w x_n + b))) + w^2 / (2 C)
        = sum_n s_n softplus(w x_n + b) - w sum_n s_n y_n x_n - b sum_n s_n y_n + w^2 / (2 C).

The labels enter the second form through two sums alone, and the rest is an integral over the distribution of x. It is
cut into bins, half of them of equal width and half of equal mass; inside a bin, softplus is expanded to fourth order
around the middle, so that a step of Newton's method costs 512 sigmoids for any number of rows. What the expansion and
the rounding of the sums leave out is bounded at the end, and a fit that it could move goes on over the distinct values
themselves, where the residuals of either class are summed one by one: in the second form the sums of a fit without
errors cancel to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gatescope.engine.unit_loss import Derivatives, Histogram, Values

BINS = 512
ORDER = 4
MAX_ITERATIONS = 200
# Largest gradient of the mean loss at the end, in units of the unit's standard deviation, and largest step of Newton's
# method relative to the coefficient: where the loss is nearly flat the gradient alone says little.
TOLERANCE = 1e-10
STEP_TOLERANCE = 1e-9
# Steps of at most this, in standard deviations, count as none, however small the coefficient.
SMALLEST = 1e-11
# The first step in standard deviations; steps may double as long as they are good.
FIRST_RADIUS = 6.0
# Where a step ends uphill, steeper than this share of the slope downhill at its start, the loss must have fallen.
OVERSHOOT = 0.1


def compare_means(
    positive_sum: Any, positive: Any, mean: Any, spread: Any, total: Any, freedom: Any
) -> tuple[Any, Any]:
    """Return the difference of the means of two classes, and its F statistic; arrays of NumPy or CuPy.

    Args:
        positive_sum: the weighted sum of the values of the positive class.
        positive: its weight.
        mean: of both classes together.
        spread: the weighted sum of squares around it.
        total: the weight of both.
        freedom: how much of it varies within the classes, total - 2; NaN where that is 0, since no more rows than
            means leave nothing.
    """
    negative = total - positive
    difference = (positive_sum / positive - mean) * total / negative
    between = difference**2 * positive * negative / total
    return difference, between / ((spread - between).clip(0) / freedom)


def fit_univariate(
    values: np.ndarray,
    mass: np.ndarray,
    positive_total: np.ndarray,
    positive_sum: np.ndarray,
    positive_at: Callable[[int], np.ndarray],
    C: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit one unit to G hypotheses that have both classes.

    Args:
        values: the unit's distinct values ascending, float64 [D], finite; at least two have weight.
        mass: the weight at each value, float64 [D, 1] for all hypotheses alike or [D, G].
        positive_total: the weight of the positive positions, float64 [G].
        positive_sum: the sum of the values over the positive positions, weighted, float64 [G].
        positive_at: returns the weight of the positive positions of hypothesis g at each value, float64 [D].
        C: inverse strength of the penalty.

    Returns:
        coefficients [G], intercepts [G], and whether each fit has converged, bool [G].
    """
    total = mass.sum(axis=0)
    mass = mass / total
    mean = values @ mass
    sd = np.sqrt(np.array([mass[:, m] @ (values - mean[m]) ** 2 for m in range(len(mean))]))
    ridge = np.broadcast_to(1 / (C * sd**2 * total), positive_sum.shape)
    share = positive_total / total
    target = np.stack([(positive_sum / total - mean * share) / sd, share])
    start = np.stack([np.zeros_like(share), np.log(share / (1 - share))])
    histogram = _histogram(values, mass, mean, sd, target)
    point, converged = _newton(histogram, ridge, start)
    for g in np.flatnonzero(~(converged & _is_certain(histogram, ridge, point))).tolist():
        # One at a time: each has as many sigmoids as there are distinct values.
        m = g if len(mean) > 1 else 0
        positive = positive_at(g) / total[m]
        exact = Values((values - mean[m]) / sd[m], positive, np.maximum(mass[:, m] - positive, 0.0))
        part = slice(g, g + 1)
        begin = point[:, part] if converged[g] else start[:, part]
        point[:, part], converged[part] = _newton(exact, ridge[part], begin)
    coefficient = point[0] / sd
    return coefficient, point[1] - coefficient * mean, converged


def _histogram(values: np.ndarray, mass: np.ndarray, mean: np.ndarray, sd: np.ndarray, target: np.ndarray) -> Histogram:
    """Cut ascending values [D] into at most BINS bins that hold something."""
    if len(values) <= BINS:
        middle = (values - mean[:, None]) / sd[:, None]
        return Histogram(middle, np.zeros_like(middle), mass.T[None], target)
    below = np.cumsum(mass.mean(axis=1))
    place = 0.5 * (below / below[-1] + (values - values[0]) / (values[-1] - values[0]))
    bins = (place * BINS).astype(np.int64)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    sizes = np.diff(starts, append=len(values))
    low, high = values[starts], values[starts + sizes - 1]
    from_middle = values - np.repeat(0.5 * (low + high), sizes)
    # In units of the half width, so that no power of it overflows.
    half = np.repeat(0.5 * (high - low), sizes)
    power, from_middle = mass, np.divide(from_middle, half, out=np.zeros_like(half), where=half > 0)[:, None]
    moments = []
    for _ in range(ORDER + 1):
        moments.append(np.add.reduceat(power, starts, axis=0).T)
        power = power * from_middle
    half_width = 0.5 * (high - low) / sd[:, None]
    scaled = np.stack([moment * half_width**i for i, moment in enumerate(moments)])
    return Histogram((0.5 * (low + high) - mean[:, None]) / sd[:, None], half_width, scaled, target)


def _is_certain(histogram: Histogram, ridge: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Whether neither the expansion nor rounding can have moved each minimum, bool [G]."""
    centre, _, curvature, rounding = histogram.derivatives(point, np.arange(point.shape[1]))
    error_w, error_b = rounding + histogram.omitted(point)
    moved_w = (error_w + np.abs(centre) * error_b) / (curvature[0] + ridge)
    moved_b = error_b / curvature[1] + np.abs(centre) * moved_w
    w, b = np.abs(point)
    tolerance = 10 * STEP_TOLERANCE
    return np.asarray((moved_w <= tolerance * w + SMALLEST) & (moved_b <= tolerance * np.maximum(w, b) + SMALLEST))


def _newton(data: Any, ridge: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimise G problems in (w, b) from `start` [2, G] by Newton's method; return the points and which converged."""
    point, converged = start.copy(), np.zeros(start.shape[1], bool)
    active = np.arange(start.shape[1])
    radius = np.full(start.shape[1], FIRST_RADIUS)
    at = data.derivatives(point, active)
    for _ in range(MAX_ITERATIONS):
        gradient, curvature = _penalised(at, ridge[active], point[:, active])
        step = -gradient / curvature
        step[1] -= at.centre * step[0]
        scale = np.abs(point[:, active])
        scale[1] = scale.max(axis=0)
        rounded = np.abs(gradient) <= at.rounding
        done = ((np.abs(gradient) <= TOLERANCE) & (rounded | (np.abs(step) <= STEP_TOLERANCE * scale))).all(axis=0)
        converged[active[done]] = True
        # The last step is small beyond doubt, and takes with it what is left of the one before.
        last = done & (np.abs(step) <= STEP_TOLERANCE * scale).all(axis=0)
        point[:, active[last]] += step[:, last]
        kept = ~done & np.isfinite(step).all(axis=0)
        active, gradient, step = active[kept], gradient[:, kept], step[:, kept]
        if not len(active):
            break
        size = np.abs(step).sum(axis=0)
        length = np.minimum(1.0, radius[active] / np.maximum(size, np.finfo(np.float64).tiny))
        centre = at.centre[kept]
        slope = gradient[0] * step[0] + gradient[1] * (step[1] + centre * step[0])
        length, at, whole = _search(data, ridge[active], point[:, active], active, step, slope, length)
        point[:, active] += length * step
        # Far from the minimum the curvature says nothing; a step that was cut short and good may be longer next time.
        radius[active] = np.where(whole, np.maximum(radius[active], 2 * length * size), length * size)
    return point, converged


def _penalised(at: Derivatives, ridge: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient and curvature, [2, g] each, with the penalty."""
    gradient, curvature = at.gradient.copy(), at.curvature.copy()
    gradient[0] += ridge * point[0]
    curvature[0] += ridge
    return gradient, curvature


def _search(
    data: Any,
    ridge: np.ndarray,
    point: np.ndarray,
    active: np.ndarray,
    step: np.ndarray,
    slope: np.ndarray,
    length: np.ndarray,
) -> tuple[np.ndarray, Derivatives, np.ndarray]:
    """Shorten steps from `point` [2, g] until the loss falls.

    Returns:
        the lengths [g], the derivatives there, and which steps were good at their first length.
    """
    whole, length = np.ones(len(active), bool), length.copy()
    loss = None
    for _ in range(60):
        there = point + length * step
        at = data.derivatives(there, active)
        gradient, _ = _penalised(at, ridge, there)
        end = gradient[0] * step[0] + gradient[1] * (step[1] + at.centre * step[0])
        # A convex function that still falls at the end has fallen all the way.
        short = ~(end <= -OVERSHOOT * slope)
        if short.any():
            if loss is None:
                loss = data.loss(point, active) + 0.5 * ridge * point[0] ** 2
            new = data.loss(there, active) + 0.5 * ridge * there[0] ** 2
            # Where the fall is lost in rounding the slopes have to do.
            lost = (-slope * length <= 1e-12 * (loss + 1e-3)) & (end <= -0.5 * slope)
            short &= ~((new <= loss + 1e-4 * length * slope) | lost)
        if not short.any():
            break
        whole &= ~short
        # Between its ends the slope is nearly linear.
        length[short] *= np.clip(slope[short] / (slope[short] - end[short]), 0.1, 0.7)
    return length, at, whole
