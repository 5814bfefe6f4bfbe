"""Functions compiled for the processor at hand, rows shared among its cores, and memory in large pages."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import mmap
import sys
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Rows of a batch that are enough for a thread of their own: a step reads all weights for them.
SHARE = 8
# Of layers that read no characters.
NO_TOKENS = np.empty(0, np.int64)
# NumPy, too, asks for large pages from here on.
LARGE_BYTES = 4 << 20

_ADVISE = ctypes.CDLL(None).madvise if sys.platform == "linux" else None


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
    return hashlib.sha256(b"".join(text for text in texts if b"numba" in text.lower())).hexdigest()[:16]


def by_shares(work: Callable[[int, int], Any], n_rows: int, n_threads: int | None = None) -> list[Any]:
    """Call a function that needs no interpreter on shares of rows, from the first up to the last, on a thread each.

    It is called once on each share; where no thread can start, as when the interpreter shuts down, here.

    Args:
        work: the function.
        n_rows: how many rows there are.
        n_threads: how many threads, at most; default: torch's number.

    Returns:
        What it returned, in the order of the shares; at least one, which may have no rows.
    """
    n_shares = max(1, min(n_threads or torch.get_num_threads(), n_rows // SHARE))
    edges = [n_rows * k // n_shares // 4 * 4 for k in range(n_shares)] + [n_rows]
    if n_shares == 1:
        return [work(0, n_rows)]
    shares = list(itertools.pairwise(edges))
    done: list[Future[Any]] = [Future() for _ in shares]

    def run(k: int) -> None:
        try:
            done[k].set_result(work(*shares[k]))
        except BaseException as error:  # whoever asked is told
            done[k].set_exception(error)

    for k in range(1, n_shares):
        try:
            Thread(target=run, args=(k,)).start()
        except RuntimeError:
            run(k)
    run(0)
    wait(done)
    return [each.result() for each in done]


def empty(dtype: torch.dtype, device: torch.device, *shape: int) -> Tensor:
    """Return memory, on a CPU in large pages where it is much: they are filled faster."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cpu" and tensor.nbytes >= LARGE_BYTES and _ADVISE is not None:
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        n_bytes = (tensor.data_ptr() + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
        # A system that has none says so, and nothing is lost.
        _ADVISE(ctypes.c_void_p(first), ctypes.c_size_t(n_bytes), mmap.MADV_HUGEPAGE)
    return tensor


def array(tensor: Tensor) -> Any:
    """A tensor's values as NumPy has them, one behind the other in memory: its own where they lie so.

    After `Tensor.numpy` nobody could resize that memory any more, as FSDP does with weights.
    """
    return np.from_dlpack(tensor.detach().contiguous())


def flat(tensor: Tensor | None, like: Tensor | None = None) -> Any:
    """A tensor's values one behind the other; of None none, of the dtype of another tensor or bool."""
    if tensor is None:
        return _nothing(torch.bool if like is None else like.dtype)
    return array(tensor).reshape(-1)


@functools.cache
def _nothing(dtype: torch.dtype) -> Any:
    return array(torch.empty(0, dtype=dtype))
