"""Products of a block of states with the columns of some problems, by what multiplies them fastest where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.arrays import array_namespace

# Fewer columns are multiplied faster by NumPy's BLAS, which is as fast as memory there.
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


def _few(states: Any, columns: Any) -> bool:
    """Whether `gatescope.engine.skinny_product` has this product."""
    return (
        array_namespace(states) is np
        and columns.shape[1] >= FEWEST_COLUMNS
        and states.dtype in (np.float32, np.float64)
        and states.dtype == columns.dtype
        and states.flags.c_contiguous
    )
