"""How arrays are laid out in the files of their blocks."""

import json

import numpy as np
import pytest
import zarr

from gatescope.engine.block_layout import layout_of_array
from gatescope.engine.dump_spec import DumpSpec, create_skeleton


def create(path, compression="none", dtype="float16", token_dtype="uint8", width=3):
    spec = DumpSpec(
        arrays={"layer0/h": width, "layer0/gates/i": width},
        sequence_starts=np.array([0, 4, 9], dtype=np.int64),
        document_starts=np.array([0, 9], dtype=np.int64),
        initial=("h",),
        token_dtype=np.dtype(token_dtype),
        dtype=np.dtype(dtype),
        attributes={"vocabulary": ["a", "b"]},
        block_rows=4,
        compression=compression,
    )
    create_skeleton(path, spec)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize(("dtype", "token_dtype"), [("float16", "uint8"), ("float32", "uint16"), ("float16", "uint32")])
def test_blocks_of_our_writer_hold_whole_rows(tmp_path, compression, dtype, token_dtype):
    create(tmp_path / "dump", compression, dtype, token_dtype)
    group = zarr.open_group(tmp_path / "dump", mode="r")
    layouts = {name: layout_of_array(each) for name, each in group.members(None) if isinstance(each, zarr.Array)}
    assert {layout.compression for layout in layouts.values()} == {compression}
    states, tokens = layouts["layer0/gates/i"], layouts["tokens"]
    assert (states.shape, states.dtype, states.block_rows, states.key(2)) == ((9, 3), dtype, 4, "c.2.0")
    assert (tokens.shape, tokens.dtype, tokens.block_rows, tokens.key(1)) == ((9,), token_dtype, 4, "c.1")


@pytest.mark.parametrize("change", ["big", "level", "columns", "flat"])
def test_other_layouts_of_the_same_array_are_read(tmp_path, change):
    create(tmp_path / "dump", "zstd")
    file = tmp_path / "dump/layer0/h/zarr.json"
    array = json.loads(file.read_text())
    if change == "big":
        array["codecs"][0]["configuration"]["endian"] = "big"
    elif change == "level":
        array["codecs"][1]["configuration"]["level"] = 5
    elif change == "columns":
        array["chunk_grid"]["configuration"]["chunk_shape"][1] = 2
    else:
        array["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": "."}}
    file.write_text(json.dumps(array))
    found = layout_of_array(zarr.open_array(tmp_path / "dump/layer0/h", mode="r"))
    assert found.shape == (9, 3) and found.compression == ("zstd" if change == "level" else None)
