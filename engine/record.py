"""Running a model over tiles of sequences and recording its states into a dump: what sampling and extraction share.

Sequence s always runs in row s mod TILE of tile s // TILE (`gatescope.kernels.sample`), so its text and states are the
same whatever runs beside it. A tile is computed as a whole; a dump that was interrupted goes on at the tile of its
first row that is not committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict
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
from gatescope.kernels.sample import TILE, Recurrence

Capture = Literal["h", "c", "gates"]
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def recurrence_of(trained: TrainedModel) -> Recurrence:
    """Return a tile of zero states that steps with the model's weights."""
    model, architecture = trained.model, trained.model.architecture
    weights = dict(model.rnn.named_parameters())
    layers = [
        (
            weights[f"weight_ih_l{layer}"].detach(),
            weights[f"weight_hh_l{layer}"].detach(),
            weights[f"bias_ih_l{layer}"].detach(),
            weights[f"bias_hh_l{layer}"].detach(),
        )
        for layer in range(architecture.layers)
    ]
    vectors = None if model.embedding is None else model.embedding.weight.detach()
    return Recurrence(architecture.cell, layers, vectors, architecture.reset_after, architecture.nonlinearity)


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
    trained: TrainedModel,
    path: Path,
    spec: DumpSpec,
    warm_up: Callable[[np.ndarray], np.ndarray],
    characters: Callable[[np.ndarray, int], Callable[[int, Tensor], Tensor]],
    *,
    overwrite: bool,
    log_path: Path | None,
) -> int:
    """Write a dump: every sequence is warmed up, then read or sampled while its states are kept.

    Args:
        trained: the model.
        path: the dump.
        spec: its arrays and sequences.
        warm_up: gives for sequence numbers [TILE] the ids read before them, int64 [TILE, W]; -1 on the left where a
            sequence has fewer. These characters are not recorded.
        characters: gives for sequence numbers [TILE] and a number of steps T a function that returns the ids [TILE] of
            a step from its number and the topmost hidden state [TILE, H] before it.
        overwrite: start anew if the dump is there.
        log_path: the JSONL log, if any.

    Returns:
        The number of rows in the dump.
    """
    starts = spec.sequence_starts
    n_tiles = -(-spec.n_sequences // TILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    recurrence = recurrence_of(trained)
    with DumpWriter(path, spec, overwrite=overwrite) as writer, torch.no_grad():
        committed = writer.committed_rows
        sequence = int(np.searchsorted(starts, committed, side="right")) - 1
        first_tile = sequence // TILE if committed < spec.n_rows else n_tiles
        kind = spec.attributes["kind"]
        if log_path:
            log(log_path, kind, rows=spec.n_rows, sequences=spec.n_sequences, committed=committed, arrays=spec.arrays)
        with progress_bar(kind, spec.n_rows, "characters", committed) as advance:
            for tile in range(first_tile, n_tiles):
                numbers = np.arange(tile * TILE, (tile + 1) * TILE)
                real = numbers[numbers < spec.n_sequences]
                lengths = starts[real + 1] - starts[real]
                steps = int(lengths.max())
                _warm(recurrence, torch.from_numpy(warm_up(numbers)))
                writer.write_initial(int(real[0]), _initial(recurrence, spec, len(real)))
                tokens, states = _run(recurrence, spec, characters(numbers, steps), steps, advance, len(real))
                keep = torch.from_numpy(np.arange(steps) < lengths[:, None])  # [real, T]
                rows = {name: values[keep] for name, values in states.items()}
                writer.append(int(starts[real[0]]), tokens[keep].numpy(), rows)
    return spec.n_rows


def _warm(recurrence: Recurrence, tokens: Tensor) -> None:
    """Read the warm-up from the zero state; a row whose warm-up has not begun (-1) stays at zero."""
    device = recurrence.h[0].device
    recurrence.clear()
    for column in tokens.T.to(device):
        recurrence.step(column.clamp(min=0))
        waiting = column < 0
        if waiting.any():
            recurrence.clear(waiting)


def _run(
    recurrence: Recurrence,
    spec: DumpSpec,
    character: Callable[[int, Tensor], Tensor],
    steps: int,
    advance: Callable[..., None],
    n_real: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Take the steps of a tile and return the ids [real, T] and states [real, T, H] of its rows that are sequences."""
    device = recurrence.h[0].device
    sources = {name: _source(recurrence, name, width)[:n_real] for name, width in spec.arrays.items()}
    dtype = DTYPES[str(spec.dtype)]
    states = {name: torch.empty(n_real, steps, width, dtype=dtype) for name, width in spec.arrays.items()}
    tokens = torch.empty(TILE, steps, dtype=torch.int64, device=device)
    for step in range(steps):
        tokens[:, step] = character(step, recurrence.h[-1])
        recurrence.step(tokens[:, step])
        for name, source in sources.items():
            states[name][:, step].copy_(source)
        advance(n_real)
    return tokens[:n_real].cpu(), states


def _source(recurrence: Recurrence, name: str, width: int) -> Tensor:
    """Return the live buffer [TILE, H] behind a dump array such as layer0/c or layer1/gates/f."""
    layer, state, *gate = name.removeprefix("layer").split("/")
    if state != "gates":
        return getattr(recurrence, state)[int(layer)]
    place = {"i": 0, "f": 1, "g": 2, "o": 3, "r": 0, "z": 1, "n": 2}[gate[0]]
    return recurrence.gates[int(layer)][:, place * width : (place + 1) * width]


def _initial(recurrence: Recurrence, spec: DumpSpec, n_real: int) -> dict[str, Tensor]:
    return {name: _source(recurrence, name, spec.arrays[name])[:n_real].clone() for name in spec.initial_arrays}


def settings_of(config: Any, **others: Any) -> dict[str, Any]:
    """Return the settings of a stage as one flat dictionary of JSON values."""
    return plain(asdict(config) | others)
