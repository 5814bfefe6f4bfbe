"""CUDA C kernels built with the host's compiler and run on NumPy arrays, one thread after another.

Threads of a block that wait for each other (`__syncthreads`) are fibers here: each runs to the barrier before the first
continues, and shared memory holds garbage when a block begins. Communication between the threads of a warp cannot be
run in this way: a kernel that shares sums within a warp uses the macro LANES, which is 1 here.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

TYPES = {
    "float32": "float",
    "float64": "double",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "bool": "bool",
}
DTYPES = {c_type: np.dtype(name) for name, c_type in TYPES.items()}
# What the device's compiler defines.
CUDA = r"""
#include <cmath>
#include <cstring>
using namespace std;
#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static
#define __launch_bounds__(n)
struct Place { unsigned int x, y, z; };
static Place threadIdx, blockIdx, blockDim, gridDim;
inline void __syncthreads();
template <typename T, typename V> inline T atomicAdd(T* at, V value) { T old = *at; *at += value; return old; }
template <typename T> inline T atomicMin(T* at, T value) { T old = *at; if (value < old) *at = value; return old; }
template <typename T> inline T atomicMax(T* at, T value) { T old = *at; if (value > old) *at = value; return old; }
template <typename To, typename From> inline To bits_as(From from) { To to; memcpy(&to, &from, sizeof to); return to; }
inline unsigned int __float_as_uint(float value) { return bits_as<unsigned int>(value); }
inline float __uint_as_float(unsigned int value) { return bits_as<float>(value); }
inline long long __double_as_longlong(double value) { return bits_as<long long>(value); }
"""

# How the threads of a block are run; `body` is a call of the kernel.
FIBERS = r"""
#include <ucontext.h>
#include <functional>
#include <vector>
static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<char> stacks, finished;
static std::function<void()> body;
inline void __syncthreads() { swapcontext(&fibers[threadIdx.x], &scheduler); }
static void fiber() { body(); finished[threadIdx.x] = 1; }
static void run_block() {
    const size_t n = blockDim.x, stack = 1 << 14;
    fibers.resize(n), stacks.resize(n * stack), finished.assign(n, 0);
    for (size_t i = 0; i < n; i++) {
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = &stacks[i * stack], fibers[i].uc_stack.ss_size = stack;
        fibers[i].uc_link = &scheduler;
        makecontext(&fibers[i], fiber, 0);
    }
    for (bool more = true; more;) {
        more = false;
        for (threadIdx.x = 0; threadIdx.x < n; threadIdx.x++) {
            if (finished[threadIdx.x]) continue;
            swapcontext(&scheduler, &fibers[threadIdx.x]);
            more |= !finished[threadIdx.x];
        }
    }
}
"""


def compiler() -> str:
    """Return the C++ compiler; skip the test if there is none."""
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("needs a C++ compiler")
    return found


@functools.cache
def library(source: str) -> ctypes.CDLL:
    """Build C++ source; skip the test if there is no compiler."""
    folder = Path(tempfile.gettempdir()) / f"gatescope-host-kernels-{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    if not (folder / "kernel.so").exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            (Path(scratch) / "kernel.cpp").write_text(source)
            command = [compiler(), "-O2", "-shared", "-fPIC", "-std=c++17", "-o", "kernel.so", "kernel.cpp"]
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            folder.mkdir(exist_ok=True)
            (Path(scratch) / "kernel.so").replace(folder / "kernel.so")
    return ctypes.CDLL(str(folder / "kernel.so"))


def parameters(text: str) -> list[tuple[str, str]]:
    """Return the type and the name of each parameter in a list such as "float32 x, T y"."""
    return [tuple(part.split()[-2:]) for part in text.split(",")]


def elementwise(inputs: str, outputs: str, operation: str, preamble: str, arrays: list) -> list[np.ndarray]:
    """Run an operation of `cupy.ElementwiseKernel` on NumPy arrays and return the outputs."""
    shape = np.broadcast_shapes(*(np.shape(array) for array in arrays))
    known, values, results = {}, [], []
    for (kind, _), array in zip(parameters(inputs), arrays, strict=True):
        dtype = np.dtype(known.setdefault(kind, array.dtype) if len(kind) == 1 else kind)
        # CuPy converts no array.
        assert array.dtype == dtype, f"{array.dtype} where {dtype} is expected"
        values.append(np.ascontiguousarray(np.broadcast_to(array, shape)))
    for kind, _ in parameters(outputs):
        results.append(np.empty(shape, known.get(kind, kind)))
    names = [name for _, name in parameters(inputs) + parameters(outputs)]
    types = [TYPES[str(value.dtype)] for value in values + results]
    typedefs = "".join(f"typedef {TYPES[str(dtype)]} {kind};\n" for kind, dtype in known.items())
    pointers = ", ".join(f"{kind}* {name}_" for kind, name in zip(types, names, strict=True))
    reads = "".join(
        f"const {kind} {name} = {name}_[i]; " for kind, name in zip(types, names[: len(values)], strict=False)
    )
    locals_ = "".join(f"{kind} {name}; " for kind, name in zip(types[len(values) :], names[len(values) :], strict=True))
    writes = "".join(f"{name}_[i] = {name}; " for name in names[len(values) :])
    body = f"for (long long i = 0; i < n; i++) {{ {reads}{locals_}{operation}; {writes} }}"
    run = library(f'{CUDA}{preamble}{typedefs}extern "C" void run(long long n, {pointers}) {{ {body} }}').run
    run(ctypes.c_longlong(results[0].size), *(ctypes.c_void_p(value.ctypes.data) for value in values + results))
    return results


def launch(source: str, name: str, grid: tuple, block: tuple, arguments: tuple, shared_mem: int = 0) -> None:
    """Run a `cupy.RawKernel` on contiguous NumPy arrays and scalars of exactly the types that it declares."""
    declared = re.search(rf"__global__\s+void\s+(?:__launch_bounds__\(\w+\)\s+)?{name}\s*\(([^)]*)\)", source)
    assert declared, f"no kernel {name}"
    parameters = [part.replace("const", "").replace("__restrict__", "") for part in declared[1].split(",")]
    assert len(parameters) == len(arguments), f"{name} takes {len(parameters)} arguments, got {len(arguments)}"
    values, names = [], []
    for parameter, argument in zip(parameters, arguments, strict=True):
        kind, pointer, parameter_name = re.fullmatch(r"\s*(.*?)\s*(\*?)\s*(\w+)\s*", parameter).groups()
        names.append(parameter_name)
        if pointer:
            assert argument.dtype == DTYPES[kind], f"{parameter_name} is {kind}*, got {argument.dtype}"
            assert argument.flags.c_contiguous, f"{parameter_name} is not contiguous"
            values.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            # CuPy passes on a NumPy scalar with its own size.
            assert argument.dtype == DTYPES[kind], f"{parameter_name} is {kind}, got {argument!r}"
            values.append({"long long": ctypes.c_longlong, "double": ctypes.c_double}[kind](argument))
    blocks = "".join(
        f"for ({place} = 0; {place} < {size}; {place}++) "
        for place, size in (("blockIdx.y", "gridDim.y"), ("blockIdx.x", "gridDim.x"))
    )
    sizes = "gridDim = {gx, gy, 1}; blockDim = {bx, 1, 1}; "
    call = f"{name}({', '.join(names)});"
    waits = "__syncthreads" in source[declared.end() :].partition("__global__")[0]
    threads = "run_block();" if waits else f"for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) {call}"
    source, clear = _with_shared_memory(source, shared_mem)
    run = library(
        f'{CUDA}{FIBERS}{source}\nextern "C" void run(unsigned gx, unsigned gy, unsigned bx, {declared[1]}) '
        f"{{ {sizes} body = [=] {{ {call} }}; {blocks} {{ {clear} {threads} }} }}"
    ).run
    assert len(block) == 1 and block[0] <= 1024 and all(0 < size < 2**16 for size in grid[1:])
    run(*(ctypes.c_uint(size) for size in ((*grid, 1)[:2] + block)), *values)


def _with_shared_memory(source: str, size: int) -> tuple[str, str]:
    """Return source whose shared memory array has this many bytes, and a statement that fills it with garbage."""
    array = re.search(r"extern __shared__ ([\w ]+) (\w+)\[\];", source)
    if array is None:
        assert size == 0, "no array has that shared memory"
        return source, ""
    kind, name = array.groups()
    declared = f"static {kind} {name}[{max(size, 8)} / sizeof({kind})];"
    return source.replace(array[0], declared), f"memset({name}, 0xa5, sizeof {name});"
