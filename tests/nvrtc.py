"""NVIDIA's runtime compiler, to which CuPy passes its kernels, called without CuPy, driver or GPU."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path


@functools.cache
def compiler() -> ctypes.CDLL:
    """Load libnvrtc, from the package nvidia-cuda-nvrtc or from the system."""
    found = importlib.util.find_spec("nvidia")
    folders = [] if found is None else [Path(folder) for folder in found.submodule_search_locations or ()]
    names = [str(path) for folder in folders for path in sorted(folder.glob("**/lib/libnvrtc.so.*"))]
    # The compiler opens its second library by name only.
    for builtins in (path for folder in folders for path in folder.glob("**/lib/libnvrtc-builtins.so.*")):
        ctypes.CDLL(str(builtins))
    for name in [*names, "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise RuntimeError("no libnvrtc: pip install nvidia-cuda-nvrtc")


@functools.cache
def compiled(source: str, architecture: int) -> tuple[str, str]:
    """Return the PTX of CUDA C source, and the assembler's report on registers and memory of each kernel.

    Args:
        source: the source, without includes.
        architecture: compute capability, such as 90.
    """
    ptx, _ = _compile(source, f"compute_{architecture}", "PTX")
    _, log = _compile(source, f"sm_{architecture}", "CUBIN", "--ptxas-options=-v")
    return ptx, log


def _compile(source: str, target: str, kind: str, *options: str) -> tuple[str, str]:
    library, program = compiler(), ctypes.c_void_p()
    _checked(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None))
    arguments = [f"--gpu-architecture={target}".encode(), b"--std=c++17", *(option.encode() for option in options)]
    code = library.nvrtcCompileProgram(program, len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))
    log = _text(program, "ProgramLog")
    assert code == 0, log
    text = _text(program, kind)
    _checked(library.nvrtcDestroyProgram(ctypes.byref(program)))
    return text, log


def _text(program: ctypes.c_void_p, kind: str) -> str:
    size = ctypes.c_size_t()
    _checked(getattr(compiler(), f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _checked(getattr(compiler(), f"nvrtcGet{kind}")(program, buffer))
    return buffer.raw.rstrip(b"\0").decode("utf-8", "replace")


def _checked(code: int) -> None:
    assert code == 0, f"NVRTC says {code}"
