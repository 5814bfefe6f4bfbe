"""Where sequences stand whose rows are in a dump up to some step, so that computing them goes on from there.

A dump's blocks are complete only when whole sequences are. What is on disk before that counts by the resume points: for
each tile of sequences the steps that are there and the recurrent states after them, in the precision in which they
were computed. They lie beside the blocks in a file that is gone when the dump is finished.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load, save
from torch import Tensor

from gatescope.engine.block_file import CHECKSUM_BYTES, sealed
from gatescope.engine.files import write_atomic

RESUME_FILE = "resume.safetensors"


@dataclass(frozen=True)
class ResumePoint:
    """Sequences that are computed side by side, up to a step."""

    first: int  # number of the first sequence
    n: int  # sequences
    step: int  # the first that is missing
    state: tuple[Tensor, ...]  # after the step before, as `gatescope.engine.journey.Piece` has it


def write_points(folder: Path, rows: int, points: Sequence[ResumePoint]) -> None:
    """Write resume points, and the number of rows before which everything is there."""
    tensors = {
        f"{point.first}/{place}": state.cpu().contiguous()
        for point in points
        for place, state in enumerate(point.state)
    }
    facts = {"rows": rows, "points": [[point.first, point.n, point.step, len(point.state)] for point in points]}
    content = save(tensors, {"gatescope": json.dumps(facts)})
    write_atomic(folder / RESUME_FILE, sealed(np.frombuffer(content + bytes(CHECKSUM_BYTES), np.uint8).copy()).data)


def read_points(folder: Path) -> tuple[int, list[ResumePoint]]:
    """Return what `write_points` wrote; 0 and nothing where there is no such file, or one that is damaged."""
    try:
        raw = np.fromfile(folder / RESUME_FILE, np.uint8)
    except FileNotFoundError:
        return 0, []
    if len(raw) <= CHECKSUM_BYTES or not np.array_equal(raw, sealed(raw.copy())):
        return 0, []
    content = raw[:-CHECKSUM_BYTES].tobytes()
    n_header = int.from_bytes(content[:8], "little")
    facts = json.loads(json.loads(content[8 : 8 + n_header])["__metadata__"]["gatescope"])
    tensors = load(content)
    points = [
        ResumePoint(first, n, step, tuple(tensors[f"{first}/{place}"] for place in range(n_states)))
        for first, n, step, n_states in facts["points"]
    ]
    return facts["rows"], points
