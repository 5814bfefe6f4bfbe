"""One memory and one stream for CuPy and torch.

Two caching allocators on a GPU each hold memory that the other lacks. While the solver works, CuPy takes its memory
from torch's, and both put their work on torch's current stream, so that neither ever waits for the other. An array that
outlives the context stays valid: it owns a tensor, and its memory goes back to torch when that is freed. Beside it
stands how a tensor goes to a GPU without waiting for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.arrays import array_namespace


@contextmanager
def torch_memory(array: Any) -> Iterator[None]:
    """Let CuPy allocate through torch's allocator on the GPU of an array, and work on torch's current stream there.

    Args:
        array: CuPy array or torch tensor in the memory of a GPU; for anything else nothing changes.
    """
    if array_namespace(array) is np:
        yield
        return
    # CuPy is optional and is needed only where there is a GPU.
    import cupy  # type: ignore[import-not-found, unused-ignore]

    device = array.device.index if isinstance(array, Tensor) else array.device.id
    stream = torch.cuda.current_stream(device)

    def allocate(size: int) -> Any:
        # No Python function frees it: in a cycle, the collector may clear the function before the array.
        owner = torch.empty(size, dtype=torch.uint8, device=f"cuda:{device}")
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(owner.data_ptr(), size, owner, device), 0)

    with (
        cupy.cuda.Device(device),
        cupy.cuda.ExternalStream(stream.cuda_stream, device),
        cupy.cuda.using_allocator(allocate),
    ):
        yield


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Bring a tensor of the CPU to a device, without waiting for what a GPU works on."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
