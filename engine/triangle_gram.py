"""Upper triangles of Gram matrices on the CPU, added up without the multiplications of the lower ones."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import cython_blas


def gram_adder(n_units: int, dtype: np.dtype, coarse: bool) -> Callable[[np.ndarray, np.ndarray, int, int], None]:
    """Return `add_gram` or, where rows may be rounded and the processor gains by it, `add_rounded_gram`."""
    if coarse:
        # Numba takes a third of a second to import, which only a fit needs.
        from gatescope.engine import rounded_gram

        if rounded_gram.rounds(n_units, dtype):
            return rounded_gram.add_rounded_gram
    return add_gram


def add_gram(total: np.ndarray, rows: np.ndarray, top: int, bottom: int) -> None:
    """Add rows' rows to the rows of a total [H, H] from `top` up to `bottom`, where they lie in its upper triangle."""
    size, (n_rows, n_units) = rows.itemsize, rows.shape
    one = ctypes.byref((ctypes.c_float if size == 4 else ctypes.c_double)(1))
    height, width, depth, stride = (
        ctypes.byref(ctypes.c_int(n)) for n in (bottom - top, n_units - bottom, n_rows, n_units)
    )
    # In the order that BLAS wants, rows is a matrix [H, n] and the triangle the lower one.
    left, corner = rows.ctypes.data + top * size, total.ctypes.data + top * (n_units + 1) * size
    beside = (bottom - top) * size
    _blas("ssyrk" if size == 4 else "dsyrk", 10)(b"L", b"N", height, depth, one, left, stride, one, corner, stride)
    if bottom < n_units:
        multiply = _blas("sgemm" if size == 4 else "dgemm", 13)
        multiply(
            b"N", b"T", width, height, depth, one, left + beside, stride, left, stride, one, corner + beside, stride
        )


@functools.cache
def _blas(name: str, n_arguments: int) -> Any:
    """Return a function of the BLAS that SciPy brings, which lets other threads run; SciPy's own wrappers do not."""
    capsule = cython_blas.__pyx_capi__[name]
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    address_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(address_in(capsule, name_of(capsule)))
