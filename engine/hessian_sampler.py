"""Approximate inverses of the Hessians of logistic losses, from a sample of the rows.

For hypothesis k the Hessian of the mean loss in the coefficients is `sum_n h_nk x_n x_n' / S_k + I / (C S_k)` with
h_nk = s_nk p_nk (1 - p_nk). Forming it exactly costs N H^2 multiplications for every hypothesis and step. A few H rows,
drawn with probability proportional to h_nk and weighted by its inverse, give a matrix with nearly the same spectrum
(Xu et al. 2016, sub-sampled Newton with non-uniform sampling), and the less of the data is still undecided the nearer.
The intercept is uncoupled by centring the sample at its weighted mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from gatescope.engine.arrays import to_host
from gatescope.engine.factor import Factor, factor_of
from gatescope.engine.factor_cuda import DeviceFactor, add_gram
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.triangle_gram import gram_adder
from gatescope.engine.unseen_units import UnseenUnits
from gatescope.engine.weights import CHUNK_ROWS

# Rows of a sample that each core has in memory at once.
SAMPLE_ROWS = 128
# Steps to the threshold of a sample.
THRESHOLD_STEPS = 4
# The least rows of a sample, as a share of those that it has with equal curvatures: with hardly more rows than units
# the matrix is nearly singular.
LEAST_SHARE = 0.5


class HessianSampler:
    """Makes factors from rows drawn by their curvature.

    Args:
        rows: X [N, H].
        shift: [H] subtracted from the rows, or None.
        scale: [H], the coefficients are those of X / scale.
        sd: standard deviation of each unit of X over all rows, float64 [H]; 0 for a constant.
        fit_intercept: whether there is an intercept.
        coarse: whether float32 rows may be rounded where that makes products faster: on a GPU to TF32, on a CPU that
            multiplies it to bfloat16. Rounded rows no longer tell which units others determine exactly, which matters
            to problems without a penalty.
    """

    def __init__(
        self, rows: RowBlocks, shift: Any, scale: np.ndarray, sd: np.ndarray, fit_intercept: bool, coarse: bool = False
    ):
        self.rows, self.shift, self.scale, self.fit_intercept = rows, shift, scale, fit_intercept
        self.unseen = UnseenUnits(rows, shift, scale, sd, fit_intercept)
        self.precision = "tf32" if coarse else "ieee"
        if rows.xp is np:
            self._add_gram = gram_adder(rows.shape[1], rows.dtype, coarse)
        else:
            self._add_gram = partial(add_gram, self.precision)
        # Each row has one random number, the fractional part of a multiple of the golden ratio: the same rows are drawn
        # whatever the block size, and evenly over the text.
        first_row = rows.processes.first_row(rows.shape[0])
        self.n_rows = int(rows.processes.total(rows.shape[0]))
        xp, n_rows = rows.xp, rows.shape[0]
        self.threshold = xp.empty(n_rows, np.float32)
        piece_rows = CHUNK_ROWS if xp is np else n_rows
        for start in range(0, n_rows, piece_rows):
            numbers = first_row + xp.arange(start, min(start + piece_rows, n_rows))
            self.threshold[start : start + piece_rows] = numbers * ((math.sqrt(5) - 1) / 2) % 1

    def each(self, make: Callable[[Any, int], None], items: list[Any], at_once: int) -> None:
        """Call `make(item, n_cores)`, which makes a factor, on each item; some at a time, with a share of the cores."""
        n_cores = self.rows.n_threads
        together = len(items) // at_once * at_once if at_once > 1 else 0
        with ThreadPoolExecutor(at_once) as pool:
            for _ in pool.map(lambda item: make(item, n_cores // at_once), items[:together]):
                pass
        for item in items[together:]:
            make(item, n_cores)

    def matrix(
        self, curvature: Any, total: float, n_sampled: int, n_cores: int | None = None
    ) -> tuple[Any, np.ndarray | None]:
        """Return `sum_n h_n x_n x_n' / S` of the sample [H, H], and the mean [H] that was taken out of the rows.

        Only the upper triangle of the matrix is filled: a Cholesky factorisation looks at no more.

        Args:
            curvature: h_n, [N].
            total: S, by which the loss is divided.
            n_sampled: rows to draw, about.
            n_cores: cores that work on it; all by default.
        """
        xp, rows = self.rows.xp, self.rows
        index, weight = self._draw(curvature, n_sampled)
        share = weight / float(total)
        origin, mean = xp.zeros(rows.shape[1], rows.dtype), np.zeros(rows.shape[1])
        curved = rows.processes.total(share.sum(dtype=np.float64))
        # States beyond the range of the precision are noticed in the gradient.
        with np.errstate(all="ignore"):
            if self.fit_intercept:
                origin = self._origin(index[:SAMPLE_ROWS], weight[:SAMPLE_ROWS])
            first, second = rows.processes.totals(self._sums(index, share, origin, n_cores or rows.n_threads))
            if self.fit_intercept:
                # The mean of the first rows is corrected to that of all.
                offset = (first / math.sqrt(curved)).astype(rows.dtype)
                at_once = SAMPLE_ROWS if xp is np else len(offset)
                for start in range(0, len(offset), at_once):
                    second[start : start + at_once] -= xp.outer(offset[start : start + at_once], offset)
                mean = to_host(origin + first / curved).astype(np.float64) / self.scale
            scale = xp.asarray(self.scale.astype(rows.dtype))
            second = second.astype(rows.dtype, copy=False)
            second /= scale
            second /= scale[:, None]
            self.unseen.put_right(second, curvature, curved, mean)
        return second, mean if self.fit_intercept else None

    def _sums(self, index: Any, share: Any, origin: Any, n_cores: int) -> list[Any]:
        """Return sum_n share_n x_n [H] and the upper triangle of sum_n share_n x_n x_n' [H, H], x_n less an origin.

        Each core fills some rows of the triangle.
        """
        xp, rows = self.rows.xp, self.rows
        n_units = rows.shape[1]
        first, second = xp.zeros(n_units), xp.zeros((n_units, n_units), rows.dtype)
        # A GPU is kept busy by larger pieces.
        step = SAMPLE_ROWS if xp is np else rows.block_rows
        # Of equal areas.
        ends = [round(n_units * (1 - math.sqrt(1 - part / n_cores))) for part in range(n_cores + 1)]

        def add(part: int) -> None:
            nonlocal first
            top, bottom = ends[part], ends[part + 1]
            with np.errstate(all="ignore"):
                for start in range(0, len(index), step):
                    piece = slice(start, start + step)
                    sample = rows.gather(index[piece], self.shift)
                    sample -= origin
                    if part == 0:
                        first += share[piece] @ sample
                    sample *= xp.sqrt(share[piece])[:, None]
                    self._add_gram(second, sample, top, bottom)

        rows.each(add, range(n_cores))
        return [first, second]

    def _origin(self, index: Any, weight: Any) -> Any:
        """Return a point near the weighted mean of the sampled rows [H], the same in all processes."""
        sample = self.rows.gather(index, self.shift)
        total, mass = self.rows.processes.totals([weight @ sample, weight.sum(dtype=np.float64)])
        return (total / float(mass)).astype(self.rows.dtype)

    def factor(
        self, curvature: Any, total: float, ridge: Any, n_sampled: int, n_cores: int | None = None
    ) -> Factor | DeviceFactor:
        """Return the factor of one hypothesis, whose penalty in the mean loss is `ridge @ w^2 / 2`."""
        curved = self.rows.processes.total(curvature.sum(dtype=np.float64)) / total
        n_units = self.rows.shape[1]
        if curved > 0:
            matrix, mean = self.matrix(curvature, total, n_sampled, n_cores)
        else:
            # Where every label is certain only the penalty is left.
            matrix, mean = self.rows.xp.zeros((n_units, n_units), self.rows.dtype), None
        matrix.reshape(-1)[:: n_units + 1] += self.rows.xp.asarray(ridge, dtype=self.rows.dtype)
        return factor_of(matrix, mean, curved)

    def _draw(self, curvature: Any, n_sampled: int) -> tuple[Any, Any]:
        """Return the rows drawn and their weights.

        Drawn with the share min(h_n / t, 1) of a threshold t, rows leave a variance of the matrix that is
        t sum_n h_n (1 - share_n) / (sum_n h_n)^2 for each unit. With equal curvatures it is 1 / n for n rows of very
        many. It is about that of `n_sampled` such rows here, or less: where fewer carry the curvature, fewer are drawn.
        """
        xp = self.rows.xp
        summed = self.rows.processes.total
        if n_sampled >= self.n_rows:
            return xp.arange(len(curvature)), curvature
        total = summed(curvature.sum(dtype=np.float64))
        threshold = total / n_sampled
        # The variance grows with the threshold or with its square: halfway between, both are soon met.
        for _ in range(THRESHOLD_STEPS):
            share = xp.minimum(curvature / threshold, 1)
            left = summed((curvature * (1 - share)).sum(dtype=np.float64))
            n_drawn = summed(share.sum(dtype=np.float64))
            longer = math.sqrt(total / (n_sampled * threshold) * (total / left)) if left > 0 else 1.0
            threshold *= min(longer, n_drawn / (LEAST_SHARE * n_sampled))
        share = xp.minimum(curvature / threshold, 1)
        # The row of the largest curvature is always drawn: a sample is never empty.
        largest = int(xp.argmax(curvature))
        if float(curvature[largest]) == float(self.rows.processes.largest(float(curvature[largest]))):
            share[largest] = 1
        index = xp.flatnonzero(self.threshold < share)
        return index, curvature[index] / share[index]
