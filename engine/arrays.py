"""NumPy, CuPy, torch and lazy arrays: which module works on one, what counts as rows of states, and conversions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch

from gatescope.engine.errors import InputError
from gatescope.engine.lazy_array import LazyArray

# Below this many values torch converts on the calling thread (its grain size).
CONVERSION_VALUES = 2**15 - 1


def array_namespace(array: Any) -> Any:
    """Return the module whose functions work on an array: cupy for one in a GPU's memory, else numpy."""
    if array.is_cuda if isinstance(array, torch.Tensor) else type(array).__module__.partition(".")[0] == "cupy":
        # CuPy is optional and is needed only where there is a GPU.
        import cupy  # type: ignore[import-not-found, unused-ignore]

        return cupy
    return np


def to_host(array: Any) -> np.ndarray:
    """Return an array in the computer's memory; one that is there already is not copied."""
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().numpy()
    return np.asarray(array) if array_namespace(array) is np else array.get()


def moved(array: Any, xp: Any) -> Any:
    """Return a NumPy or CuPy array as one of `xp`; one that is there already is not copied."""
    return to_host(array) if xp is np else xp.asarray(array)


def as_array(values: Any) -> Any:
    """Return labels or weights as a NumPy or CuPy array, without copying what is one."""
    if isinstance(values, torch.Tensor):
        # The others have no bfloat16; every one of its values is one of float32.
        return _from_torch(values.float() if values.dtype == torch.bfloat16 else values)
    if scipy.sparse.issparse(values):
        raise InputError("labels and weights cannot be sparse: give a dense array, such as .toarray()")
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values, "labels or weights")
    return values if array_namespace(values) is not np else np.asarray(values)


def as_rows(X: Any) -> Any:
    """Return X as something with `shape`, `dtype` and slices of rows, without copying what has them already.

    Args:
        X: [N, H]: NumPy (also a memory map), CuPy, torch, lazy arrays of a state dump, or nested lists.

    Raises:
        InputError: X is sparse, complex, not numeric or not two-dimensional, or has no rows or columns.
    """
    if scipy.sparse.issparse(X):
        raise InputError("X is a sparse matrix: the solver needs a dense array, such as X.toarray()")
    if isinstance(X, tuple) and any(isinstance(each, LazyArray) for each in X):
        names = [each.name for each in X if isinstance(each, LazyArray)]
        raise InputError(f"X is a tuple of lazy arrays: take one of them, or dump.states({names})")
    if isinstance(X, torch.Tensor):
        X = _from_torch(X)
    elif isinstance(X, np.ma.MaskedArray):
        X = _unmasked(X, "X")
    elif (
        not all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__"))
        or hasattr(X, "iloc")
        or isinstance(X, np.matrix)  # whose slices never have one dimension
    ):
        X = np.asarray(X)
    if len(X.shape) != 2:
        how = "X.reshape(-1, 1) if it is a single unit, X.reshape(1, -1) if it is a single row"
        if len(X.shape) > 2:
            how = f"X.reshape(-1, {X.shape[-1]}) makes a row of each step of each sequence"
        raise InputError(f"X has the shape {tuple(X.shape)}: expected two dimensions [N, H]. Reshape your data: {how}")
    if not isinstance(X, torch.Tensor):
        kind = np.dtype(X.dtype).kind
        if kind == "c":
            raise InputError("X has complex values. Complex data not supported: give real numbers")
        if kind in "OUSV":
            X = _numeric(X)
        elif kind not in "biuf":
            raise InputError(f"X has the dtype {X.dtype}: expected real numbers")
    if X.shape[0] == 0:
        raise InputError(f"X has the shape {tuple(X.shape)}: 0 sample(s) where a minimum of 1 is required")
    if X.shape[1] == 0:
        raise InputError(f"X has 0 feature(s) (shape={tuple(X.shape)}) while a minimum of 1 is required.")
    return X


def _unmasked(values: np.ma.MaskedArray, what: str) -> np.ndarray:
    """Return the values of a masked array that masks none."""
    if np.ma.getmaskarray(values).any():
        raise InputError(f"{what} with masked values: give positions that do not count a sample_weight of 0 instead")
    return np.asarray(values.data)


def _from_torch(X: torch.Tensor) -> Any:
    """Return a tensor as the array that shares its memory; bfloat16 stays a tensor: the others have no such type."""
    X = X.detach()
    if X.layout != torch.strided or X.is_meta:
        raise InputError(f"a tensor of layout {X.layout} on {X.device}: give a dense one, such as .to_dense()")
    if X.dtype == torch.bfloat16:
        return X
    xp = array_namespace(X)
    try:
        return X.numpy() if xp is np else xp.from_dlpack(X)
    except (BufferError, TypeError) as error:
        raise InputError(f"a tensor of {X.dtype} is not supported ({error}): give one of float32") from None


def _numeric(X: Any) -> np.ndarray:
    try:
        return np.asarray(X).astype(np.float64)
    except ValueError as error:
        raise InputError(f"X holds values that are not numbers ({error}): give an array of real numbers") from error


def computing_dtype(X: Any) -> type:
    """Return the precision to compute in: float32 for values of 32 bits or fewer in floating point, else float64."""
    if isinstance(X, torch.Tensor):
        return np.float32
    return np.float32 if np.dtype(X.dtype) in (np.float16, np.float32) else np.float64


def convert(values: Any, out: np.ndarray, shift: np.ndarray | None = None) -> None:
    """Copy rows into an array of another precision, on the calling thread.

    Args:
        values: [b, H], an array or a torch tensor in the computer's memory.
        out: [b, H].
        shift: [H] of the dtype of `out`, subtracted from each row; None subtracts nothing.
    """
    if isinstance(values, torch.Tensor) and values.dtype == torch.float16:
        values = values.numpy()
    if isinstance(values, np.ndarray) and values.dtype == np.float16:
        # Here because Numba takes half a second to import, which only passes on the CPU need.
        from gatescope.engine.half_host import widen, widens

        if widens(values, out):
            widen(values, out, shift)
            return
    if isinstance(values, torch.Tensor):
        step, target = max(1, CONVERSION_VALUES // out.shape[1]), torch.from_numpy(out)
        for part, values_part in zip(target.split(step), values.split(step), strict=True):
            part.copy_(values_part)
    else:
        out[...] = values
    if shift is not None:
        out -= shift


def as_tensor(array: Any) -> torch.Tensor:
    """Return the torch tensor that shares the memory of a CuPy array; a tensor is returned as it is."""
    return array if isinstance(array, torch.Tensor) else torch.from_dlpack(array)
