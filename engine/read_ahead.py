"""Rows of an array on disk in pieces, the next one read while this one is worked on, within a limit of memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

# Bytes in a piece: large enough for a disk to read at its full rate. There is one more than are kept.
PIECE_BYTES = 2**26


def is_on_disk(source: Any) -> bool:
    """Whether an array's values are read when they are asked for: a memory map, or an array of a state dump."""
    if isinstance(source, np.memmap):
        return True
    return not isinstance(source, np.ndarray | torch.Tensor) and not hasattr(source, "__cuda_array_interface__")


def read_ahead(source: Any, step: int, kept: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row of each piece of all rows, and the piece.

    Args:
        source: [N, H].
        step: rows in a piece.
        kept: how many of the pieces yielded last stay as they are: 1, until the next one is asked for; 2, until the one
            after the next is.
    """
    n_rows, width = source.shape
    buffers = [np.empty((min(step, n_rows), width), source.dtype) for _ in range(kept + 1)]
    firsts = range(0, n_rows, step)

    def read(number: int) -> np.ndarray:
        first = firsts[number]
        last = min(first + step, n_rows)
        piece = buffers[number % len(buffers)][: last - first]
        # Straight into the buffer, where the source can; a slice of it may be a copy already.
        if isinstance(source, np.ndarray) or not hasattr(source, "read_into"):
            piece[...] = source[first:last]
        else:
            source.read_into(piece, first)
        return piece

    with ThreadPoolExecutor(1) as reader:
        task = reader.submit(read, 0) if len(firsts) else None
        for number, first in enumerate(firsts):
            assert task is not None
            piece = task.result()
            if number + 1 < len(firsts):
                task = reader.submit(read, number + 1)
            yield first, piece
