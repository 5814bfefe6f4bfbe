"""Whether a CUDA graph records what layers launch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# The number of callers, in any thread, that want a graph's launches: autograd runs backward in a thread of its own.
_as_recorded = 0


@contextmanager
def as_recorded() -> Iterator[None]:
    """Let layers on a GPU run as a CUDA graph will launch them, so that everything it records is compiled beforehand.

    For the calls that warm up what is captured next. Without it they may run stacked layers by other kernels than the
    graph, which would then compile its own while it records.
    """
    global _as_recorded
    _as_recorded += 1
    try:
        yield
    finally:
        _as_recorded -= 1


def recording(x: Tensor) -> bool:
    """Whether work on x is now being recorded in a CUDA graph, or is to be done as if it were."""
    return x.is_cuda and (_as_recorded > 0 or torch.cuda.is_current_stream_capturing())
