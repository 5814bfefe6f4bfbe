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

# Rows of a batch that are worth a thread of their own: each step reads all weights for them.
SHARE = 8
# For layers that read no characters.
NO_TOKENS = np.empty(0, np.int64)
# From this size on NumPy, too, asks for large pages.
LARGE_BYTES = 4 << 20

_ADVISE = ctypes.CDLL(None).madvise if sys.platform == "linux" else None


def compiled(function: Callable[..., Any], fast: Collection[str] = ()) -> Callable[..., Any]:
    """Return a function that is compiled at its first call, for the types of its arguments, and runs without the GIL.

    Args:
        function: takes scalars and NumPy arrays.
        fast: floating-point liberties by LLVM's names; "contract" lets a product and a sum be fused and round once.
    """
    # Importing it takes half a second, which only those who compute on a CPU need.
    import numba

    # Part of the key of the cache.
    function.__qualname__ += f"-{_sources()}"
    compile_ = functools.partial(numba.njit, nogil=True, error_model="numpy", fastmath=set(fast))
    try:
        # Cached beside the function's file or in the user's cache folder.
        return compile_(cache=True)(function)
    except RuntimeError:
        # Neither is writable.
        return compile_()(function)


@functools.cache
def _sources() -> str:
    """Return a digest of the files whose functions are compiled.

    Numba checks for changes in a function's own file, but not in the files of the functions that it inlines.
    """
    folder = Path(__file__).parents[1]
    texts = (path.read_bytes() for name in ("kernels", "engine") for path in sorted((folder / name).glob("*.py")))
    return hashlib.sha256(b"".join(text for text in texts if b"numba" in text.lower())).hexdigest()[:16]


def by_shares(work: Callable[[int, int], Any], n_rows: int, n_threads: int | None = None) -> list[Any]:
    """Call a function that does not need the GIL on shares of the rows, each on its own thread.

    It is called once for each share, with its first row and the one after its last. If no thread can start, as at the
    interpreter's shutdown, the share runs on the calling thread.

    Args:
        work: the function.
        n_rows: number of rows.
        n_threads: the most threads; torch's number by default.

    Returns:
        Its results, in the order of the shares; at least one, whose share may have no rows.
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
        except BaseException as error:  # raised again in the caller
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
    """Return uninitialised memory; large arrays on a CPU get large pages, which are filled faster."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cpu" and tensor.nbytes >= LARGE_BYTES and _ADVISE is not None:
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        n_bytes = (tensor.data_ptr() + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
        # On a system without large pages the call fails, and nothing is lost.
        _ADVISE(ctypes.c_void_p(first), ctypes.c_size_t(n_bytes), mmap.MADV_HUGEPAGE)
    return tensor


def array(tensor: Tensor) -> Any:
    """A tensor's values as a contiguous NumPy array, without a copy if they are contiguous already.

    After `Tensor.numpy` the memory could not be resized any more, as FSDP does with weights.
    """
    return np.from_dlpack(tensor.detach().contiguous())


def flat(tensor: Tensor | None, like: Tensor | None = None) -> Any:
    """A tensor's values as a flat array; for None an empty one, in the dtype of another tensor or bool."""
    if tensor is None:
        return _nothing(torch.bool if like is None else like.dtype)
    return array(tensor).reshape(-1)


@functools.cache
def _nothing(dtype: torch.dtype) -> Any:
    return array(torch.empty(0, dtype=dtype))
