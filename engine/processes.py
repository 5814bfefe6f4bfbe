"""Several processes working together under `torchrun` (torch.distributed): who is who, and what they share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

from gatescope.engine.errors import InputError, RefusedElsewhere

# The first process validates, or puts a large dump together, while the others wait; one that ended is known at once.
# In milliseconds it fits an integer of 32 bits.
PATIENCE = timedelta(days=14)


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Work with the other processes that torchrun has started, if it has; each takes a GPU of its own.

    Args:
        device: "cpu" or "cuda".

    Raises:
        InputError: another process ended before its time.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
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
            f"torchrun's processes could not connect ({reason}): if one of them stopped, its message says why"
        ) from None
    try:
        yield
    except RuntimeError as error:
        if not _is_of_another(error):
            raise
        raise InputError("another process ended; its message says why") from None
    finally:
        distributed.destroy_process_group()


def _is_of_another(error: RuntimeError) -> bool:
    """Whether an error is of what processes exchange; gloo's have no type of their own."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def place() -> tuple[int, int]:
    """The number of this process and how many there are."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def own_rows(n_rows: int) -> tuple[int, int]:
    """The first row of this process's share of some rows, and the row behind its last."""
    rank, size = place()
    return n_rows * rank // size, n_rows * (rank + 1) // size


def meet() -> None:
    """Wait until all processes are here."""
    if distributed.is_initialized():
        distributed.barrier()


@contextmanager
def agreed() -> Iterator[None]:
    """Wait until all processes are behind the block, and go on only if no input was refused in it.

    Raises:
        InputError: this process refused its input.
        RefusedElsewhere: another one did.
    """
    refused: InputError | None = None
    try:
        yield
    except InputError as error:
        refused = error
    device = "cuda" if distributed.is_initialized() and distributed.get_backend() == "nccl" else "cpu"
    if least_of_all(torch.tensor(int(refused is None), device=device)) == 0:
        raise refused or RefusedElsewhere


def mean_of_all(value: Tensor) -> float:
    """The mean of a number over all processes."""
    if not distributed.is_initialized():
        return value.item()
    total = value.clone()
    distributed.all_reduce(total)
    return total.item() / distributed.get_world_size()


def least_of_all(value: Tensor) -> int:
    """The least of a whole number over all processes."""
    if distributed.is_initialized():
        value = value.clone()
        distributed.all_reduce(value, distributed.ReduceOp.MIN)
    return int(value.item())


def joined_columns(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Tensors [L, B, H] with the rows B of all processes side by side, in their order."""
    if not distributed.is_initialized():
        return values
    whole = []
    for value in values:
        parts = [torch.empty_like(value) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, value.contiguous())
        whole.append(torch.cat(parts, dim=1))
    return tuple(whole)
