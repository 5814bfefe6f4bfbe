"""Which implementation of a layer runs: the plain reference, the loop of in-place operators, or the Triton kernels."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.autograd import forward_ad

BACKENDS = ("reference", "loop", "triton")
FUSED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)  # of the Triton kernels
# Looked up once, at import: torch.compile does not trace the lookup.
_TRITON = find_spec("triton") is not None and torch.version.hip is None


def choose_backend(backend: str | None, x: Tensor, *others: Tensor | None) -> str:
    """The implementation to run: the one asked for, else "triton" where its kernels apply on a GPU, else "loop".

    Under a transform of torch.func or forward-mode differentiation it is "reference", the only one that supports these.

    Args:
        backend: one of `BACKENDS`, or None.
        x: the input.
        others: states and weights, which may have forward-mode tangents even if the input has none.

    Raises:
        ValueError: for an unknown backend, or one that cannot run here.
        NotImplementedError: for a backend without a forward-mode derivative, if forward mode is on.
    """
    fused = x.dtype in FUSED_DTYPES and ((x.is_cuda and has_triton()) or interpreting()) and x.shape[1] > 0
    if backend is None:
        if transformed(x, *others):
            return "reference"
        return "triton" if fused and x.is_cuda else "loop"
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected None or one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "triton" and not fused:
        raise ValueError(
            f"backend 'triton': expected float16, bfloat16 or float32 on a CUDA device and at least one row, "
            f"got {x.dtype} {list(x.shape)} on {x.device}"
        )
    if backend != "reference" and _forward_mode(x, *others):
        # torch would take its derivative to be zero.
        raise NotImplementedError(
            f"backend {backend!r}: expected no forward-mode differentiation (torch.func.jvp, jacfwd or a dual level), "
            "which its operators do not support; use backend=None or 'reference'"
        )
    return backend


def transformed(*tensors: Tensor | None) -> bool:
    """Whether torch.func transforms the current code, or a tensor has a forward-mode tangent: both need plain torch."""
    # In a program that torch.compile traces, the second breaks the graph if it is evaluated; so it comes last.
    return _forward_mode(*tensors) or torch._C._functorch.maybe_current_level() is not None


def _forward_mode(*tensors: Tensor | None) -> bool:
    """Whether one of the tensors has a tangent, of a dual level or of torch.func.jvp or jacfwd."""
    # The level is shared by all threads.
    if forward_ad._current_level < 0:
        return False
    # A traced tensor, or one that a transform wraps, does not say whether it has a tangent.
    if torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None:
        return True
    return any(each is not None and forward_ad.unpack_dual(each).tangent is not None for each in tensors)


def has_triton() -> bool:
    """Whether the fused kernels can run on a GPU: Triton is installed, and the GPU takes NVIDIA's instructions."""
    return _TRITON


def interpreting() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"
