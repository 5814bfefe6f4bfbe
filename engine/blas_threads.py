"""How many threads the BLAS libraries compute on: one, where a pass over rows has all cores with threads of its own."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, local
from typing import Any

import scipy.linalg  # noqa: F401  so that the BLAS of SciPy is loaded, and its threads limited as well
from threadpoolctl import ThreadpoolController


@functools.cache
def _blas_libraries() -> tuple[list[Any], list[Any]]:
    """The BLAS libraries whose number of threads is the process's, and those of which each thread has its own."""
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [library for library in found if getattr(library, "threading_layer", "") == "openmp"]
    return [library for library in found if library not in own], own


class _OneThreadEach:
    """Lets the BLAS libraries compute on the calling thread while any thread of the process is inside.

    The limit of most is the process's: the first to come lowers it, and the last to go brings back what it was. That of
    an OpenBLAS with OpenMP is each thread's own.
    """

    def __init__(self) -> None:
        self._lock, self._n_inside, self._own = Lock(), 0, local()
        self._before: list[int] = []

    def __enter__(self) -> None:
        shared, own = _blas_libraries()
        with self._lock:
            if not self._n_inside:
                self._before = [library.num_threads for library in shared]
                _set_threads(shared, [1] * len(shared))
            self._n_inside += 1
        if not hasattr(self._own, "before"):
            self._own.before = []
        self._own.before.append([library.num_threads for library in own])
        _set_threads(own, [1] * len(own))

    def __exit__(self, *exception: object) -> None:
        shared, own = _blas_libraries()
        _set_threads(own, self._own.before.pop())
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                _set_threads(shared, self._before)

    def threads(self) -> int:
        """How many threads the libraries had before any thread was inside; 1 inside."""
        shared, own = _blas_libraries()
        if getattr(self._own, "before", None):
            return 1
        with self._lock:
            numbers = self._before if self._n_inside else [library.num_threads for library in shared]
        return min([*numbers, *(library.num_threads for library in own)], default=sys.maxsize)


one_thread_each = _OneThreadEach()


def _set_threads(libraries: list[Any], numbers: list[int]) -> None:
    for library, number in zip(libraries, numbers, strict=True):
        # From version 3.8 of threadpoolctl on one thread has OpenBLAS, which may be gone, or another than this.
        clear = getattr(library, "clear_controlling_thread", lambda force: None)
        clear(force=True)
        library.set_num_threads(number)
        clear(force=True)


def thread_count() -> int:
    """Return how many cores a pass may use: the BLAS libraries' present limit, at most those of the process."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, one_thread_each.threads()))


def on_all_cores(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Return what a function makes of each item, in their order; most of its time must be spent without the GIL."""

    def alone(item: Any) -> Any:
        with one_thread_each:
            return function(item)

    with ThreadPoolExecutor(thread_count()) as pool, one_thread_each:
        return list(pool.map(alone, items))
