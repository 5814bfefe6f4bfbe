"""Recurrent states that stay in memory, on the model's device, for probes that need no disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.device_memory import sent
from gatescope.engine.differences import shortened
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.errors import InputError
from gatescope.engine.free_memory import require_memory
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
        InputError: the device has not that much memory, or the dtype is not of floating point.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"dtype {shortened(dtype)}: expected a floating-point dtype, such as torch.bfloat16")
    lengths, device = np.diff(spec.sequence_starts), trained.model.output.weight.device
    remedy = (
        "record fewer sequences or arrays, a smaller dtype, or write them to a dump with sample_states or "
        "extract_states"
    )
    require_memory(spec.n_values * dtype.itemsize, device, "the states", remedy)
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
    """Return the rows that a piece fills, and their places among its steps [S * T], of which some lie after an end."""
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
