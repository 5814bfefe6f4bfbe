"""Tests of array metadata; zarr-python says what any of them mean."""

import copy
import json

import numpy as np
import pytest
import zarr

from gatescope.engine.block_layout import layout_of_array, layouts_of_document
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec, create_skeleton

STRANGE = [None, True, 0, 1, 1.0, 2, -1, 2**70, 1e999, "", "uint8", "float16", "little", "zstd", ".", "/", [], [1], {}]


def create(path, compression="none", dtype="float16", token_dtype="uint8", width=3):
    spec = DumpSpec(
        arrays={"layer0/h": width, "layer0/gates/i": width},
        sequence_starts=np.array([0, 4, 9], dtype=np.int64),
        document_starts=np.array([0, 9], dtype=np.int64),
        initial=("h",),
        token_dtype=np.dtype(token_dtype),
        dtype=np.dtype(dtype),
        attributes={"vocabulary": ["a", "b"], "note": [1, 1.0, True, None]},
        block_rows=4,
        compression=compression,
    )
    create_skeleton(path, spec)
    return json.loads((path / "zarr.json").read_text())


def as_zarr_says(path):
    group = zarr.open_group(path, mode="r")
    return {name: layout_of_array(array) for name, array in group.members(None) if isinstance(array, zarr.Array)}


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize(("dtype", "token_dtype"), [("float16", "uint8"), ("float32", "uint16"), ("float16", "uint32")])
def test_what_our_writer_makes_is_understood(tmp_path, compression, dtype, token_dtype):
    layouts = layouts_of_document(create(tmp_path / "dump", compression, dtype, token_dtype))
    assert layouts == as_zarr_says(tmp_path / "dump")
    states = layouts["layer0/gates/i"]
    assert (states.shape, states.dtype, states.block_rows, states.compression) == ((9, 3), dtype, 4, compression)
    assert states.key(2) == "c.2.0" and layouts["tokens"].key(1) == "c.1"


def test_a_dump_of_ours_is_opened_without_zarr(tmp_path, monkeypatch):
    create(tmp_path / "dump")

    def refused(*args, **options):
        raise AssertionError("opened by zarr-python")

    with monkeypatch.context() as patched:
        patched.setattr(zarr, "open_group", refused)
        dump = StateDump.open(tmp_path / "dump", finished=False)
    assert dump.sequence_starts.tolist() == [0, 4, 9]


def places(value, place=()):
    """Yield the place of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*place, key)
        yield from places(child, (*place, key))


def test_any_other_metadata_are_left_to_zarr(tmp_path):
    """Every value in a group's metadata is removed, doubled, or replaced by something strange."""
    whole = create(tmp_path / "dump")
    chance = np.random.default_rng(3)
    understood = 0
    for place in places(whole):
        for kind in ("remove", "double", *chance.choice(len(STRANGE), 4, replace=False)):
            document = copy.deepcopy(whole)
            parent = document
            for key in place[:-1]:
                parent = parent[key]
            if kind == "remove":
                del parent[place[-1]]
            elif kind == "double" and isinstance(parent, list):
                parent.append(parent[place[-1]])
            elif kind == "double":
                # Beside the original: zarr-python wants the members of one group next to each other.
                pairs = list(parent.items())
                pairs.insert(list(parent).index(place[-1]), (f"{place[-1]}2", parent[place[-1]]))
                parent.clear()
                parent.update(pairs)
            else:
                parent[place[-1]] = STRANGE[kind]
            layouts = layouts_of_document(document)
            if layouts is not None and (document != whole or kind == "double"):
                understood += 1
                (tmp_path / "dump" / "zarr.json").write_text(json.dumps(document))
                assert layouts == as_zarr_says(tmp_path / "dump"), (place, kind)
    assert understood > 20


@pytest.mark.parametrize("change", ["big", "level", "columns", "flat"])
def test_other_ways_to_lay_out_the_same_array(tmp_path, change):
    document = create(tmp_path / "dump", "zstd")
    array = document["consolidated_metadata"]["metadata"]["layer0/h"]
    if change == "big":
        array["codecs"][0]["configuration"]["endian"] = "big"
    elif change == "level":
        array["codecs"][1]["configuration"]["level"] = 5
    elif change == "columns":
        array["chunk_grid"]["configuration"]["chunk_shape"][1] = 2
    else:
        array["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": "."}}
    assert layouts_of_document(document) is None
    (tmp_path / "dump" / "zarr.json").write_text(json.dumps(document))
    found = as_zarr_says(tmp_path / "dump")["layer0/h"]
    assert found.shape == (9, 3) and found.compression == ("zstd" if change == "level" else None)
