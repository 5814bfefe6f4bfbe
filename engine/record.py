"""Running a model over sequences and recording its states into a dump or in memory, for sampling and extraction.

A dump that was interrupted goes on where its tiles of sequences stood at the last commit (`gatescope.engine.walk`); at
most the pieces since then are computed again.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.log import log
from gatescope.engine.model import TrainedModel
from gatescope.engine.progress import progress_bar
from gatescope.engine.settings import plain
from gatescope.engine.walk import DTYPES, Reader, empty, walk
from gatescope.kernels.sample import TILE

Capture = Literal["h", "c", "gates"]


def captured_arrays(trained: TrainedModel, capture: Collection[str]) -> dict[str, int]:
    """Return the name and width of each array that a capture fills, layer by layer.

    Raises:
        InputError: the cell has none of what is asked.
    """
    architecture = trained.model.architecture
    names: list[str] = [name for name in architecture.states if name in capture]
    if "gates" in capture:
        names += [f"gates/{gate}" for gate in architecture.gates]
    if not names:
        raise InputError(
            f"--capture {' '.join(capture)}: a {architecture.cell} has {', '.join(architecture.states)}"
            + (" and gates" if architecture.gates else " and no gates")
        )
    return {f"layer{layer}/{name}": architecture.hidden for layer in range(architecture.layers) for name in names}


def dump_attributes(trained: TrainedModel, kind: str, prime: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what a dump says of where it comes from."""
    architecture = trained.model.architecture
    return {
        "kind": kind,
        "vocabulary": list(trained.vocabulary.characters),
        "weights_sha256": trained.weights_sha256,
        "model": trained.facts(),
        "corpus": trained.corpus,
        "training": trained.training,
        "cell": architecture.cell,
        "gates": {"order": list(architecture.gates), "values": "after their activation"},
        "alignment": "post",
        "prime": prime,
        "settings": settings,
    }


def record(
    trained: TrainedModel, path: Path, spec: DumpSpec, reader: Reader, *, overwrite: bool, log_path: Path | None
) -> int:
    """Write a dump: every sequence is warmed up, then read or sampled while its states are kept.

    Args:
        trained: the model.
        path: the dump.
        spec: its arrays and sequences.
        reader: what the sequences read.
        overwrite: start anew if the dump is there.
        log_path: the JSONL log, if any.

    Returns:
        The number of rows in the dump.
    """
    starts = spec.sequence_starts
    path.parent.mkdir(parents=True, exist_ok=True)
    with DumpWriter(path, spec, overwrite=overwrite) as writer:
        committed = writer.committed_rows
        kind = spec.attributes["kind"]
        if log_path:
            log(log_path, kind, rows=spec.n_rows, sequences=spec.n_sequences, committed=committed, arrays=spec.arrays)
        if committed == spec.n_rows:
            return spec.n_rows
        begun = writer.resume()
        lengths = np.diff(starts)
        first_tile = (int(np.searchsorted(starts, writer.committed_rows, side="right")) - 1) // TILE
        pieces = walk(
            trained,
            spec.arrays,
            spec.initial_arrays,
            spec.dtype,
            lengths,
            reader,
            first_tile=first_tile,
            begun=begun,
        )
        with progress_bar(kind, spec.n_rows, "characters", writer.n_rows_there) as advance, closing(pieces):
            for piece in pieces:
                if piece.start == 0:
                    writer.write_initial(piece.first, piece.initial)
                advance(writer.write_steps(piece.first, piece.start, piece.tokens, piece.states, piece.state))
    return spec.n_rows


@dataclass(frozen=True)
class States:
    """A text and its recurrent states in memory, rows in the order of a dump."""

    tokens: np.ndarray  # int64 [N]
    sequence_starts: np.ndarray  # int64 [S + 1]
    arrays: dict[str, Tensor]  # [N, H] each, on the model's device
    initial: dict[str, Tensor]  # [S, H] each, before the first character


def collect(trained: TrainedModel, spec: DumpSpec, reader: Reader) -> States:
    """Do what `record` does, in memory; only the last sequence of the spec may have another length than the others."""
    starts = spec.sequence_starts
    n, length = spec.n_sequences, int(np.diff(starts).max())
    device, dtype = trained.model.output.weight.device, DTYPES[str(spec.dtype)]
    arrays = {name: empty(dtype, device, n, length, width) for name, width in spec.arrays.items()}
    initial = {name: torch.empty(n, spec.arrays[name], dtype=dtype, device=device) for name in spec.initial_arrays}
    tokens = np.empty((n, length), np.int64)

    def buffers(first: int, n: int, start: int, stop: int) -> dict[str, Tensor]:
        return {name: values[first : first + n, start:stop] for name, values in arrays.items()}

    pieces = walk(trained, spec.arrays, spec.initial_arrays, spec.dtype, np.diff(starts), reader, buffers=buffers)
    for piece in pieces:
        n_sequences, n_steps = piece.tokens.shape
        tokens[piece.first : piece.first + n_sequences, piece.start : piece.start + n_steps] = piece.tokens
        for name, values in piece.initial.items():
            initial[name][piece.first : piece.first + n_sequences] = values
    flat = {name: values.flatten(0, 1)[: spec.n_rows] for name, values in arrays.items()}
    return States(tokens.reshape(-1)[: spec.n_rows], starts, flat, initial)


def settings_of(config: Any, **others: Any) -> dict[str, Any]:
    """Return the settings of a stage as one flat dictionary of JSON values."""
    return plain(asdict(config) | others)
