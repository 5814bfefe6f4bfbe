"""Several processes working together under `torchrun` (torch.distributed): who is who, and what they share.

A command joins them by `joined`; a script of one's own does by `torch.distributed.init_process_group("gloo")`, or
"nccl" with a GPU each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from gatescope.engine.arrays import array_namespace, as_tensor
from gatescope.engine.errors import InputError, RefusedElsewhere
from gatescope.engine.torchrun import started_processes

# The first process validates, or puts a large dump together, while the others wait; one that ended is known at once.
# The milliseconds fit a 32-bit integer.
PATIENCE = timedelta(days=14)


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Work with the other processes that torchrun has started, if it has; each takes a GPU of its own.

    Args:
        device: "cpu" or "cuda".

    Raises:
        InputError: another process ended before its time.
    """
    if started_processes() == 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    except RuntimeError as error:
        if not _is_of_another(error):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"torchrun's processes could not connect ({reason}): if one of them stopped, see its message"
        ) from None
    try:
        yield
    except RuntimeError as error:
        if not _is_of_another(error):
            raise
        raise InputError("another process ended: see its message") from None
    finally:
        distributed.destroy_process_group()


def _is_of_another(error: RuntimeError) -> bool:
    """Whether an error came from the exchange with another process."""
    # Errors of gloo are plain RuntimeErrors.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def own_rows(n_rows: int) -> tuple[int, int]:
    """Return the first row of this process's share of some rows, and the row after its last."""
    everyone = everybody()
    return n_rows * everyone.rank // everyone.size, n_rows * (everyone.rank + 1) // everyone.size


class Processes:
    """The processes that share some work; alone, every operation returns what it is given.

    Each holds a shard of the rows of a fit, and all take the same decisions.

    Args:
        several: whether they are those of the default process group, or this one alone.

    Attributes:
        size: the number of processes.
        rank: the number of this one.

    Raises:
        InputError: there is no process group to share with.
    """

    def __init__(self, several: bool):
        if several and not distributed.is_initialized():
            raise InputError(
                "distributed=True, but this process is not connected to others: start the script with torchrun and "
                "call torch.distributed.init_process_group('gloo') first"
            )
        self.rank = distributed.get_rank() if several else 0
        self.size = distributed.get_world_size() if several else 1

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait until all processes have left the block, and go on only if no input was refused in it.

        A process that left alone would keep the others waiting. Inside the block nothing may be exchanged.

        Raises:
            InputError: this process refused its input.
            RefusedElsewhere: another one did.
        """
        refused: InputError | None = None
        try:
            yield
        except InputError as error:
            refused = error
        if self.total(refused is not None) > 0:
            raise refused or RefusedElsewhere("another process rejected its input: see its message")

    def check_equal(self, what: str, numbers: Sequence[float]) -> None:
        """Raise an InputError in all processes unless each has the same numbers for something."""
        if (self.largest(numbers) != self.smallest(numbers)).any():
            raise InputError(f"the processes differ in {what}, here {list(numbers)}: expected the same in all of them")

    def totals(self, values: list[Any]) -> list[Any]:
        """Return float64 arrays summed over all processes, by one exchange; they may be overwritten."""
        if self.size == 1:
            return values
        tensors = [_tensor(value) for value in values]
        # One exchange, also where some lie in a GPU's memory and others do not.
        device = next((tensor.device for tensor in tensors if tensor.is_cuda), tensors[0].device)
        flat = torch.cat([tensor.reshape(-1).to(device) for tensor in tensors])
        parts = self._reduced(flat, distributed.ReduceOp.SUM).split([tensor.numel() for tensor in tensors])
        placed = [part.reshape(tensor.shape).to(tensor.device) for part, tensor in zip(parts, tensors, strict=True)]
        return [_like(tensor, value) for tensor, value in zip(placed, values, strict=True)]

    def total(self, value: Any) -> float:
        """Return a number summed over all processes."""
        return float(self.totals([np.array(float(value))])[0])

    def largest(self, values: Any) -> np.ndarray:
        """Return the elementwise maximum over all processes, float64; NaN counts as the largest."""
        values = np.asarray(values, dtype=np.float64)
        if self.size == 1:
            return values
        finite = np.where(np.isnan(values), np.inf, values)
        return self._reduced(torch.from_numpy(np.atleast_1d(finite)), distributed.ReduceOp.MAX).numpy()[
            () if values.ndim else 0
        ]

    def smallest(self, values: Any) -> np.ndarray:
        """Return the elementwise minimum over all processes, float64; NaN counts as the smallest."""
        return -self.largest(-np.asarray(values, dtype=np.float64))

    def sizes(self, n_rows: int) -> np.ndarray:
        """Return how many rows each process holds, int64 [processes]."""
        counts = np.zeros(self.size)
        counts[self.rank] = n_rows
        return np.asarray(self.totals([counts])[0]).astype(np.int64)

    def first_row(self, n_rows: int) -> int:
        """Return how many rows the processes before this one hold together."""
        return int(self.sizes(n_rows)[: self.rank].sum())

    def union(self, values: np.ndarray) -> np.ndarray:
        """Return the sorted distinct integers of all processes, int64."""
        return np.unique(self.rows_of_all(np.unique(values).astype(np.int64)))

    def rows_of_all(self, values: np.ndarray) -> np.ndarray:
        """Return the rows of all processes, in their order; only the number of rows may differ."""
        if self.size == 1:
            return values
        n_rows = self.sizes(len(values))
        padded = np.zeros((int(n_rows.max()), *values.shape[1:]), values.dtype)
        padded[: len(values)] = values
        own = exchangeable(torch.from_numpy(padded))
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(gathered, own)
        return np.concatenate([rows[:n].cpu().numpy() for rows, n in zip(gathered, n_rows, strict=True)])

    def columns_of_all(self, value: Tensor) -> Tensor:
        """Return the tensors [L, B, H] of all processes side by side, in their order; all have the same shape."""
        if self.size == 1:
            return value
        parts = [torch.empty_like(value) for _ in range(self.size)]
        distributed.all_gather(parts, value.contiguous())
        return torch.cat(parts, dim=1)

    def _reduced(self, tensor: torch.Tensor, operation: Any) -> torch.Tensor:
        there = exchangeable(tensor)
        distributed.all_reduce(there, operation)
        return there.to(tensor.device)


def exchangeable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor where the processes exchange theirs: NCCL knows GPU memory alone, Gloo sends none of it."""
    backend = distributed.get_backend()
    return tensor.cuda() if backend == "nccl" else tensor.cpu() if backend == "gloo" else tensor


def _tensor(value: Any) -> torch.Tensor:
    """Return an array as a tensor of float64 where it lies."""
    return torch.as_tensor(value if array_namespace(value) is np else as_tensor(value), dtype=torch.float64)


def _like(tensor: torch.Tensor, value: Any) -> Any:
    """Return a tensor as the kind of array that it was made of."""
    xp = array_namespace(value)
    return tensor.numpy() if xp is np else xp.from_dlpack(tensor)


ALONE = Processes(False)


def everybody() -> Processes:
    """Return all processes that have joined, or this one alone."""
    return Processes(distributed.is_initialized())
