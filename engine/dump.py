"""The state dump: every hidden state of a recurrent network over a text, on disk, open to any program that reads Zarr.

A dump is a Zarr v3 group (zarr-specs, version 3.0):

    tokens               [N]      the text, as indices into the vocabulary
    layer0/h             [N, H]   the state of layer 0 after reading character n (alignment "post")
    layer0/c, layer0/gates/i ...  the other states that were recorded
    initial/layer0/h     [S, H]   the state before the first character of each sequence
    sequence_starts      [S + 1]  the first row of each sequence, and N
    document_starts      [D + 1]  the first row of each piece of text that is parsed on its own, and N

N counts rows (characters), H hidden units, S sequences. Arrays are cut into blocks of rows, one file each; the group's
attributes hold the vocabulary and whatever else the dump says of its origin, and under "gatescope" its bookkeeping.
`gatescope.engine.dump_writer` writes it.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr

from gatescope.engine.block_layout import layout_of_array
from gatescope.engine.errors import InputError
from gatescope.engine.location import UNREADABLE, Location
from gatescope.engine.state_array import StateArray
from gatescope.engine.state_source import StateSource

FORMAT = "state dump"
VERSION = 1
GROUP_FILE = "zarr.json"
# Tells a dump from another that takes its place. Inode and time of the folder do not: the inode is given anew as soon
# as it is free, and the time changes with every commit.
WRITTEN_ONCE = "tokens/zarr.json"
BOUNDS = ("sequence_starts", "document_starts")
# In the header of a finished dump: what `StateDump.blocks_digest` was when it was finished.
BLOCKS_DIGEST = "blocks"
EXPECTED = "expected a folder that `gatescope sample` or `extract` wrote, such as the states.zarr of a run"


def read_group(place: str | os.PathLike[str] | Location) -> dict[str, Any]:
    """Return the content of the group's metadata file, of which the attributes are a dump's.

    Raises:
        InputError: there is no dump of a version that is understood.
    """
    location = place if isinstance(place, Location) else Location(place)
    try:
        group = json.loads(location.read(GROUP_FILE))
        header = group["attributes"]["gatescope"]
        known = header["format"] == FORMAT
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        what = "is not a state dump" if location.path is not None and location.path.exists() else "does not exist"
        raise InputError(f"{location} {what}: {EXPECTED}") from None
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise InputError(f"{location} is damaged: {GROUP_FILE} is not JSON; write the dump again") from None
    except (KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"{location} is not a state dump: {EXPECTED}")
    version, rows, committed = (header.get(key) for key in ("version", "rows", "rows_committed"))
    if version != VERSION:
        raise InputError(
            f"{location} is a dump of version {version!r}, expected {VERSION}: use the gatescope that wrote it"
        )
    if not (isinstance(rows, int) and isinstance(committed, int) and 0 <= committed <= rows):
        raise InputError(f"{location} is damaged: {committed!r} of {rows!r} rows are written; write the dump again")
    return group


def attributes_checksum(attributes: dict[str, Any]) -> str:
    """Return the CRC32C of all that a dump's attributes say from its beginning on, as hexadecimal."""
    later = ("rows_committed", BLOCKS_DIGEST, "checksum")
    header = {key: value for key, value in attributes["gatescope"].items() if key not in later}
    text = json.dumps({**attributes, "gatescope": header}, sort_keys=True)
    return f"{google_crc32c.value(text.encode()):08x}"


class StateDump(StateSource):
    """A state dump, opened for reading; nothing of the states is read before it is asked for.

    >>> dump = StateDump.open("states.zarr")
    >>> hidden = dump["h"][0]  # lazy array [N, H] of layer 0
    >>> hidden[100:200]  # mapped from the file, not copied, where the rows lie in one block
    >>> dump["gates/f"][1][rows, units]  # [n, C], only these are copied
    >>> dump["layer1/h"]  # the same as dump["h"][1]
    >>> dump.features(["layer0/h", "layer1/h"])  # [N, 2 H], in memory
    >>> dump.states(["layer0/h", "layer1/h"])  # [N, 2 H], on disk: what probes take where it is larger than memory
    """

    words: list[str]
    _arrays: dict[str, StateArray]  # type: ignore[assignment]

    def __init__(self, location: Location, group: dict[str, Any]) -> None:
        attributes = group["attributes"]
        header = attributes["gatescope"]
        self.location = location
        self.name = str(location)
        self.n_rows: int = header["rows"]
        self.committed_rows: int = header["rows_committed"]
        self.dtype = np.dtype(header["dtype"])
        self.names: list[str] = list(header["arrays"])
        self.attributes: dict[str, Any] = {key: value for key, value in attributes.items() if key != "gatescope"}
        self.words = self.attributes["vocabulary"]
        initial = [f"initial/{name}" for name in header["initial"]]
        self._arrays = _opened(location, ["tokens", *BOUNDS, *self.names, *initial])
        self.sequence_starts = np.asarray(self._arrays["sequence_starts"])
        self.document_starts = np.asarray(self._arrays["document_starts"])
        self._check(header)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, finished: bool = True) -> StateDump:
        """Open a dump.

        Args:
            path: its folder, or a URL that fsspec knows, such as "https://host/states.zarr".
            finished: refuse a dump that is still being written; False opens it, for a look at the rows that are there.

        Raises:
            InputError: there is no dump, it is of another version, damaged or not finished. Whether every block is
                whole is seen when it is read, or by `verify`.
        """
        location = Location(path, WRITTEN_ONCE)
        group = read_group(location)
        try:
            dump = cls(location, group)
        except InputError:
            raise
        except UNREADABLE as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path} is damaged: {reason[:200]}; write the dump again") from error
        if finished and dump.committed_rows < dump.n_rows:
            raise InputError(
                f"{path} is not finished: {dump.committed_rows} of {dump.n_rows} rows are written; repeat the command "
                "that wrote it"
            )
        return dump

    @property
    def path(self) -> Path:
        """The folder of a dump on this machine.

        Raises:
            InputError: it is read from a URL.
        """
        if self.location.path is None:
            raise InputError(f"{self.name} is a URL: copy the dump to this machine to change it")
        return self.location.path

    def __repr__(self) -> str:
        n_sequences = len(self.sequence_starts) - 1
        return f"StateDump({self.name!r}, rows={self.n_rows}, sequences={n_sequences}, arrays={self.names})"

    @cached_property
    def tokens(self) -> np.ndarray:
        """The text as indices into the vocabulary: [N], unsigned integers."""
        return np.asarray(self._arrays["tokens"])

    def initial(self, name: str) -> np.ndarray:
        """Return the states before the first row of each sequence: [S, H], of the dump's dtype.

        Args:
            name: an array such as "layer0/h".

        Raises:
            InputError: the array has no initial states (gates have none), or a block of them is missing.
        """
        if name not in self.names:
            raise self._unknown(name)
        if f"initial/{name}" not in self._arrays:
            return super().initial(name)
        return np.asarray(self._arrays[f"initial/{name}"])

    def stored(self, name: str) -> StateArray:
        """Return any array of the group as it is stored: "tokens" [N], "initial/layer0/h" [S, H], "layer0/h" [N, H]."""
        return self._arrays[name]

    @property
    def initial_arrays(self) -> dict[str, StateArray]:
        """The states before the first row of each sequence, lazy arrays [S, H] by the names of their arrays."""
        prefix = "initial/"
        return {name.removeprefix(prefix): array for name, array in self._arrays.items() if name.startswith(prefix)}

    def tokens_of(self, start: int, stop: int | None) -> np.ndarray:
        """Return the tokens of some rows; no other blocks are read."""
        return self._arrays["tokens"][start:stop]

    def verify(self) -> list[str]:
        """Return what is wrong with the dump, one line for each fault; an empty list if it is whole.

        Reads every block once and compares its length and its checksum; looks for values that are not finite, for
        tokens outside the vocabulary, for rows that were not written yet, and for blocks of another place.
        """
        problems = []
        if self.committed_rows < self.n_rows:
            problems.append(f"not finished: {self.committed_rows} of {self.n_rows} rows are written")
        group = read_group(self.location)
        header = group["attributes"]["gatescope"]
        if header.get("checksum") != attributes_checksum(group["attributes"]):
            problems.append(f"{GROUP_FILE}: its attributes do not match their checksum: they were altered")
        # Some versions of zarr-python write null where there is none.
        metadata = (group.get("consolidated_metadata") or {}).get("metadata", {})
        begun = int(np.searchsorted(self.sequence_starts[:-1], self.committed_rows))
        for name, array in self._arrays.items():
            if name in metadata and _read_json(self.location, f"{name}/{GROUP_FILE}") != metadata[name]:
                problems.append(f"{name}: its {GROUP_FILE} is missing or differs from the group's description")
            n_rows = begun if name.startswith("initial/") else len(array) if name in BOUNDS else self.committed_rows
            for index in range(-(-n_rows // array.block_rows)):
                problem = array.check_block(index, n_rows - index * array.block_rows)
                if problem is None and name == "tokens" and array.block(index).max() >= len(self.words):
                    problem = f"tokens: block {index} goes beyond the vocabulary's {len(self.words)} entries"
                if problem is not None:
                    problems.append(problem)
        return problems or self._exchanged_blocks(header.get(BLOCKS_DIGEST))

    def _exchanged_blocks(self, written: Any) -> list[str]:
        """Return what is wrong with a finished dump whose blocks are whole, given the digest in its header."""
        if not isinstance(written, dict):
            return [f"{GROUP_FILE}: it has no digest of the blocks: it was altered"]
        digest = self.blocks_digest()
        # Another program may have cut or compressed the blocks in its own way.
        if not digest or written.get("rows") != digest["rows"] or written == digest:
            return []
        return ["its blocks are whole, but not those that were written: some were swapped or come from another dump"]

    def blocks_digest(self) -> dict[str, Any]:
        """Return the rows in a block of each array, and the SHA-256 of the checksums of all blocks in their order.

        Nothing where compression decides on the checksums.
        """
        if not all(array.ends_with_checksums for array in self._arrays.values()):
            return {}
        digest = hashlib.sha256()
        for array in self._arrays.values():
            for index in range(array.n_blocks):
                digest.update(array.stored_checksum(index))
        rows = {name: array.block_rows for name, array in self._arrays.items()}
        return {"rows": rows, "sha256": digest.hexdigest()}

    def identity(self) -> dict[str, Any]:
        """Return the digests of the model's weights and of the tokens, and the settings of the recording."""
        return {
            "weights_sha256": self.attributes.get("weights_sha256"),
            "settings": self.attributes.get("settings"),
            "tokens_sha256": hashlib.sha256(self.tokens.tobytes()).hexdigest(),
        }

    def _check(self, header: dict[str, Any]) -> None:
        """Compare the arrays with what the header says of them; raises ValueError, for `open` to pass on."""
        n_sequences = len(self.sequence_starts) - 1
        for name, width in header["arrays"].items():
            for array, rows in ((name, self.n_rows), (f"initial/{name}", n_sequences)):
                if array in self._arrays and self._arrays[array].shape != (rows, width):
                    raise ValueError(f"{array} has the shape {self._arrays[array].shape}, expected {(rows, width)}")
                if array in self._arrays and self._arrays[array].dtype != self.dtype:
                    raise ValueError(f"{array} has the dtype {self._arrays[array].dtype}, expected {self.dtype}")
        if self._arrays["tokens"].shape != (self.n_rows,) or self._arrays["tokens"].dtype.kind != "u":
            raise ValueError(f"tokens are not {self.n_rows} unsigned integers")
        for name in BOUNDS:
            bounds = getattr(self, name)
            if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != self.n_rows or (np.diff(bounds) <= 0).any():
                raise ValueError(f"{name} does not increase from 0 to {self.n_rows}")
        if not all(isinstance(word, str) and word for word in self.words):
            raise ValueError("the vocabulary is not a list of characters or words")
        if self.attributes.get("alignment", "post") != "post":
            raise ValueError(f"alignment {self.attributes['alignment']!r}, expected 'post'")


def _read_json(location: Location, key: str) -> Any:
    """Return what a JSON file holds, or None where it holds nothing."""
    try:
        return json.loads(location.read(key))
    except (OSError, ValueError, RecursionError):
        return None


def _opened(location: Location, names: list[str]) -> dict[str, StateArray]:
    """Open arrays of a group."""
    # Told the format, zarr-python asks for no files of older ones. Without assertions (`python -O`) it cannot read
    # consolidated metadata, but it can read the file of each array.
    consolidated = None if __debug__ else False
    group = zarr.open_group(location.path or location.name, mode="r", zarr_format=3, use_consolidated=consolidated)
    arrays = {}
    for name in names:
        array = group[name]
        if not isinstance(array, zarr.Array):
            raise ValueError(f"{name} is a group, expected an array")
        layout = layout_of_array(array)
        arrays[name] = StateArray(layout, name, location, array if layout.compression is None else None)
    return arrays
