"""Functions that Numba compiles for the processor at hand."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any


def compiled(function: Callable[..., Any], fast: Collection[str] = ()) -> Callable[..., Any]:
    """Return a function compiled at its first call for the types it is given; it runs without the interpreter's lock.

    Args:
        function: on scalars and NumPy arrays.
        fast: liberties with floating-point arithmetic, by LLVM's names; "contract" lets a product and a sum round once.
    """
    # Takes half a second, which only those who compute on a CPU need.
    import numba

    compile_ = functools.partial(numba.njit, nogil=True, error_model="numpy", fastmath=set(fast))
    try:
        # Kept beside the function's file or in the user's cache.
        return compile_(cache=True)(function)
    except RuntimeError:
        # Neither can be written to.
        return compile_()(function)
