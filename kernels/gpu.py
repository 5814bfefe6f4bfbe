"""What kernel plans need to know about a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Device:
    """The limits of a GPU, and its name."""

    multiprocessors: int
    shared: int  # bytes of shared memory that one program may have
    warp_groups: bool = False  # four warps multiply 64 rows in one instruction (wgmma of compute capability 9)
    tensor_cores: bool = True  # Triton multiplies on them, float32 in TF32 (compute capability 8 and later)
    name: str = ""  # torch's name of it, under which measurements are kept

    def shared_by(self, layers: int) -> Device:
        """The share of the device that each of several layers has to itself."""
        return replace(self, multiprocessors=self.multiprocessors // layers)


A100 = Device(108, 163 * 1024)
H200 = Device(132, 227 * 1024, True)


def device_of(x: Tensor) -> Device:
    """The limits of the GPU that holds a tensor; an H200's for a tensor on the CPU, for the interpreter."""
    return _limits(x.device.index or 0) if x.is_cuda else H200


def current_device() -> Device:
    """The limits of the current GPU."""
    return _limits(torch.cuda.current_device())


@cache
def _limits(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    shared = getattr(properties, "shared_memory_per_block_optin", 48 * 1024)
    flags = properties.major == 9, properties.major >= 8
    return Device(properties.multi_processor_count, shared, *flags, properties.name)
