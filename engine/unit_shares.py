"""Rows that several processes hold, exchanged for units: each process gets all rows of a share of the units.

What is asked of a single unit, such as its ranks, needs all of its values, but no other unit. So nothing has to be
summed over processes: each finds for its share of the units what one process alone would find.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed

from gatescope.engine.arrays import array_namespace, as_tensor
from gatescope.engine.processes import Processes, exchangeable


def exchanged(X: Any, processes: Processes, memory: int) -> Iterator[tuple[slice, Any]]:
    """Yield blocks of units and this process's units of each.

    Args:
        X: this process's rows [n, H], of the same type in all processes.
        processes: those that hold the other rows.
        memory: bytes that a block may take in each process, about; a block has one unit for each process at least.

    Yields:
        which units they are, and their values in the rows of all processes [N, U]; U is 0 where there are more
        processes than units left.
    """
    n_rows = processes.sizes(X.shape[0])
    # A block, its parts and what is received, in the process that has the least memory.
    within = int(processes.smallest(memory // (3 * X.dtype.itemsize * int(n_rows.max()) * processes.size)))
    share = max(1, min(within, -(-X.shape[1] // processes.size)))
    width = share * processes.size
    for left in range(0, X.shape[1], width):
        block = X[:, left : min(left + width, X.shape[1])]
        starts = range(0, width, share)
        parts = [_tensor(block[:, start : start + share]) for start in starts]
        first = min(left + starts[processes.rank], X.shape[1])
        units = slice(first, first + parts[processes.rank].shape[1])
        yield units, _exchange(parts, n_rows, processes.rank)


def _tensor(values: Any) -> torch.Tensor:
    """Return columns [n, U] in one piece."""
    if array_namespace(values) is np and not isinstance(values, torch.Tensor):
        return torch.from_numpy(np.array(values, order="C"))
    return as_tensor(values).contiguous()


def _exchange(parts: list[torch.Tensor], n_rows: np.ndarray, rank: int) -> torch.Tensor:
    """Send each process its part [n, U] and return the parts of this one from all, below each other [N, U]."""
    device, parts = parts[rank].device, [exchangeable(part) for part in parts]
    own = parts[rank]
    whole = own.new_empty((int(n_rows.sum()), own.shape[1]))
    pieces = list(whole.split(n_rows.tolist()))
    pieces[rank].copy_(own)
    # As bytes: not every way of sending knows every type.
    operations = []
    for other in range(len(parts)):
        if other != rank and parts[other].numel():
            operations.append(torch.distributed.P2POp(torch.distributed.isend, parts[other].view(torch.uint8), other))
        if other != rank and pieces[other].numel():
            operations.append(torch.distributed.P2POp(torch.distributed.irecv, pieces[other].view(torch.uint8), other))
    for work in torch.distributed.batch_isend_irecv(operations) if operations else []:
        work.wait()
    return whole.to(device)
