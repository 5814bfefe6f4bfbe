"""Running a model over sequences and recording its states into a dump, for sampling and extraction.

A dump that was interrupted goes on where its tiles of sequences stood at the last commit (`gatescope.engine.walk`); at
most the pieces since then are computed again.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from gatescope.engine.config_values import plain
from gatescope.engine.dump import read_group
from gatescope.engine.dump_folder import is_absent
from gatescope.engine.dump_parts import record_together, remove_parts
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.free_memory import require_room
from gatescope.engine.journey import DTYPES, SCORES, Journey, Piece, Reader
from gatescope.engine.location import behind_link, local_path
from gatescope.engine.log import log
from gatescope.engine.model import Architecture
from gatescope.engine.processes import everybody
from gatescope.engine.progress import progress_bar
from gatescope.engine.resume_points import ResumePoint
from gatescope.engine.trained_model import TrainedModel
from gatescope.engine.walk import walk
from gatescope.engine.walk_fused import sampler_plan, walk_fused
from gatescope.kernels.sample import TILE

if TYPE_CHECKING:
    from gatescope.kernels.sample_plan import SamplePlan

# How a dump describes the values of its gates.
ACTIVATED = "after their activation"

Capture = Literal["h", "c", "gates", "log_probability", "entropy"]


def captured_arrays(architecture: Architecture, capture: Collection[str]) -> dict[str, int]:
    """Return the name and width of each array that a capture fills, layer by layer.

    "log_probability" and "entropy" are of each character and of the distribution that the model had for it,
    softmax(logits) whatever it was drawn with, in nats; they count as those of the output layer, layer L, of width 1.

    Raises:
        InputError: the cell has none of what is asked.
    """
    names: list[str] = [name for name in architecture.states if name in capture]
    if "gates" in capture:
        names += [f"gates/{gate}" for gate in architecture.gates]
    scores = [name for name in SCORES if name in capture]
    if not names and not scores:
        raise InputError(
            " ".join(("--capture", *capture))
            + f": a {architecture.cell} has {', '.join(architecture.states)}"
            + (" and gates" if architecture.gates else " and no gates")
        )
    arrays = {f"layer{layer}/{name}": architecture.hidden for layer in range(architecture.layers) for name in names}
    return arrays | {f"layer{architecture.layers}/{name}": 1 for name in scores}


def recording_spec(
    trained: TrainedModel,
    config: Any,
    kind: str,
    prime: str,
    sequence_starts: np.ndarray,
    document_starts: np.ndarray,
    settings: dict[str, Any],
    **more: Any,
) -> DumpSpec:
    """Return what the dump of a stage holds, and how it describes its origin.

    Args:
        trained: the model.
        config: of the stage: a dataclass with `capture`, `dtype` and `compression`.
        kind: the stage.
        prime: what is read before each sequence.
        sequence_starts, document_starts: as `DumpSpec` has them.
        settings: what decided the states beside the configuration, as JSON values.
        more: attributes of this stage alone.
    """
    architecture = trained.model.architecture
    return DumpSpec(
        arrays=captured_arrays(architecture, config.capture),
        sequence_starts=sequence_starts,
        document_starts=document_starts,
        initial=architecture.states,
        token_dtype=trained.vocabulary.dtype,
        dtype=np.dtype(config.dtype),
        compression=config.compression,
        attributes={
            "kind": kind,
            "vocabulary": list(trained.vocabulary.characters),
            "weights_sha256": trained.weights_sha256,
            "model": trained.facts(),
            "corpus": trained.corpus,
            "training": trained.training,
            "cell": architecture.cell,
            "gates": {"order": list(architecture.gates), "values": ACTIVATED},
            "alignment": "post",
            "prime": prime,
            "settings": plain(asdict(config) | settings),
            **more,
        },
    )


def record(
    trained: TrainedModel,
    path: str | os.PathLike[str],
    spec: DumpSpec,
    reader: Reader,
    *,
    overwrite: bool,
    log_path: Path | None,
) -> int:
    """Write a dump: every sequence is warmed up, then read or sampled while its states are kept.

    Under `torchrun` each process records its share of the sequences (`gatescope.engine.dump_parts`).

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
    path, layout = local_path(path), sampler_plan(trained)
    height = tile_height(layout)
    if everybody().size == 1:
        n_rows = _record(trained, layout, path, spec, reader, overwrite=overwrite, log_path=log_path)
        # Several processes may have begun it.
        remove_parts(path, spec, height)
        return n_rows

    def record_part(path: Path, spec: DumpSpec, reader: Reader) -> int:
        return _record(trained, layout, path, spec, reader, overwrite=overwrite, log_path=None)

    return record_together(path, spec, reader, height, record_part, overwrite)


def _record(
    trained: TrainedModel,
    layout: SamplePlan | None,
    path: Path,
    spec: DumpSpec,
    reader: Reader,
    *,
    overwrite: bool,
    log_path: Path | None,
) -> int:
    """Write the dump of one process."""
    starts = spec.sequence_starts
    behind_link(path).parent.mkdir(parents=True, exist_ok=True)
    if spec.compression == "none" and (overwrite or not path.exists()):
        _require_disk(path, spec)
    with DumpWriter(path, spec, overwrite=overwrite) as writer:
        committed = writer.committed_rows
        kind = spec.attributes["kind"]
        if committed == spec.n_rows:
            return spec.n_rows
        if log_path:
            log(log_path, kind, rows=spec.n_rows, sequences=spec.n_sequences, committed=committed, arrays=spec.arrays)
        begun = writer.resume(lambda point: _fits(point, layout, spec.n_sequences))
        height = tile_height(layout)
        first = (int(np.searchsorted(starts, writer.committed_rows, side="right")) - 1) // height * height
        # Tiles that the kernel works on side by side have one resume point, and the first may be committed already.
        first = min([first, *(point.first for point in begun)])

        def deliver(piece: Piece) -> None:
            writer.write_steps(piece.first, piece.start, piece.tokens, piece.states, abreast=layout is None)

        pieces = walked(trained, spec, reader, DTYPES[str(spec.dtype)], first=first, begun=begun, deliver=deliver)
        with progress_bar(kind, spec.n_rows, "characters", writer.n_rows_there) as advance, closing(pieces):
            for piece in pieces:
                if piece.start == 0:
                    writer.write_initial(piece.first, piece.initial)
                n, n_steps = piece.tokens.shape
                point = ResumePoint(piece.first, n, piece.start + n_steps, piece.state)
                advance(writer.count_steps(point, piece.start))
    return spec.n_rows


def _require_disk(path: Path, spec: DumpSpec) -> None:
    """Refuse a new dump that the disk has no room for, before an earlier one in its place, which makes room, is gone.

    Raises:
        InputError: the disk has not, or something else is there.
    """
    place, earlier = behind_link(path), 0
    if not is_absent(place):
        read_group(place)
        earlier = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    needed, free = spec.n_values * spec.dtype.itemsize, shutil.disk_usage(place.parent).free + earlier
    remedy = "record fewer sequences or arrays, a smaller dtype, or choose another disk"
    require_room(needed, free, f"{path}: its states", "the disk", remedy)


def require_precision(precision: str, device: str) -> None:
    """Refuse 16 bits on a CPU.

    Raises:
        InputError: that is what is asked.
    """
    if precision != "float32" and device != "cuda":
        raise InputError(f"--precision {precision} needs a GPU: on a CPU leave it at float32")


def at_precision(trained: TrainedModel, precision: str) -> TrainedModel:
    """Return a model that computes in another precision; float32 leaves it as it is.

    Raises:
        InputError: 16 bits on a CPU.
    """
    if precision == "float32":
        return trained
    require_precision(precision, trained.model.output.weight.device.type)
    return replace(trained, model=copy.deepcopy(trained.model).to(DTYPES[precision]))


def tile_height(layout: SamplePlan | None) -> int:
    """How many sequences stand in one tile: a walk may begin at any multiple."""
    return TILE if layout is None else layout.block_b


def walked(
    trained: TrainedModel, spec: DumpSpec, reader: Reader, dtype: torch.dtype, *, to_host: bool = True, **options: Any
) -> Generator[Piece, None, None]:
    """Walk the sequences of a spec, on the GPU by the sampler's kernel if it has the model.

    Args:
        trained, spec, reader: the model, its sequences and what they read.
        dtype: of the states.
        to_host: bring the kernel's states to the CPU; else they stay on the GPU.
        options: of `gatescope.engine.walk.walk`.
    """
    layout, lengths = sampler_plan(trained), np.diff(spec.sequence_starts)
    journey = Journey(trained, spec.arrays, spec.initial_arrays, dtype, lengths, reader)
    if layout is None:
        return walk(journey, **options)
    return walk_fused(journey, layout, to_host=to_host, **options)


def _fits(point: ResumePoint, layout: SamplePlan | None, n_sequences: int) -> bool:
    """Whether a walk can go on from a resume point: a dump may have been begun on another device."""
    n_states, behind = len(point.state[0]), point.first + point.n
    if layout is None:
        return point.first % TILE == 0 and behind == min(point.first + TILE, n_sequences) and n_states == TILE
    whole = behind % layout.block_b == 0 or behind == n_sequences
    return point.first % layout.block_b == 0 and whole and n_states == point.n
