"""Sums over the rows of several processes: each holds a shard of the rows, and all take the same decisions.

The processes of `torchrun` join with `torch.distributed.init_process_group("gloo")`, or "nccl" with a GPU each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed

from gatescope.engine.arrays import array_namespace, as_tensor
from gatescope.engine.errors import InputError


class Processes:
    """The processes that share one fit; alone, every operation returns what it is given.

    Args:
        distributed: whether the rows are sharded over the default process group.

    Attributes:
        size: the number of processes.
        rank: the number of this one.

    Raises:
        InputError: there is no process group to share with.
    """

    def __init__(self, distributed: bool):
        if distributed and not torch.distributed.is_initialized():
            raise InputError(
                "distributed=True, but this process has joined no others: start the script with torchrun and call "
                "torch.distributed.init_process_group('gloo') first"
            )
        self.size = torch.distributed.get_world_size() if distributed else 1
        self.rank = torch.distributed.get_rank() if distributed else 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise in all processes the InputError that one of them meets inside, where nothing is exchanged.

        A process that left alone would let the others wait for it.
        """
        refused: InputError | None = None
        try:
            yield
        except InputError as error:
            refused = error
        if self.total(refused is not None) == 0:
            return
        raise refused or InputError("the rows of another process were refused, whose message says why")

    def check_equal(self, what: str, numbers: Sequence[float]) -> None:
        """Raise an InputError in all processes unless each has the same numbers for something."""
        largest, smallest = self.largest(numbers), -self.largest([-number for number in numbers])
        if (largest != smallest).any():
            raise InputError(f"the processes differ in {what}, here {list(numbers)}: expected the same in all of them")

    def totals(self, values: list[Any]) -> list[Any]:
        """Return float64 arrays summed over all processes, by one exchange; they may be overwritten."""
        if self.size == 1:
            return values
        tensors = [_tensor(value) for value in values]
        # One exchange, also where some lie in a GPU's memory and others do not.
        device = next((tensor.device for tensor in tensors if tensor.is_cuda), tensors[0].device)
        flat = torch.cat([tensor.reshape(-1).to(device) for tensor in tensors])
        parts = self._reduced(flat, torch.distributed.ReduceOp.SUM).split([tensor.numel() for tensor in tensors])
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
        return self._reduced(torch.from_numpy(np.atleast_1d(finite)), torch.distributed.ReduceOp.MAX).numpy()[
            () if values.ndim else 0
        ]

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
        """Return the rows of all processes, in their order; all have the same type and differ in their number alone."""
        if self.size == 1:
            return values
        n_rows = self.sizes(len(values))
        padded = np.zeros((int(n_rows.max()), *values.shape[1:]), values.dtype)
        padded[: len(values)] = values
        own = exchangeable(torch.from_numpy(padded))
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        torch.distributed.all_gather(gathered, own)
        return np.concatenate([rows[:n].cpu().numpy() for rows, n in zip(gathered, n_rows, strict=True)])

    def _reduced(self, tensor: torch.Tensor, operation: Any) -> torch.Tensor:
        there = exchangeable(tensor)
        torch.distributed.all_reduce(there, operation)
        return there.to(tensor.device)


def exchangeable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor where the processes exchange theirs: NCCL knows GPU memory alone, Gloo sends none of it."""
    backend = torch.distributed.get_backend()
    return tensor.cuda() if backend == "nccl" else tensor.cpu() if backend == "gloo" else tensor


def _tensor(value: Any) -> torch.Tensor:
    """Return an array as a tensor of float64 where it lies."""
    return torch.as_tensor(value if array_namespace(value) is np else as_tensor(value), dtype=torch.float64)


def _like(tensor: torch.Tensor, value: Any) -> Any:
    """Return a tensor as the kind of array that it was made of."""
    xp = array_namespace(value)
    return tensor.numpy() if xp is np else xp.from_dlpack(tensor)


ALONE = Processes(False)
