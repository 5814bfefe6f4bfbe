"""The mean loss of logistic regressions on one unit and its derivatives: over bins of its values, or all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

# Rounding of a sum over bins, and of a sum over values relative to the sum of magnitudes.
ROUNDING = 2e-15


class Derivatives(NamedTuple):
    """Derivatives of the mean loss of G hypotheses at (w, b), each array [G].

    With the data centred where the curvature is, at `centre`, the Hessian in (w, b + w * centre) is diagonal.
    """

    centre: np.ndarray
    gradient: np.ndarray  # [2, G], in (w, b + w * centre)
    curvature: np.ndarray  # [2, G]
    rounding: np.ndarray  # [2, G], of the gradient


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return torch.sigmoid(torch.from_numpy(z)).numpy()


def _softplus(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


class Histogram:
    """The distribution of a unit for each hypothesis as moments around the middles of bins.

    Args:
        middle: [M, B], the unit in standard deviations from its mean; M is 1 where all hypotheses share their weights,
            else G.
        half_width: of each bin, [M, B].
        moments: `E (u - middle)^i` over the values u in each bin, float64 [ORDER + 1, M, B], or [1, M, B] for bins of
            one value each.
        target: `E y u` and `E y`, float64 [2, G].
    """

    def __init__(self, middle: np.ndarray, half_width: np.ndarray, moments: np.ndarray, target: np.ndarray):
        self.middle, self.half_width, self.mass, self.target = middle, half_width, moments[0], target
        self.order = len(moments) - 1
        factorial = np.array([1.0, 1.0, 2.0, 6.0, 24.0])[: len(moments), None, None]
        scaled = moments / factorial
        higher = np.concatenate([moments[1:] / factorial[:-1], np.zeros_like(moments[:1])])
        # Sums over bins for the gradient in w and b: one product serves each derivative.
        self.for_gradient = np.stack([scaled * middle + higher, scaled], axis=2)  # [ORDER + 1, M, 2, B]
        square = moments[0] * middle**2
        if self.order:
            square += 2 * middle * moments[1] + moments[2]
        self.for_hessian = np.concatenate([square[:, None], self.for_gradient[0]], axis=1)  # [M, 3, B]

    def _of(self, array: np.ndarray, which: np.ndarray) -> np.ndarray:
        return array if len(array) == 1 or len(array) == len(which) else array[which]

    def _logits(self, point: np.ndarray, which: np.ndarray) -> np.ndarray:
        return point[0][:, None] * self._of(self.middle, which) + point[1][:, None]

    def derivatives(self, point: np.ndarray, which: np.ndarray) -> Derivatives:
        """Return the derivatives for some hypotheses, ascending integers [g], at their (w, b) [2, g]."""
        p = _sigmoid(self._logits(point, which))
        pq = p * (1 - p)
        slopes = [p]
        if self.order:
            third = pq * (1 - 2 * p)
            slopes += [pq, third, pq * (1 - 6 * pq), third * (1 - 12 * pq)]
        gradient = -self.target[:, which]
        power = np.ones(len(which))
        for table, slope in zip(self.for_gradient, slopes, strict=True):
            gradient += power * _products(self._of(table, which), slope)
            power = power * point[0]
        ww, wb, bb = _products(self._of(self.for_hessian, which), pq)
        bb = np.maximum(bb, np.finfo(np.float64).tiny)
        centre = wb / bb
        gradient[0] -= centre * gradient[1]
        rounding = ROUNDING * np.stack([1 + np.abs(centre), np.ones_like(centre)])
        return Derivatives(centre, gradient, np.stack([np.maximum(ww - centre * wb, 0), bb]), rounding)

    def loss(self, point: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the mean loss [g]."""
        z = self._logits(point, which)
        terms = [_softplus(z)]
        if self.order:
            p = _sigmoid(z)
            pq = p * (1 - p)
            terms += [p, pq, pq * (1 - 2 * p), pq * (1 - 6 * pq)]
        total = -(point * self.target[:, which]).sum(axis=0)
        power = np.ones(len(which))
        for table, term in zip(self.for_gradient[:, :, 1:], terms, strict=True):
            total += power * _products(self._of(table, which), term)[0]
            power = power * point[0]
        return total

    def omitted(self, point: np.ndarray) -> np.ndarray:
        """Return a bound on what the expansion leaves out of the gradient in w and b, [2, G].

        The fourth derivative of the sigmoid is at most 1 / 7 and the fifth 1 / 4, and both fall like exp(2 - |z|).
        """
        if not self.order:
            return np.zeros_like(point)
        reach = np.abs(point[0])[:, None] * self.half_width
        distance = np.abs(point[0][:, None] * self.middle + point[1][:, None])
        fourth = self.mass * reach**4 * np.exp(-np.maximum(distance - reach - 2, 0))
        fifth = fourth * reach / (4 * 120)
        for_w = fifth * (np.abs(self.middle) + self.half_width) + fourth * self.half_width / (7 * 24)
        return np.stack([for_w.sum(axis=1), fifth.sum(axis=1)])


def _products(table: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return the sums over bins of [M, R, B] and [G, B], [R, G]."""
    if len(table) == 1:
        return table[0] @ slopes.T
    return np.matmul(table, slopes[:, :, None])[:, :, 0].T


class Values:
    """The distinct values of a unit for one hypothesis: nothing is approximated.

    Args:
        u: [D], the unit in standard deviations from its mean.
        positive, negative: the share of the weight that each value has in either class, float64 [D].
    """

    def __init__(self, u: np.ndarray, positive: np.ndarray, negative: np.ndarray):
        present = positive + negative > 0
        self.u, self.positive, self.negative = u[present], positive[present], negative[present]

    def derivatives(self, point: np.ndarray, which: np.ndarray) -> Derivatives:
        """Return the derivatives at (w, b) [2, 1]."""
        z = point[0] * self.u + point[1]
        p, q = _sigmoid(z), _sigmoid(-z)
        too_high, too_low = self.negative * p, self.positive * q
        curvature = too_high * q + too_low * p
        bb = max(float(curvature.sum()), np.finfo(np.float64).tiny)
        centre = float(curvature @ self.u) / bb
        a = self.u - centre
        residual, size = too_high - too_low, (too_high + too_low) * (1 + np.abs(z))
        gradient = np.array([[residual @ a], [residual.sum()]])
        rounding = ROUNDING * np.array([[size @ np.abs(a)], [size.sum()]])
        return Derivatives(np.array([centre]), gradient, np.array([[curvature @ a**2], [bb]]), rounding)

    def loss(self, point: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the mean loss [1]."""
        z = point[0] * self.u + point[1]
        return np.array([self.negative @ _softplus(z) + self.positive @ _softplus(-z)])
