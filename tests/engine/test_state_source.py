"""Row blocks of chosen arrays and units, from state dumps and other programs' states alike."""

import time

import numpy as np
import pytest
import torch
import xarray
import zarr

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import open_states

NAMES = ["layer1/h", "layer0/c"]


@pytest.fixture(params=["dump", "zstd", "npz"])
def source(request, tmp_path, small_dump):
    dump = StateDump.open(small_dump(tmp_path / "states.zarr"))
    if request.param == "dump":
        return dump
    if request.param == "zstd":
        return StateDump.open(small_dump(tmp_path / "zstd.zarr", compression="zstd"))
    np.savez(tmp_path / "x.npz", **{name: np.asarray(dump.array(name)) for name in NAMES})
    return open_states(tmp_path / "x.npz")


def test_arrays_are_found_by_name_and_by_state(source, tmp_path):
    for name in NAMES:
        assert source[name] is source.array(name) and name in source
    assert "c" in source and source["c"][0] is source["layer0/c"]
    for name in ("layer9/h", "nope", 0):
        assert name not in source
        with pytest.raises(InputError, match=f"has no {name!r}"):
            source[name]
    values = {f"layer{layer}/h": np.full((4, 1), layer, np.float32) for layer in (10, 2, *range(2), *range(3, 10))}
    np.savez(tmp_path / "many.npz", **values, **{"layer1/c": np.ones((4, 1))})
    many = open_states(tmp_path / "many.npz")
    assert [array[0, 0] for array in many["h"]] == list(range(11)) and "h" in many
    assert "c" not in many
    with pytest.raises(InputError, match=r"has 'c' only as layer1/c: use array\('layer1/c'\)"):
        many["c"]


@pytest.mark.parametrize("units", [None, [2, 0], slice(1, 3)])
@pytest.mark.parametrize("rows", [1, 7, 16, 1000])
def test_blocks_are_the_features_in_order(source, rows, units):
    whole = np.hstack([np.asarray(source.array(name))[:, slice(None) if units is None else units] for name in NAMES])
    blocks = [block.copy() for block in source.blocks(NAMES, units, rows=rows)]
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    assert np.array_equal(np.concatenate(blocks), whole) and blocks[0].dtype == source.dtype


def test_a_block_stays_intact_while_the_next_is_read(source):
    whole = np.asarray(source.array("layer1/h"))
    before = None
    for number, block in enumerate(source.blocks(["layer1/h"], rows=5)):
        # Time for the next block to be read.
        time.sleep(0.05)
        if before is not None:
            assert np.array_equal(before, whole[(number - 1) * 5 : number * 5])
        before = block


def test_torch_shares_the_memory(source):
    blocks = list(source.blocks(NAMES, rows=20, library="torch"))
    assert [type(block) for block in blocks] == [torch.Tensor] * 2
    assert np.array_equal(torch.cat(blocks).numpy(), source.features(NAMES))


@pytest.mark.parametrize("rows", [0, -1, 2.5, True])
def test_blocks_have_whole_numbers_of_rows(source, rows):
    with pytest.raises(InputError, match=f"blocks of {rows} rows: expected a whole number of at least 1"):
        next(source.blocks(NAMES, rows=rows))


@pytest.mark.cuda
def test_cupy(source):
    cupy = pytest.importorskip("cupy")
    for block in source.blocks(NAMES, rows=20, library="cupy"):
        assert isinstance(block, cupy.ndarray)


def test_sequences_are_chosen_by_numbers_or_a_mask(source):
    starts, names = source.sequence_starts, ["layer0/c"]
    n_sequences = len(starts) - 1
    last = np.asarray(source.array("layer0/c"))[starts[-2] :]
    mask = np.arange(n_sequences) == n_sequences - 1
    for chosen in ([n_sequences - 1], np.array([n_sequences - 1], np.uint8), mask, mask.tolist()):
        assert np.array_equal(np.asarray(source.of_sequences(names, chosen)), last)
    assert source.of_sequences(names, []).shape == (0, last.shape[1])
    assert source.of_sequences(names, ~mask | mask).shape == source.array("layer0/c").shape
    for chosen in ([-1], [n_sequences], [0.0], [1.7], mask[1:], [[0]], 0):
        with pytest.raises(InputError, match="sequences"):
            source.of_sequences(names, chosen)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["layer9/h"], {}, "has no 'layer9/h'"),
        (NAMES, {"rows": 0}, "blocks of 0 rows"),
        (NAMES, {"library": "jax"}, "library 'jax' is unknown"),
    ],
)
def test_invalid_arrays_and_options_are_refused(source, names, options, message):
    with pytest.raises(InputError, match=message):
        next(source.blocks(names, **options))


def test_a_damaged_block_stops_the_iteration(tmp_path, small_dump):
    path = small_dump(tmp_path / "states.zarr")
    (path / "layer1/h/c.1.0").unlink()
    blocks = StateDump.open(path).blocks(["layer1/h"], rows=16)
    assert len(next(blocks)) == 16
    with pytest.raises(InputError, match=r"layer1/h: block 1 \(rows 16 to 31\) is missing"):
        next(blocks)


def test_a_compressed_dump_is_opened_unaided(tmp_path, small_dump):
    plain = StateDump.open(small_dump(tmp_path / "plain.zarr"))
    path = small_dump(tmp_path / "zstd.zarr", compression="zstd")
    assert StateDump.open(path).verify() == []
    tree = xarray.open_datatree(path, engine="zarr")
    group = zarr.open_group(path, mode="r")
    for name in plain.names:
        layer, _, state = name.partition("/")
        assert np.array_equal(group[name][:], np.asarray(plain.array(name)))
        assert np.array_equal(tree[f"{layer}/{state}"].values, np.asarray(plain.array(name)))
    assert np.array_equal(group["tokens"][:], plain.tokens)
