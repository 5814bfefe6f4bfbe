"""What computing on a CPU takes: functions compiled for the processor at hand, and memory in large pages."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor


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


def empty(dtype: torch.dtype, device: torch.device, *shape: int) -> Tensor:
    """Return memory; on a CPU from NumPy, which asks the system for large pages: they are filled faster."""
    if device.type != "cpu" or 0 in shape:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
