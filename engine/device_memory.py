"""One memory and one stream for CuPy and torch.

Two caching allocators on a GPU each hold memory that the other lacks. While the solver works, CuPy takes its memory
from torch's, and both put their work on torch's current stream, so that neither ever waits for the other. An array that
outlives the context stays valid: it owns a tensor, and its memory goes back to torch when that is freed. Beside it
stand how states go to a GPU, and how a tensor does without waiting for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.arrays import array_namespace
from gatescope.engine.errors import InputError
from gatescope.engine.read_ahead import PIECE_BYTES, read_ahead


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


def require_gpu() -> None:
    """Refuse to work on a GPU where there is none.

    Raises:
        InputError: torch finds none.
    """
    if not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA GPU here; use --device cpu")


def require_cupy() -> None:
    """Refuse to go on without CuPy.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        import cupy  # noqa: F401
    except ImportError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"this needs CuPy, which is missing ({reason}): pip install 'gatescope[cuda]'") from None


def copied_to_gpu(rows: Any) -> Tensor:
    """Copy rows [n, H] to the current GPU, in pieces, the next one read while this one is copied."""
    step = max(1, PIECE_BYTES // (rows.shape[1] * rows.dtype.itemsize))
    copy = torch.empty(rows.shape, dtype=torch.from_numpy(np.empty(0, rows.dtype)).dtype, device="cuda")
    for first, piece in read_ahead(rows, step):
        # Memory that is not pinned has been read when the copy returns.
        copy[first : first + len(piece)].copy_(torch.from_numpy(piece))
    return copy


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Bring a tensor of the CPU to a device, without waiting for what a GPU works on."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
