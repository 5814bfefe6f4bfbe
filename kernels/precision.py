"""The precision in which layers in float32 multiply on a GPU: that of torch.nn's recurrent layers.

torch.nn.LSTM, GRU and RNN multiply in TF32 unless `torch.backends.cudnn.allow_tf32`, or its newer form
`torch.backends.cudnn.rnn.fp32_precision`, says otherwise; matrix products follow a switch of their own, which is off by
default. A module that replaces torch.nn's follows the first. Its persistent kernels support TF32 only, and without it
float32 runs step by step (`gatescope.kernels.schedule.cell_plan`). All other products are torch.mm's, which read the
second switch: it is set while a layer launches them. The references and preactivations are plain torch and follow the
second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# The switch is global to the process: two threads that set it at the same time could leave it changed.
_TURNING = threading.RLock()


def recurrent_precision() -> str:
    """How torch.nn's recurrent layers multiply float32 on a GPU, "tf32" or "ieee", by whichever switch it was set."""
    # The older switch sets this one, too.
    said = torch.backends.cudnn.rnn.fp32_precision  # type: ignore[attr-defined]
    return "tf32" if said == "tf32" else "ieee"


@contextmanager
def recurrent_float32() -> Iterator[None]:
    """Let recurrent layers that run in this context multiply float32 on a GPU in full float32."""
    layers = torch.backends.cudnn.rnn
    with _TURNING:
        before: str = layers.fp32_precision  # type: ignore[attr-defined]
        layers.fp32_precision = "ieee"  # type: ignore[attr-defined]
        try:
            yield
        finally:
            layers.fp32_precision = before  # type: ignore[attr-defined]


@contextmanager
def float32_products_as_cudnn(x: Tensor) -> Iterator[None]:
    """Let matrix products follow the switch of recurrent layers, for layers over x in float32 on a GPU."""
    if not x.is_cuda or x.dtype != torch.float32:
        yield
        return
    with float32_products(recurrent_precision()):
        yield


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Let float32 matrix products on a GPU that are launched in this context multiply in "tf32" or "ieee"."""
    products = torch.backends.cuda.matmul
    with _TURNING:
        before: str = products.fp32_precision
        products.fp32_precision = precision
        try:
            yield
        finally:
            products.fp32_precision = before
