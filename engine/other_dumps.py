"""States that another program recorded, read through the interface of a state dump.

A file, a folder of .npy files or a Zarr group may hold, by these names: the states, every float array [N, H], or
[T, B, H], whose rows are then taken sequence by sequence, of each as many as `lengths` [B] says; `sequence_ids` [N], or
`sequence_starts` [S + 1]; `document_starts` [D + 1]; `tokens` (or `token_ids`, `word_ids`, `words`, `chars`), numbers
or words, [N], or [T, B] beside states [T, B, H]; `vocabulary`, the character or word of each token, or its code point;
`labels`, which `gatescope.analysis.label_table` reads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from gatescope.engine.config_values import require_kind, require_values
from gatescope.engine.dump import BOUNDS, GROUP_FILE, StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.file_arrays import Unreadable, is_zarr
from gatescope.engine.finite import first_not_finite
from gatescope.engine.location import Location, unreadable
from gatescope.engine.other_array import OtherArray, is_float
from gatescope.engine.other_file import READERS, OtherFile
from gatescope.engine.other_sequences import IDS, LENGTHS, checked_bounds, cube_of, own_sequences, sequences
from gatescope.engine.other_text import TOKENS, stored_text, text_of_file
from gatescope.engine.state_source import StateSource

RESERVED = {*TOKENS, *IDS, *BOUNDS, LENGTHS, "vocabulary", "labels", "label_names"}


@dataclass(frozen=True)
class ReadConfig:
    """Which states are read, and what the file does not say about them."""

    arrays: tuple[str, ...] = ()  # names of the arrays to read; default: all
    text: Path | None = None  # UTF-8 text that was read, one character for each row, where the states have none
    sequence_length: int = 0  # rows in each sequence, if the file does not say; 0: unknown
    batch_first: bool = False  # arrays of three dimensions are [B, T, H], not [T, B, H]

    def __post_init__(self) -> None:
        require_values(self)
        if self.sequence_length < 0:
            raise InputError(f"--sequence-length {self.sequence_length} is negative: expected a number of rows")


def open_states(
    place: str | os.PathLike[str],
    config: ReadConfig | None = None,
    sequence_ids: Sequence[Any] | np.ndarray | None = None,
    *,
    finished: bool = True,
) -> StateSource:
    """Open a state dump, or another program's states: .npy, a folder of .npy, .npz, HDF5, .safetensors or Zarr.

    Args:
        place: a file or a folder; a URL where it is Zarr.
        config: what the file does not say.
        sequence_ids: [N], the sequence of each row; the same as the file's or dump's own, where it has some.
        finished: see `StateDump.open`.

    Raises:
        InputError: it is neither, damaged, or does not fit what is said of it.
    """
    config = ReadConfig() if config is None else config
    require_kind("config", config, ReadConfig)
    location = Location(place)
    if location.path is not None and not location.path.exists():
        raise InputError(f"{place} does not exist: give a state dump, {', '.join(READERS)} or Zarr")
    if location.path is None and Path(location.name).suffix.lower() in READERS:
        raise InputError(f"{place} is a URL, but only Zarr can be read from one: copy the file to this machine")
    if _is_dump(location):
        source: StateSource = StateDump.open(place, finished=finished)
        if config.text or config.sequence_length or config.batch_first:
            raise InputError(
                f"{place} is a state dump with its own text and sequences: leave out --text, --sequence-length and "
                "--batch-first"
            )
        if sequence_ids is not None:
            # They may only say again what the dump says.
            sequences(source.name, source.sequence_starts, np.asarray(sequence_ids), 0, source.n_rows)
    else:
        source = OtherDump(OtherFile(location), config, sequence_ids)
    for name in config.arrays:
        source.array(name)
    source.names = list(dict.fromkeys(config.arrays)) or source.names
    return source


class OtherDump(StateSource):
    """States that another program recorded.

    A `with` statement closes their file at its end, and so does `close`. Another process, such as a worker of a
    DataLoader, gets the place of the file and opens it anew.

    Args:
        file: where they are.
        config, sequence_ids: see `open_states`.

    Raises:
        InputError: no states, arrays of different length, or sequences, tokens or a text that do not fit them.
    """

    def __init__(
        self, file: OtherFile, config: ReadConfig, sequence_ids: Sequence[Any] | np.ndarray | None = None
    ) -> None:
        self._file, self._made_of = file, (file, config, sequence_ids)
        name, arrays = file.location.name, file.arrays
        self.name = name
        self.attributes: dict[str, Any] = {}
        for each, array in arrays.items():
            if each in RESERVED and isinstance(array, Unreadable):
                raise unreadable(f"{name}: {each}", array.error)
        given = config.arrays or [each for each, array in arrays.items() if _is_state(each, array)]
        chosen = {each: arrays[each] for each in given if each in arrays}
        if len(chosen) < len(given) or not chosen:
            missing = next((repr(each) for each in given if each not in arrays), "float array [N, H] or [T, B, H]")
            there = ", ".join(f"{each} {array.dtype} {list(array.shape)}" for each, array in arrays.items())
            raise InputError(f"{name} has no {missing}: it has {there[:500] or 'no arrays'}")
        self.cube = cube = cube_of(name, arrays, chosen, config.batch_first)
        self._arrays = {each: OtherArray(each, file, cube, 1 / len(chosen)) for each in chosen}
        self.names = list(self._arrays)
        if cube is not None:
            self.attributes["axes"] = "[B, T, H]" if cube.batch_first else "[T, B, H]"
        self.n_rows = len(self._arrays[self.names[0]])
        for each, states in self._arrays.items():
            if len(states) != self.n_rows:
                raise InputError(
                    f"{name}: {each} has {len(states)} rows and {self.names[0]} has {self.n_rows}: choose arrays that "
                    "belong together with --arrays"
                )
        self.dtype = np.result_type(*(array.dtype for array in self._arrays.values()))
        own = own_sequences(name, arrays, cube, self.n_rows)
        ids = None if sequence_ids is None else np.asarray(sequence_ids)
        self.sequence_starts = sequences(name, own, ids, config.sequence_length, self.n_rows)
        self._tokens: np.ndarray | None
        if config.text:
            self._tokens, self.words = text_of_file(name, config.text, self.n_rows)
        else:
            self._tokens, self.words = stored_text(name, arrays, cube, self.n_rows)
        # A text that was only cut into sequences goes on from one to the next.
        cut = own is None and sequence_ids is None
        documents = np.array([0, self.n_rows]) if cut else self.sequence_starts
        if "document_starts" in arrays:
            documents = checked_bounds(name, "document_starts", arrays["document_starts"], self.n_rows)
        self.document_starts = documents.astype(np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        return OtherDump, self._made_of

    def __enter__(self) -> OtherDump:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; nothing more is read from it."""
        self._file.close()

    def __repr__(self) -> str:
        n_sequences = len(self.sequence_starts) - 1
        return f"OtherDump({self.name!r}, rows={self.n_rows}, sequences={n_sequences}, arrays={self.names})"

    @property
    def tokens(self) -> np.ndarray | None:
        """What was read, by the file or the text given with it: unsigned integers [N], or None."""
        return self._tokens

    def verify(self) -> list[str]:
        """Return the first fault of each array, one line each; everything is read once, for `identity` as well."""
        return self._read_once[0]

    def identity(self) -> dict[str, Any]:
        """Return the dtype and shape of each array, and a digest of all values."""
        arrays = {name: [str(self._arrays[name].dtype), *self._arrays[name].shape] for name in self.names}
        return {"arrays": arrays, "sha256_of_checksums": self._read_once[1]}

    @cached_property
    def _read_once(self) -> tuple[list[str], str]:
        """The first fault of each array, and a digest of the checksums of all blocks."""
        problems, digest = self._file.damaged(self.names), hashlib.sha256()
        for name in self.names:
            array = self._arrays[name]
            for index in range(array.n_blocks):
                try:
                    block = array.block(index)
                except InputError as error:
                    problems.append(str(error))
                    break
                place = first_not_finite(block)
                if place is not None:
                    row = index * array.block_rows + place[0]
                    problems.append(f"{name}: {block[place]} at row {row}, unit {place[1]}: expected finite states")
                    break
                checksum = google_crc32c.value(np.ascontiguousarray(block).view(np.uint8))
                digest.update(checksum.to_bytes(4, "little"))
        return problems, digest.hexdigest()


def _is_state(name: str, array: Any) -> bool:
    reserved = name.rpartition("/")[2] in RESERVED or name.startswith("initial/")
    return not reserved and is_float(array.dtype) and len(array.shape) in (2, 3)


def is_folder_of_arrays(path: Path | None) -> bool:
    """Whether there are .npy files in a folder, and not only tokens, as beside a model."""
    return path is not None and any(file.stem not in RESERVED for file in path.glob("*.npy"))


def _is_dump(location: Location) -> bool:
    """Whether to open a place as a state dump, which says what is wrong with it: not a file, nor another's folder."""
    if location.path is not None and location.path.is_file():
        return False
    try:
        return "gatescope" in json.loads(location.read(GROUP_FILE)).get("attributes", {})
    except OSError:
        return not (is_zarr(location) or is_folder_of_arrays(location.path))
    except (AttributeError, TypeError, ValueError, RecursionError):
        return True
