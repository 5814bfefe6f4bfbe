"""Which implementation of a layer runs: the plain reference, the loop of in-place operators, or the Triton kernels."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.autograd import forward_ad

BACKENDS = ("reference", "loop", "triton")
FUSED_DTYPES = (torch.float16, torch.bfloat16, torch.float32)  # of the Triton kernels
# Looked for once, and here: torch.compile does not trace the search.
_TRITON = find_spec("triton") is not None and torch.version.hip is None


def choose_backend(backend: str | None, x: Tensor, *others: Tensor | None) -> str:
    """The implementation to run: as forced, else "triton" for what its kernels take on a GPU, else "loop".

    Under a transform of torch.func or forward-mode differentiation it is "reference", which these go through.

    Args:
        backend: one of `BACKENDS`, or None.
        x: the input.
        others: states and weights, which may be differentiated forward though the input is not.

    Raises:
        ValueError: for an unknown one, or one that cannot run here.
        NotImplementedError: for one that has no forward-mode derivative, where that is on.
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
        # torch would take its derivative for zero.
        raise NotImplementedError(
            f"backend {backend!r}: expected no forward-mode differentiation, which its operators do not have, got one "
            f"of torch.func.jvp, jacfwd or a dual level; use backend=None or 'reference'"
        )
    return backend


def transformed(*tensors: Tensor | None) -> bool:
    """Whether torch.func transforms what runs now, or these are differentiated forward: only plain torch takes part."""
    # In a program that torch.compile traces the second breaks the graph where it is true; it is asked last.
    return _forward_mode(*tensors) or torch._C._functorch.maybe_current_level() is not None


def _forward_mode(*tensors: Tensor | None) -> bool:
    """Whether one of these has a tangent, of a dual level or of torch.func.jvp or jacfwd."""
    # The level is that of all threads.
    if forward_ad._current_level < 0:
        return False
    # What is traced, and what a transform wraps, does not say whether it has one.
    if torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None:
        return True
    return any(each is not None and forward_ad.unpack_dual(each).tangent is not None for each in tensors)


def has_triton() -> bool:
    """Whether the fused kernels can run on a GPU: there is Triton, and its instructions are NVIDIA's."""
    return _TRITON


def interpreting() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"
