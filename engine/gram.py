"""Weighted means, standard deviations and Gram matrices of the states, accumulated block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import array_namespace, as_tensor, to_host
from gatescope.engine.row_blocks import RowBlocks, check_finite
from gatescope.engine.targets import Weights

# Rows whose mean serves as the origin of the sums; the exact mean is corrected for afterwards.
ORIGIN_ROWS = 1024


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
        origin = column_origin(rows)
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
        # A constant column leaves rounding errors of its values behind.
        self.sd[self.sd <= 8 * np.finfo(rows.dtype).eps * np.abs(self.mean)] = 0.0


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

    def block_moments(block: Any, start: int, stop: int) -> tuple[Any, ...]:
        weight = weights.rows(start, stop, columns)
        share = ((rows.xp.ones((stop - start, 1)) if weight is None else weight) / unit).astype(rows.dtype)
        return share.T @ block, share.T @ (block * block), share.sum(axis=0, dtype=np.float64)

    sums = np.broadcast_to(weights.sums(), (weights.shape[1],))[columns]
    unit = rows.xp.asarray(np.where(sums > 0, sums, 1.0) / rows.processes.total(rows.shape[0]))
    first, second, total = (to_host(value) for value in rows.totals(block_moments, shift=origin))
    with np.errstate(all="ignore"):
        offset = first / total[:, None]
        sd = np.sqrt((second / total[:, None] - offset**2).clip(min=0))
        # As in `Moments`: a constant column leaves rounding errors of its values behind.
        return np.where(sd <= 8 * np.finfo(rows.dtype).eps * np.abs(to_host(origin) + offset), 0.0, sd)


def column_origin(rows: RowBlocks) -> Any:
    """Return a point near the mean [H], so that squares do not cancel in columns far from zero."""
    with np.errstate(all="ignore"):
        values = rows.gather(slice(0, min(ORIGIN_ROWS, rows.shape[0])))
        total, count = rows.processes.totals([values.sum(axis=0, dtype=np.float64), np.array(float(len(values)))])
        origin = total / float(count)
        return rows.xp.where(rows.xp.isfinite(origin), origin, 0.0).astype(rows.dtype)
