"""Exact mid-ranks of the values of a unit.

The area under the ROC curve of a unit is a sum of ranks (Mann & Whitney 1947). With weights s the mid-rank of a value v
is the weight below v plus half of the weight at v, and over positions i of the positive class, of weight S1 in all,
`sum_i s_i midrank(x_i) - S1^2 / 2` is the weight of the pairs in which the positive one is higher, ties counted half.
A unit's ranks serve all hypotheses through one product. 16-bit floating-point numbers have only 65,536 codes, so that
their ranks come from a histogram without sorting. With weights 0 and 1 all sums are of half-integers, exact in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import array_namespace


def unit_columns(source: Any, left: int, right: int, kept: Any) -> Any:
    """Return some columns of the kept rows (integers, or None for all) as contiguous rows [units, N]."""
    piece = source[:, left:right]
    if isinstance(piece, torch.Tensor):
        # bfloat16 is the upper half of float32.
        piece = piece.to(torch.float32).numpy()
    if kept is not None:
        piece = piece[kept]
    return piece.T.copy()


def mid_ranks(values: Any, weight: Any = None) -> Any:
    """Return the weight below each value plus half of the weight at it.

    Args:
        values: [N], finite.
        weight: float64 [N], or None for 1 each.

    Returns:
        float64 [N].
    """
    return _ranks_by_histogram(values, weight) if values.dtype == np.float16 else _ranks_by_sorting(values, weight)


def _ranks_by_histogram(values: Any, weight: Any) -> Any:
    xp = array_namespace(values)
    codes = values.view(np.uint16)
    at_code = xp.bincount(codes, weights=weight, minlength=2**16).astype(np.float64)
    # Negative numbers are the upper half of the codes, the largest magnitude last; zero has two codes.
    at_code[0] += at_code[2**15]
    at_code[2**15] = 0.0
    ascending = xp.concatenate([at_code[: 2**15 - 1 : -1], at_code[: 2**15]])
    middle = xp.cumsum(ascending) - 0.5 * ascending
    by_code = xp.concatenate([middle[2**15 :], middle[2**15 - 1 :: -1]])
    by_code[2**15] = by_code[0]
    return by_code[codes]


def _ranks_by_sorting(values: Any, weight: Any) -> Any:
    xp = array_namespace(values)
    order = xp.argsort(values)
    ascending = values[order]
    first = xp.concatenate([xp.ones(1, bool), ascending[1:] != ascending[:-1]])
    starts = xp.flatnonzero(first)
    tie = xp.cumsum(first) - 1
    below = xp.arange(len(values) + 1, dtype=np.float64)
    if weight is not None:
        below[1:] = xp.cumsum(weight[order])
    ends = xp.append(starts[1:], len(values))
    ranks = xp.empty(len(values))
    ranks[order] = (0.5 * (below[starts] + below[ends]))[tie]
    return ranks
