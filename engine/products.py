"""Products of a block of states with the columns of some problems, and sums of these, by the fastest means there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import array_namespace, as_tensor

# Fewer columns are multiplied faster by NumPy's BLAS, which then is as fast as memory.
FEWEST_COLUMNS = 5


def states_times(states: Any, columns: Any) -> Any:
    """Return X V, [n, W], of X [n, H] and V [H, W], both of one type."""
    if not _few(states, columns):
        return states @ columns
    # Numba takes a third of a second to import, which only a fit needs.
    from gatescope.engine import skinny_product

    return skinny_product.states_times(states, columns)


def states_with(states: Any, columns: Any) -> Any:
    """Return X' R, [H, W], of X [n, H] and R [n, W], both of one type."""
    if not _few(states, columns):
        return states.T @ columns
    from gatescope.engine import skinny_product

    return skinny_product.states_with(states, columns)


def column_sums(values: Any) -> Any:
    """Return the sum of each column of [n, W], float64 [W].

    Thousands of single-precision terms added one by one would be off by more than a fit's tolerance. On a GPU torch
    adds them: CuPy gives up to 32 columns to one block of threads, however many rows there are (5.4 ms for 2^18 rows of
    32 columns on an NVIDIA H100 80GB HBM3, CuPy 14.2).
    """
    xp = array_namespace(values)
    if xp is not np:
        return xp.from_dlpack(as_tensor(values).sum(dim=0, dtype=torch.float64))
    from gatescope.engine import skinny_product

    totals = np.zeros(values.shape[1])
    skinny_product.column_sums(values, totals)
    return totals


def _few(states: Any, columns: Any) -> bool:
    """Whether `gatescope.engine.skinny_product` has this product."""
    return (
        array_namespace(states) is np
        and columns.shape[1] >= FEWEST_COLUMNS
        and states.dtype in (np.float32, np.float64)
        and states.dtype == columns.dtype
        and states.flags.c_contiguous
    )
