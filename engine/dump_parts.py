"""One dump written by several processes (`torchrun`): each records its share of the sequences in a dump of its own.

A share is a run of whole tiles: what a sequence gives does not depend on what runs beside it, and the parts, one after
another, hold to the byte what one process would have written.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from gatescope.engine.concat import CONTINUES, concatenate
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_folder import reserved
from gatescope.engine.dump_spec import DumpSpec, difference, require_begun_with
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove
from gatescope.engine.journey import Reader
from gatescope.engine.processes import everybody
from gatescope.kernels.choice import Draw
from gatescope.kernels.sample import Recurrence


def shares_of(n_sequences: int, height: int, size: int) -> list[range]:
    """Return the sequences of each of several processes: whole tiles, as even as they come; some may have none.

    Args:
        n_sequences: S.
        height: sequences in a tile.
        size: number of processes.
    """
    tiles = -(-n_sequences // height)
    edges = [min(number * tiles // size * height, n_sequences) for number in range(size + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]


def part_path(out: Path, number: int, size: int) -> Path:
    """Return where process `number` of `size` writes its part of a dump."""
    return out.with_name(f"{out.stem}.part{number}of{size}.zarr")


def part_spec(spec: DumpSpec, share: range) -> DumpSpec:
    """Return what the part of a dump with these sequences holds.

    A part that begins within a document says so with the attribute `continues_document`.
    """
    starts = spec.sequence_starts[share.start : share.stop + 1]
    inner = spec.document_starts[(spec.document_starts > starts[0]) & (spec.document_starts < starts[-1])]
    within = {} if starts[0] in spec.document_starts else {CONTINUES: True}
    return replace(
        spec,
        sequence_starts=starts - starts[0],
        document_starts=np.concatenate([starts[:1], inner, starts[-1:]]) - starts[0],
        attributes=spec.attributes | within,
    )


def remove_parts(out: Path, spec: DumpSpec, height: int) -> None:
    """Remove the parts of a whole dump, whatever number of processes wrote them; parts of other dumps, or in use, stay.

    Args:
        out: the dump.
        spec: what it holds.
        height: sequences in a tile.
    """
    name = re.compile(re.escape(out.stem) + r"\.part(\d{1,6})of(\d{1,6})\.zarr")
    for entry in out.parent.iterdir():
        found = name.fullmatch(entry.name)
        number, size = map(int, found.groups()) if found else (0, 0)
        share = shares_of(spec.n_sequences, height, size)[number] if number < size else range(0)
        if not share:
            continue
        with suppress(InputError), reserved(entry):
            if difference(StateDump.open(entry, finished=False), part_spec(spec, share)) is None:
                remove(entry)


class PartReader:
    """Lets the sequences of a share read what those of the whole read."""

    def __init__(self, reader: Reader, share: range):
        self._reader, self._first = reader, share.start

    def warm_up(self, numbers: np.ndarray) -> Iterator[Tensor]:
        return self._reader.warm_up(numbers + self._first)

    def characters(self, numbers: np.ndarray, start: int, stop: int) -> Tensor | None:
        return self._reader.characters(numbers + self._first, start, stop)

    def draw(self, first: int) -> Draw:
        return self._reader.draw(first + self._first)

    def run(self, recurrence: Recurrence, numbers: np.ndarray, start: int, stop: int) -> Tensor:
        return self._reader.run(recurrence, numbers + self._first, start, stop)


def record_together(
    path: Path,
    spec: DumpSpec,
    reader: Reader,
    height: int,
    record_part: Callable[[Path, DumpSpec, Reader], int],
    overwrite: bool,
) -> int:
    """Record a dump with all processes of `torchrun`; the first puts the parts together and removes them.

    Args:
        path: the dump.
        spec, reader: of the whole.
        height: sequences in a tile.
        record_part: writes one dump.
        overwrite: start anew if the dump is there.

    Returns:
        The number of rows in the whole dump.

    Raises:
        InputError: a dump of other settings is there.
    """
    everyone = everybody()
    number, size = everyone.rank, everyone.size
    if path.exists() and not overwrite:
        there = StateDump.open(path, finished=False)
        require_begun_with(there, spec)
        if there.committed_rows == spec.n_rows:
            if number == 0:
                remove_parts(path, spec, height)
            return spec.n_rows
    shares = shares_of(spec.n_sequences, height, size)
    if shares[number]:
        record_part(part_path(path, number, size), part_spec(spec, shares[number]), PartReader(reader, shares[number]))
    everyone.meet()
    with everyone.together():
        if number == 0:
            parts = [part_path(path, each, size) for each, share in enumerate(shares) if share]
            concatenate(parts, path, overwrite=overwrite)
            remove_parts(path, spec, height)
    return spec.n_rows
