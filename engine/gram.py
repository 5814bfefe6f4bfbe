"""Weighted means, standard deviations and Gram matrices of the states, accumulated block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import array_namespace, as_tensor, to_host
from gatescope.engine.row_blocks import RowBlocks, check_finite
from gatescope.engine.weights import Weights

# Rows whose mean serves as the origin of the sums; the exact mean is corrected for afterwards.
ORIGIN_ROWS = 1024
# A mean square around the origin has lost its digits where the variance is less than so many rounding errors of it.
CANCELLED = 1e4
DOUBLE_EPS = float(np.finfo(np.float64).eps)


class Moments:
    """Weighted mean and spread of the columns of X, and their covariance if it is asked for.

    Args:
        rows: X [N, H].
        weight: of each row [N], or None for 1 each.
        covariance: whether the covariance is wanted.

    Attributes:
        mean, sd: [H], float64; the standard deviation of a column without variation is 0 exactly.
        covariance: [H, H], float64, divided by the sum of the weights.
        total: the sum of the weights.

    Raises:
        InputError: X holds a value that is NaN or infinite.
    """

    def __init__(self, rows: RowBlocks, weight: Any = None, covariance: bool = False):
        # The first rows may have no weight.
        origin = column_origin(rows) if weight is None else _weighted_mean(rows, weight)
        xp = rows.xp

        def block_moments(block: Any, start: int, stop: int) -> tuple[Any, ...]:
            share = xp.ones(stop - start, rows.dtype) if weight is None else weight[start:stop].astype(rows.dtype)
            total = share.sum(dtype=np.float64)
            if not covariance:
                squares = _squares(block) if weight is None else share @ (block * block)
                return share @ block, squares, total
            root = block if weight is None else block * xp.sqrt(share)[:, None]
            return share @ block, root.T @ root, total

        first, second, total = (to_host(value) for value in rows.totals(block_moments, shift=origin))
        if not np.isfinite(first).all():
            check_finite(rows)
        self.total = float(total)
        with np.errstate(all="ignore"):
            offset = first / self.total
            self.mean = to_host(origin).astype(np.float64) + offset
            if covariance:
                self.covariance = second / self.total - np.outer(offset, offset)
            variance = self.covariance.diagonal() if covariance else second / self.total - offset**2
            self.sd = np.sqrt(variance.clip(min=0))
        # A constant column leaves rounding errors: those of its values less the origin, and those of the origin.
        noise = np.finfo(rows.dtype).eps * np.abs(offset) + DOUBLE_EPS * np.abs(self.mean)
        self.sd[self.sd <= 8 * noise] = 0.0


def _squares(block: Any) -> Any:
    """Return the sum of the squares of each column [H], without a copy of the block: CuPy's einsum makes two."""
    xp = array_namespace(block)
    if xp is np:
        return np.einsum("nh,nh->h", block, block)
    return xp.from_dlpack(torch.linalg.vector_norm(as_tensor(block), dim=0)) ** 2


def weighted_sd(rows: RowBlocks, weights: Weights, columns: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each unit by the weights of some hypotheses, float64 [G, H]; 0 for a constant.

    Args:
        rows: X [N, H].
        weights: of the hypotheses.
        columns: the hypotheses [G], integers; one where they share their weights.
    """
    origin = column_origin(rows)
    sums = np.broadcast_to(weights.sums(), (weights.shape[1],))[columns]
    unit = rows.xp.asarray(np.where(sums > 0, sums, 1.0) / rows.processes.total(rows.shape[0]))

    def shares(start: int, stop: int) -> Any:
        weight = weights.rows(start, stop, columns)
        return (rows.xp.ones((stop - start, 1)) if weight is None else weight) / unit

    def block_moments(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        share = shares(start, stop)
        total, share = share.sum(axis=0), share.astype(rows.dtype)
        return share.T @ block, share.T @ (block * block), total

    first, second, total = (to_host(value) for value in rows.totals(block_moments, shift=origin))
    with np.errstate(all="ignore"):
        offset, square = first / total[:, None], second / total[:, None]
        mean, variance = to_host(origin) + offset, square - offset**2
        _sum_again(rows, shares, total, mean, variance, variance < CANCELLED * np.finfo(rows.dtype).eps * square)
        sd = np.sqrt(variance.clip(min=0))
        return np.where(sd <= 8 * DOUBLE_EPS * np.abs(mean), 0.0, sd)


def _sum_again(
    rows: RowBlocks,
    shares: Callable[[int, int], Any],
    total: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    chosen: np.ndarray,
) -> None:
    """Replace the chosen of the variances [G, H] by sums of float64 around the means, which are corrected.

    Args:
        rows: X [N, H].
        shares: called with the first row and the one after the last, returns their weights, float64 [n, G].
        total: the sums of those, [G].
        mean: [G, H], up to the precision of the rows.
        variance, chosen: [G, H].
    """
    groups = [(g, np.flatnonzero(chosen[g])) for g in np.flatnonzero(chosen.any(axis=1)).tolist()]
    if not groups:
        return
    xp = rows.xp
    places = [(g, xp.asarray(units), xp.asarray(mean[g, units])) for g, units in groups]

    def block_moments(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        share, found = shares(start, stop), []
        for g, units, center in places:
            values = block[:, units] - center
            found += [share[:, g] @ values, share[:, g] @ values**2]
        return tuple(found)

    sums = [to_host(value) for value in rows.totals(block_moments)]
    for (g, units), first, second in zip(groups, sums[::2], sums[1::2], strict=True):
        offset, square = first / total[g], second / total[g]
        mean[g, units] += offset
        found = square - offset**2
        # If a unit is always equally far from the mean that was subtracted, only rounding errors remain.
        variance[g, units] = np.where(found < CANCELLED * DOUBLE_EPS * square, 0.0, found)


def _weighted_mean(rows: RowBlocks, weight: Any) -> Any:
    """Return the weighted mean of each column [H], summed in float64 and rounded to the precision of the rows."""

    def block_sums(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        share = weight[start:stop].astype(np.float64)
        return share @ block, share.sum()

    total, mass = rows.totals(block_sums)
    with np.errstate(all="ignore"):
        return _finite(rows, total / float(mass))


def column_origin(rows: RowBlocks) -> Any:
    """Return a point near the mean [H], so that squares do not cancel in columns far from zero."""
    with np.errstate(all="ignore"):
        values = rows.gather(slice(0, min(ORIGIN_ROWS, rows.shape[0])))
        total, count = rows.processes.totals([values.sum(axis=0, dtype=np.float64), np.array(float(len(values)))])
        return _finite(rows, total / float(count))


def _finite(rows: RowBlocks, origin: Any) -> Any:
    """Return an origin in the precision of the rows, 0 where it is not finite."""
    return rows.xp.where(rows.xp.isfinite(origin), origin, 0.0).astype(rows.dtype)
