"""What a state dump will hold, specified before its first row is written, and the empty Zarr group made from it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from gatescope.engine.array_name import ARRAY_NAME, layer_and_state
from gatescope.engine.block_file import COMPRESSIONS, LEVEL, fill_value
from gatescope.engine.differences import first_difference, shortened
from gatescope.engine.dump import (
    BLOCKS_DIGEST,
    BOUNDS,
    FORMAT,
    GROUP_FILE,
    VERSION,
    StateDump,
    attributes_checksum,
    read_group,
)
from gatescope.engine.errors import InputError
from gatescope.engine.files import sync_folder

# Sequences in one block of initial states: a block that is not full is written anew with every commit.
INITIAL_ROWS = 256


@dataclass(frozen=True, eq=False)
class DumpSpec:
    """What a state dump holds.

    Args:
        arrays: the states to record, with their width H: "layer0/h", "layer0/c", "layer0/gates/i" ... The arrays of one
            layer have one width.
        sequence_starts: int64 [S + 1], the first row of each sequence, then N.
        document_starts: int64 [D + 1], the rows where the text begins anew and is parsed on its own, then N; each is
            the start of a sequence.
        initial: the states that carry over from step to step and so have a value before the first character: "h", "c".
        token_dtype: uint8, uint16 or uint32.
        dtype: of the states, float16 or float32. Zarr's specification and NumPy have no bfloat16.
        attributes: where the states come from, as JSON values. "vocabulary" is needed: each token's character or word.
        block_rows: rows in one file.
        compression: "none", so that blocks can be mapped into memory, or "zstd".

    Raises:
        InputError: one of these is not as described.
    """

    arrays: dict[str, int]
    sequence_starts: np.ndarray
    document_starts: np.ndarray
    initial: tuple[str, ...]
    token_dtype: np.dtype
    dtype: np.dtype
    attributes: dict[str, Any]
    block_rows: int = 8192
    compression: str = "none"

    def __post_init__(self) -> None:
        if not self.arrays:
            raise InputError("the dump has no arrays: name at least one, such as layer0/h")
        widths: dict[int, int] = {}
        for name, width in self.arrays.items():
            if not ARRAY_NAME.fullmatch(name) or any(other.startswith(f"{name}/") for other in self.arrays):
                raise InputError(
                    f"array {name!r} has an invalid name: expected names such as layer0/h or layer0/gates/i"
                )
            layer, _ = layer_and_state(name)
            if width < 1 or widths.setdefault(layer, width) != width:
                raise InputError(
                    f"array {name} has {width} units: expected one width of at least 1 for all of layer{layer}"
                )
        if self.dtype not in (np.dtype(np.float16), np.dtype(np.float32)):
            raise InputError(f"states in {self.dtype}: expected float16 or float32")
        if self.token_dtype not in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32)):
            raise InputError(f"tokens in {self.token_dtype}: expected uint8, uint16 or uint32")
        if self.compression not in COMPRESSIONS:
            raise InputError(f"compression {self.compression!r} is unknown: expected {' or '.join(COMPRESSIONS)}")
        if self.block_rows < 1:
            raise InputError(f"blocks of {self.block_rows} rows: expected at least 1")
        for name in BOUNDS:
            bounds = getattr(self, name)
            rises = bounds.ndim == 1 and len(bounds) >= 2 and bounds[0] == 0 and (np.diff(bounds) > 0).all()
            if bounds.dtype != np.int64 or not rises:
                raise InputError(
                    f"{name} must be int64 and increase from 0 to the number of rows, with at least one row for each "
                    "sequence"
                )
        # Both rise.
        places = np.searchsorted(self.sequence_starts, self.document_starts[self.document_starts <= self.n_rows])
        begun = np.array_equal(self.sequence_starts[places], self.document_starts)
        if not begun or self.document_starts[-1] != self.n_rows:
            raise InputError("document_starts must be starts of sequences, and end with the number of rows")
        self._check_attributes()

    def _check_attributes(self) -> None:
        vocabulary = self.attributes.get("vocabulary")
        if not isinstance(vocabulary, list) or not all(isinstance(word, str) and word for word in vocabulary):
            raise InputError("attributes['vocabulary'] must be a list of characters or words")
        if not 0 < len(vocabulary) <= np.iinfo(self.token_dtype).max + 1:
            raise InputError(f"a vocabulary of {len(vocabulary)} entries does not fit tokens of {self.token_dtype}")
        if "gatescope" in self.attributes or self.attributes.get("alignment", "post") != "post":
            raise InputError("attributes: 'gatescope' is reserved, and a dump's alignment is 'post'")
        try:
            json.dumps(self.attributes, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"attributes must be JSON values: {error}") from None

    @property
    def n_rows(self) -> int:
        """N, the characters of all sequences."""
        return int(self.sequence_starts[-1])

    @property
    def n_sequences(self) -> int:
        """S."""
        return len(self.sequence_starts) - 1

    @property
    def n_values(self) -> int:
        """How many numbers the states are: N rows of each array, S of each initial state."""
        recorded = self.n_rows * sum(self.arrays.values())
        return recorded + self.n_sequences * sum(self.arrays[name] for name in self.initial_arrays)

    @property
    def initial_arrays(self) -> list[str]:
        """The recorded arrays that have a state before each sequence."""
        return [name for name in self.arrays if layer_and_state(name)[1] in self.initial]

    def group_attributes(self) -> dict[str, Any]:
        """Return the attributes of the Zarr group of a dump without rows."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "rows": self.n_rows,
            "rows_committed": 0,
            "sequences": self.n_sequences,
            "block_rows": self.block_rows,
            "compression": self.compression,
            "dtype": str(self.dtype),
            "token_dtype": str(self.token_dtype),
            "arrays": self.arrays,
            "initial": self.initial_arrays,
        }
        # What a reader of the file would see: lists for tuples, strings for keys.
        attributes = json.loads(json.dumps({**self.attributes, "gatescope": header}))
        attributes["gatescope"]["checksum"] = attributes_checksum(attributes)
        return attributes


def create_skeleton(path: Path, spec: DumpSpec) -> None:
    """Create a dump without rows, whole and on the disk; `path` must not exist."""
    group = zarr.create_group(path, attributes=spec.group_attributes())
    rows, units = (spec.n_rows,), (spec.block_rows,)
    create = partial(_create_array, group, spec.compression)
    create("tokens", rows, units, spec.token_dtype, ("row",))
    for name, width in spec.arrays.items():
        create(name, (*rows, width), (*units, width), spec.dtype, ("row", "unit"))
    for name in spec.initial_arrays:
        width = spec.arrays[name]
        shape, block = (spec.n_sequences, width), (INITIAL_ROWS, width)
        create(f"initial/{name}", shape, block, spec.dtype, ("sequence", "unit"))
    for name in BOUNDS:
        bounds = getattr(spec, name)
        create(name, bounds.shape, bounds.shape, bounds.dtype, (name.replace("starts", "bound"),))[:] = bounds
    _consolidate(path)
    for folder in [path, *(inner for inner in path.rglob("*") if inner.is_dir())]:
        for file in folder.iterdir():
            if file.is_file():
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
        sync_folder(folder)


def _consolidate(path: Path) -> None:
    """Copy the metadata of all arrays into the group's file, since xarray warns of groups without them.

    zarr-python's own function for it does not work without assertions (`python -O`).
    """
    names = [file.parent.relative_to(path).as_posix() for file in path.rglob(f"*/{GROUP_FILE}")]
    members = {}
    for name in sorted(names, key=lambda name: (name.count("/"), name)):
        member = json.loads((path / name / GROUP_FILE).read_bytes())
        members[name] = member if member["node_type"] == "array" else _group_document({}, member["attributes"])
    attributes = json.loads((path / GROUP_FILE).read_bytes())["attributes"]
    (path / GROUP_FILE).write_text(json.dumps(_group_document(members, attributes), indent=2), encoding="utf-8")


def _group_document(members: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a group, those of its members consolidated in it."""
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    return {
        "attributes": attributes,
        "zarr_format": 3,
        "consolidated_metadata": consolidated,
        "node_type": "group",
    }


def _create_array(
    group: zarr.Group,
    compression: str,
    name: str,
    shape: tuple[int, ...],
    block: tuple[int, ...],
    dtype: np.dtype,
    dimensions: tuple[str, ...],
) -> zarr.Array[Any]:
    return group.create_array(
        name,
        shape=shape,
        chunks=(min(block[0], shape[0]), *block[1:]),
        dtype=dtype,
        # In any program a missing block reads as this, too.
        fill_value=fill_value(dtype),
        compressors=[Crc32cCodec()] if compression == "none" else [ZstdCodec(level=LEVEL), Crc32cCodec()],
        # One folder for an array instead of one for every block.
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=dimensions,
    )


def difference(dump: StateDump, spec: DumpSpec) -> str | None:
    """Describe the first difference between a dump and a spec; None if the dump could have been begun with it."""
    stored = read_group(dump.path)["attributes"]
    there, now = ({**attributes, **attributes["gatescope"]} for attributes in (stored, spec.group_attributes()))
    for side in (there, now):
        for name in ("gatescope", "rows_committed", "checksum", BLOCKS_DIGEST):
            side.pop(name, None)
    found = first_difference(there, now)
    for name in BOUNDS:
        starts, asked = getattr(dump, name), getattr(spec, name)
        # There may be millions.
        if found is None and not np.array_equal(starts, asked):
            found = first_difference(starts.tolist(), asked.tolist(), name)
    return found and f"{found[0]} is {shortened(found[1])} there and {shortened(found[2])} now"


def require_begun_with(dump: StateDump, spec: DumpSpec) -> None:
    """Check that a dump could have been begun with a spec.

    Raises:
        InputError: it differs; the first difference is named.
    """
    found = difference(dump, spec)
    if found:
        raise InputError(f"{dump.name} was begun with other settings: {found}; use those, or --overwrite")
