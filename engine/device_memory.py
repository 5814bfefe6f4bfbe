"""One memory and one stream for CuPy and torch.

Two caching allocators on a GPU each hold memory that the other lacks. While the solver works, CuPy takes its memory
from torch's, and both put their work on torch's current stream, so that neither ever waits for the other. An array that
outlives the context stays valid: its memory goes back to torch when it is freed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def _free(pointer: int, device_id: int) -> None:
    """Give memory back to torch.

    Every array calls it, and garbage collection may find arrays of a cycle long afterwards: a function that nothing but
    these knew would be cleared with them before they call it, which ends the process.
    """
    torch.cuda.caching_allocator_delete(pointer)


@contextmanager
def torch_memory(array: Any) -> Iterator[None]:
    """Let CuPy allocate through torch's allocator on the GPU of an array, and work on torch's current stream there.

    Args:
        array: CuPy array or torch tensor in the memory of a GPU.
    """
    # CuPy is optional and is needed only where there is a GPU.
    import cupy  # type: ignore[import-not-found, unused-ignore]

    device = array.device.index if isinstance(array, torch.Tensor) else array.device.id
    stream = torch.cuda.current_stream(device)

    def allocate(size: int, device_id: int) -> int:
        return torch.cuda.caching_allocator_alloc(size, device_id, stream)

    allocator = cupy.cuda.PythonFunctionAllocator(allocate, _free)
    shared_stream = cupy.cuda.ExternalStream(stream.cuda_stream, device)
    with (
        cupy.cuda.Device(device),
        shared_stream,
        cupy.cuda.using_allocator(allocator.malloc),
    ):
        yield
