"""What computing on a CPU takes: functions compiled for the processor at hand, and memory in large pages."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Collection
from pathlib import Path
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

    # Part of the name under which it is kept.
    function.__qualname__ += f"-{_sources()}"
    compile_ = functools.partial(numba.njit, nogil=True, error_model="numpy", fastmath=set(fast))
    try:
        # Kept beside the function's file or in the user's cache.
        return compile_(cache=True)(function)
    except RuntimeError:
        # Neither can be written to.
        return compile_()(function)


@functools.cache
def _sources() -> str:
    """Return a digest of the files that have parts of compiled functions.

    Numba looks for changes in a function's own file, not in those of the functions that became part of it.
    """
    folder = Path(__file__).parents[1]
    texts = (path.read_bytes() for name in ("kernels", "engine") for path in sorted((folder / name).glob("*.py")))
    return hashlib.sha256(b"".join(text for text in texts if b"numba" in text)).hexdigest()[:16]


def empty(dtype: torch.dtype, device: torch.device, *shape: int) -> Tensor:
    """Return memory; on a CPU from NumPy, which asks the system for large pages: they are filled faster."""
    if device.type != "cpu" or 0 in shape:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
