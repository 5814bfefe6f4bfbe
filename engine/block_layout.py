"""How an array of a Zarr group lies in the files of its blocks, as its metadata say (Zarr v3 specification).

Most dumps were written by `gatescope.engine.dump_writer`, and their metadata read here take a tenth of the time that
zarr-python takes to build its objects. So `layouts_of_document` understands what that writer makes, to the letter, and
nothing else: any other group is opened by zarr-python, which then decides whether it can be read at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from gatescope.engine.block_file import COMPRESSIONS, LEVEL, block_name

DTYPES = ("float16", "float32", "uint8", "uint16", "uint32", "int64")


@dataclass(frozen=True)
class BlockLayout:
    """The blocks of an array: runs of rows.

    Args:
        shape: (N, H) or (N,).
        dtype: of the values.
        block_rows: rows in a block.
        compression: how a file holds them, whole rows in each: one of `COMPRESSIONS`, or None in any other way.
        separator: between the parts of a file's name.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    block_rows: int
    compression: str | None
    separator: str = "."

    def key(self, index: int) -> str:
        """Return the name of a block's file below the array's."""
        return block_name(index, len(self.shape) - 1, self.separator)


def layout_of_array(array: zarr.Array[Any]) -> BlockLayout:
    """Return the layout of an array that zarr-python opened.

    Raises:
        ValueError: its blocks have no rows, which zarr-python lets pass.
    """
    if not all(array.chunks):
        raise ValueError(f"{array.path} has blocks of the shape {array.chunks}")
    codecs: tuple[Any, ...] = tuple(getattr(array.metadata, "codecs", ()))
    names = getattr(array.metadata, "chunk_key_encoding", None)
    whole_rows = (
        len(codecs) in (2, 3)
        and isinstance(codecs[0], BytesCodec)
        and isinstance(codecs[-1], Crc32cCodec)
        and (codecs[0].endian is None or codecs[0].endian.value == "little")
        and np.dtype(array.dtype).newbyteorder("<") == np.dtype(array.dtype)
        and array.chunks[1:] == array.shape[1:]
        and getattr(names, "name", None) == "default"
    )
    compression = None
    if whole_rows and (len(codecs) == 2 or isinstance(codecs[1], ZstdCodec)):
        compression = "none" if len(codecs) == 2 else "zstd"
    return BlockLayout(
        array.shape, np.dtype(array.dtype), array.chunks[0], compression, getattr(names, "separator", ".")
    )


def layouts_of_document(group: dict[str, Any]) -> dict[str, BlockLayout] | None:
    """Return the layouts of a group's arrays by their names, or None if the group is not just as our writer makes it.

    Args:
        group: the content of its metadata file, `consolidated_metadata` in it.
    """
    try:
        members = group["consolidated_metadata"]["metadata"]
        arrays = {name: _layout(member) for name, member in members.items() if member["node_type"] == "array"}
        inner = {name: group_document({}, {}) for name in members if name not in arrays}
        parents = {name[:place] for name in members for place, sign in enumerate(name) if sign == "/"}
        documents = {name: _document(layout, members[name]["dimension_names"]) for name, layout in arrays.items()}
        as_written = group_document({**documents, **inner}, {**group["attributes"]})
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    return arrays if parents == inner.keys() and _same(group, as_written) else None


def _layout(document: dict[str, Any]) -> BlockLayout:
    """Read what `_document` writes; what differs from it otherwise is seen when the two are compared."""
    shape, chunks = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
    if len(shape) not in (1, 2) or not all(type(size) is int and size > 0 for size in (*shape, *chunks)):
        raise ValueError("not rows of values")
    dtype = np.dtype(DTYPES[DTYPES.index(document["data_type"])])
    return BlockLayout(tuple(shape), dtype, chunks[0], COMPRESSIONS[len(document["codecs"]) - 2])


def group_document(members: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a group, those of its members consolidated in it."""
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    return {
        "attributes": attributes,
        "zarr_format": 3,
        "consolidated_metadata": consolidated,
        "node_type": "group",
    }


def _document(layout: BlockLayout, dimensions: list[str]) -> dict[str, Any]:
    """Return the metadata of an array that our writer makes."""
    if len(dimensions) != len(layout.shape) or not all(isinstance(name, str) for name in dimensions):
        raise ValueError("not the names of its dimensions")
    values: dict[str, Any] = {"name": "bytes"}
    if layout.dtype.itemsize > 1:
        values["configuration"] = {"endian": "little"}
    zstd = {"name": "zstd", "configuration": {"level": LEVEL, "checksum": False}}
    return {
        "shape": list(layout.shape),
        "data_type": layout.dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [layout.block_rows, *layout.shape[1:]]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": layout.separator}},
        "fill_value": "NaN" if layout.dtype.kind == "f" else 0,
        "codecs": [values, *([zstd] if layout.compression == "zstd" else []), {"name": "crc32c"}],
        "attributes": {},
        "dimension_names": dimensions,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; for Python alone, 1, 1.0 and true are."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)
