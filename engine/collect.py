"""Recurrent states that stay in memory, on the model's device, for probes that need no disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.device_memory import sent
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.errors import InputError
from gatescope.engine.journey import Piece, Reader
from gatescope.engine.record import walked
from gatescope.engine.trained_model import TrainedModel
from gatescope.kernels.host import empty


@dataclass(frozen=True)
class States:
    """A text and its recurrent states in memory, rows in the order of a dump."""

    tokens: np.ndarray  # int64 [N]
    sequence_starts: np.ndarray  # int64 [S + 1]
    document_starts: np.ndarray  # int64 [D + 1]
    arrays: dict[str, Tensor]  # [N, H] each, on the model's device
    initial: dict[str, Tensor]  # [S, H] each, before the first character


def collect(trained: TrainedModel, spec: DumpSpec, reader: Reader, dtype: torch.dtype) -> States:
    """Do what `gatescope.engine.record.record` does, in memory and in any dtype.

    The states are one tensor for each array. Sequences of one length are computed in their place; those of different
    lengths go there from pieces of `gatescope.engine.walk.PIECE_BYTES` in all, or on a GPU from two of
    `gatescope.engine.walk_fused.PIECE_BYTES` each.

    Raises:
        InputError: the device has not that much memory.
    """
    lengths, device = np.diff(spec.sequence_starts), trained.model.output.weight.device
    require_room(spec.n_values * dtype.itemsize, device)
    n, length = spec.n_sequences, int(lengths[0])
    even = bool((lengths[:-1] == length).all() and lengths[-1] <= length)
    n_places = n * length if even else spec.n_rows
    arrays = {name: empty(dtype, device, n_places, width) for name, width in spec.arrays.items()}
    initial = {name: torch.empty(n, spec.arrays[name], dtype=dtype, device=device) for name in spec.initial_arrays}
    tokens = np.empty(n_places, np.int64)

    def buffers(first: int, n: int, start: int, stop: int) -> dict[str, Tensor]:
        return {
            name: each.view(-1, length, each.shape[1])[first : first + n, start:stop] for name, each in arrays.items()
        }

    def deliver(piece: Piece) -> None:
        rows, places = _rows_of(piece, spec.sequence_starts)
        tokens[rows] = piece.tokens.reshape(-1)[places]
        _put(arrays, piece.states, rows, places)

    where: dict[str, Any] = {"buffers": buffers} if even else {"deliver": deliver}
    for piece in walked(trained, spec, reader, dtype, to_host=False, **where):
        for name, values in piece.initial.items():
            initial[name][piece.first : piece.first + len(values)] = values
        if even:
            n_here, n_steps = piece.tokens.shape
            here = tokens.reshape(n, length)[piece.first : piece.first + n_here]
            here[:, piece.start : piece.start + n_steps] = piece.tokens
    rows_of = {name: values[: spec.n_rows] for name, values in arrays.items()}
    return States(tokens[: spec.n_rows], spec.sequence_starts, spec.document_starts, rows_of, initial)


def _rows_of(piece: Piece, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that a piece fills, and their places among its steps [S * T], of which some are behind an end."""
    n, n_steps = piece.tokens.shape
    bounds = starts[piece.first : piece.first + n + 1, None]
    rows = bounds[:-1] + piece.start + np.arange(n_steps)
    within = rows < bounds[1:]
    return rows[within], np.flatnonzero(within)


def _put(arrays: dict[str, Tensor], states: dict[str, Tensor], rows: np.ndarray, places: np.ndarray) -> None:
    """Put the states at some places of a piece into rows; either may be on a GPU."""
    source, target = (next(iter(each.values())).device for each in (states, arrays))
    of, to = sent(torch.from_numpy(places), source), sent(torch.from_numpy(rows), target)
    for name, values in states.items():
        arrays[name].index_copy_(0, to, values.flatten(0, 1).index_select(0, of).to(target))


def require_room(n_bytes: int, device: torch.device) -> None:
    """Refuse states that the memory of a device cannot hold.

    Raises:
        InputError: more is needed than is free.
    """
    free = free_bytes(device, n_bytes)
    if free is not None and n_bytes > free:
        raise InputError(
            f"the states take {n_bytes / 1e9:,.2f} GB and {device} has {free / 1e9:,.2f} GB free: record fewer "
            "sequences, arrays or bytes of dtype, or write them to a dump with sample_states or extract_states"
        )


def free_bytes(device: torch.device, enough: int) -> int | None:
    """Return the memory that a device can still give, what torch has put by included; None where nothing says so.

    Args:
        enough: of which no more need be known than that there is as much.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if free >= enough:
            return free
        held = torch.cuda.memory_stats_as_nested_dict(device)
        return free + held["reserved_bytes"]["all"]["current"] - held["allocated_bytes"]["all"]["current"]
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        return None
    return int(found[1]) << 10 if found else None
