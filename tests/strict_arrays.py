"""Arrays that refuse to mix with NumPy's, as CuPy's do, for running the solver's GPU code without a GPU.

An array of this module wraps a NumPy array. Like CuPy's, it refuses to become a NumPy array implicitly or to be added
to one; kernels are built with the host's compiler, and reductions return arrays without dimensions. It is stricter than
CuPy where CuPy would copy silently: indices and values to be written must be arrays of this module.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace

import host_kernels
import numpy as np
import scipy.linalg
import torch

METHODS = """
    all any argmax argsort astype clip copy cumsum diagonal max mean min ravel reshape sum transpose view
"""
FUNCTIONS = """
    abs append arange argmax argsort bincount broadcast_to concatenate cumsum einsum exp eye flatnonzero full hstack
    isfinite log log2 maximum minimum nonzero ones outer sqrt stack sum take_along_axis unique where zeros zeros_like
"""
BINARY = """
    add sub mul truediv floordiv mod pow matmul lt le gt ge eq ne and or xor lshift rshift
"""

# Attributes of the device as cudaDeviceGetAttribute gives them: bytes for a multiprocessor, and number of these.
SHARED_BYTES, N_MULTIPROCESSORS = 227 * 2**10, 4
ATTRIBUTES = {16: N_MULTIPROCESSORS, 97: SHARED_BYTES}


class ndarray:
    """A stand-in for cupy.ndarray."""

    __module__ = "cupy"
    __array_priority__ = 100

    def __init__(self, values):
        self._values = values

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: self._values.flags)
    T = property(lambda self: ndarray(self._values.T))
    device = property(lambda self: SimpleNamespace(id=0))
    __cuda_array_interface__ = property(lambda self: None)

    def get(self):
        return self._values.copy()

    def item(self):
        return self._values.item()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        assert method == "__call__", f"{ufunc}.{method}"
        return called(ufunc, inputs, options)

    def __array_function__(self, function, _, arguments, options):
        return getattr(sys.modules["cupy"], function.__name__)(*arguments, **options)

    def __dlpack__(self, **options):
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()

    def __getitem__(self, index):
        return wrapped(self._values[plain(index)])

    def __setitem__(self, index, value):
        self._values[plain(index)] = plain(value)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (wrapped(value) for value in self._values)

    def __bool__(self):
        return bool(self._values)

    def __float__(self):
        return float(self._values)

    def __int__(self):
        return int(self._values)

    def __neg__(self):
        return ndarray(-self._values)

    def __invert__(self):
        return ndarray(~self._values)

    def __abs__(self):
        return ndarray(abs(self._values))

    __hash__ = None


def plain(value):
    """Return a value that NumPy can use, or raise the TypeError that CuPy would raise."""
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, np.ndarray | torch.Tensor):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(plain(each) for each in value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value


def wrapped(value):
    if isinstance(value, tuple | list):
        return type(value)(wrapped(each) for each in value)
    return ndarray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def called(function, arguments, options):
    # A GPU does not warn about overflow.
    with np.errstate(all="ignore"):
        return wrapped(function(*plain(arguments), **plain(options)))


def _method(name):
    return lambda self, *arguments, **options: called(getattr(self._values, name), arguments, options)


def _in_place(name):
    def operate(self, other):
        getattr(self._values, name)(plain(other))
        return self

    return operate


def _reduction(name):
    """A reduction; CuPy's take no initial value."""
    return lambda self, axis=None, out=None, keepdims=False: called(
        getattr(self._values, name), (), {"axis": axis, "keepdims": keepdims}
    )


for _name in METHODS.split():
    setattr(ndarray, _name, _method(_name))
for _name in ("max", "min"):
    setattr(ndarray, _name, _reduction(_name))
for _name in BINARY.split():
    setattr(ndarray, f"__{_name}__", _method(f"__{_name}__"))
    if _name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__r{_name}__", _method(f"__r{_name}__"))
        setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))


class ElementwiseKernel:
    def __init__(self, in_params, out_params, operation, name, preamble=""):
        self.texts = in_params, out_params, operation, preamble
        self.n_inputs = len(in_params.split(","))

    def __call__(self, *arrays):
        values = [np.asarray(plain(array)) for array in arrays]
        results = host_kernels.elementwise(*self.texts, values[: self.n_inputs])
        for given, result in zip(values[self.n_inputs :], results, strict=False):
            assert given.dtype == result.dtype, f"{given.dtype} where {result.dtype} is expected"
            given[...] = result
        results = list(arrays[self.n_inputs :]) or wrapped(results)
        return results[0] if len(results) == 1 else tuple(results)


class RawKernel:
    def __init__(self, code, name, options=()):
        self.code, self.name = code, name
        self.max_dynamic_shared_size_bytes = 48 * 2**10

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= SHARED_BYTES, f"{shared_mem} bytes are not granted"
        values = tuple(plain(value) for value in args)
        host_kernels.launch(self.code, self.name, grid, block, values, shared_mem)


def _asarray(values, dtype=None):
    """As CuPy does, share the memory of an array of this module, and copy one of NumPy's."""
    return ndarray(np.asarray(values._values, dtype=dtype)) if isinstance(values, ndarray) else _array(values, dtype)


def _array(values, dtype=None):
    return ndarray(np.array(plain(values) if not isinstance(values, np.ndarray) else values, dtype=dtype))


@contextmanager
def _errstate(linalg):
    assert linalg == "raise"
    yield


def _empty(shape, dtype=np.float64):
    """Uninitialised memory, filled with NaN or a large number."""
    dtype = np.dtype(dtype)
    return ndarray(np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype))


def _function(name):
    return lambda *arguments, **options: called(getattr(np, name), arguments, options)


def cupy_module():
    """Return a module that stands in for cupy."""
    module = ModuleType("cupy")
    for name in FUNCTIONS.split():
        setattr(module, name, _function(name))
    module.ndarray, module.asarray, module.array = ndarray, _asarray, _array
    module.empty = _empty
    module.ascontiguousarray = lambda values: ndarray(np.ascontiguousarray(plain(values)))
    module.from_dlpack = lambda tensor: ndarray(tensor.numpy())
    module.linalg = SimpleNamespace(cholesky=lambda matrix: called(np.linalg.cholesky, (matrix,), {}))
    module.ElementwiseKernel, module.RawKernel = ElementwiseKernel, RawKernel
    runtime = SimpleNamespace(getDevice=lambda: 0, deviceGetAttribute=lambda attribute, device: ATTRIBUTES[attribute])
    # There is no stream and no allocator to share.
    contexts = dict.fromkeys(("Device", "ExternalStream", "using_allocator"), lambda *_: nullcontext())
    module.cuda = SimpleNamespace(runtime=runtime, **contexts)
    return module


class DeviceTensor(torch.Tensor):
    """A tensor that claims to be in a GPU's memory."""

    is_cuda = True


def stand_in(monkeypatch):
    """Make the engine find this module where it looks for cupy; return it."""
    module = cupy_module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    for name, contents in (("", {"errstate": _errstate}), (".scipy", {}), (".scipy.linalg", {})):
        extension = ModuleType("cupyx" + name)
        vars(extension).update(contents)
        monkeypatch.setitem(sys.modules, "cupyx" + name, extension)
    extension.solve_triangular = lambda *arguments, **options: called(scipy.linalg.solve_triangular, arguments, options)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    return module
