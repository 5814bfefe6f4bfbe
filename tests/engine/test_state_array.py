"""One array of a dump; the arrays here are written by zarr-python alone, in every layout it allows."""

import mmap
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from gatescope.engine.block_layout import layout_of_array
from gatescope.engine.errors import InputError
from gatescope.engine.location import Location
from gatescope.engine.state_array import StateArray

N, H, BLOCK = 53, 7, 8
VALUES = np.random.default_rng(1).normal(size=(N, H)).astype(np.float16)
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"compressors": Crc32cCodec()},
    "zstd": {"compressors": ZstdCodec()},
    "zstd with checksum": {"compressors": [ZstdCodec(level=3), Crc32cCodec()]},
    "none": {"compressors": None},
    "big-endian": {"compressors": Crc32cCodec(), "serializer": BytesCodec(endian="big")},
    "cut columns": {"compressors": Crc32cCodec(), "chunks": (BLOCK, 3)},
}


def make(folder, values=VALUES, **layout):
    options: dict[str, Any] = {
        "chunks": (BLOCK, *values.shape[1:]),
        "chunk_key_encoding": {"name": "default", "separator": "."},
    }
    options["fill_value"] = np.nan if values.dtype.kind == "f" else 0
    zarr.create_group(folder).create_array("layer0/h", data=values, **{**options, **layout})
    array = zarr.open_array(folder / "layer0/h", mode="r")
    return StateArray(layout_of_array(array), "layer0/h", Location(folder), array)


@pytest.fixture(scope="module", params=LAYOUTS)
def any_layout(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("layout") / "dump", **LAYOUTS[request.param])


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    return make(tmp_path_factory.mktemp("array") / "dump", **LAYOUTS["plain"])


@pytest.fixture
def own_array(tmp_path):
    return make(tmp_path / "dump", **LAYOUTS["plain"])


def base_of(values):
    while isinstance(values, np.ndarray):
        values = values.base
    return values.obj if isinstance(values, memoryview) else values


def test_a_whole_array_is_read(any_layout):
    assert any_layout.shape == (N, H) and any_layout.ndim == 2 and len(any_layout) == N
    assert any_layout.dtype == np.float16 and any_layout.n_blocks == 7
    assert np.array_equal(np.asarray(any_layout), VALUES)
    assert np.array_equal(np.asarray(any_layout, dtype=np.float32), VALUES.astype(np.float32))
    assert np.array_equal(np.concatenate(list(any_layout.blocks())), VALUES)
    assert not any_layout[8:16].flags.writeable
    with pytest.raises(ValueError, match="without a copy"):
        np.array(any_layout, copy=False)


slices = st.builds(slice, st.none() | st.integers(-60, 60), st.none() | st.integers(-60, 60))
row_numbers = st.lists(st.integers(-N, N - 1), max_size=30).map(lambda rows: np.array(rows, dtype=np.int64))
row_choices = (
    slices | st.integers(-N, N - 1) | row_numbers | st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)
)
column_choices = (
    st.none()
    | st.builds(slice, st.integers(-8, 8), st.integers(-8, 8), st.sampled_from([1, 2, -1]))
    | st.integers(-H, H - 1)
    | st.lists(st.integers(-H, H - 1), max_size=9).map(lambda columns: np.array(columns, dtype=np.int64))
    | st.lists(st.booleans(), min_size=H, max_size=H).map(np.array)
)


@settings(deadline=None, max_examples=400)
@given(row_choices, column_choices)
def test_any_choice_of_rows_and_columns_equals_numpy(array, rows, columns):
    if columns is None:
        assert np.array_equal(array[rows], VALUES[rows], equal_nan=True)
        return
    chosen = array[rows, columns]
    expected = VALUES[rows][..., columns]
    assert chosen.shape == expected.shape
    assert np.array_equal(chosen, expected)


@pytest.mark.parametrize("rows", [slice(5, 40), np.array([50, 3, 3, -1])], ids=["slice", "integers"])
@pytest.mark.parametrize("columns", [slice(1, 3), [4, 0], 2], ids=["slice", "integers", "one"])
def test_selections_work_in_any_layout(any_layout, rows, columns):
    assert np.array_equal(any_layout[rows, columns], VALUES[rows][:, columns])


def test_blocks_match_those_on_disk(array):
    pieces = list(array.blocks())
    assert [len(piece) for piece in pieces] == [BLOCK] * 6 + [N - 6 * BLOCK]
    assert np.array_equal(np.concatenate(pieces), VALUES)


@pytest.mark.parametrize("values", [VALUES[:, 0].copy(), np.arange(N, dtype=np.uint16)], ids=["float", "tokens"])
def test_arrays_with_one_value_per_row_are_read(tmp_path, values):
    array = make(tmp_path / "dump", values, compressors=Crc32cCodec())
    assert np.array_equal(np.asarray(array), values)
    assert np.array_equal(array[6:20], values[6:20])
    assert np.array_equal(array[[9, 2]], values[[9, 2]])
    assert array[-1] == values[-1]
    assert np.array_equal(np.concatenate(list(array.blocks())), values)
    assert [array.check_block(index, BLOCK) for index in range(array.n_blocks)] == [None] * 7
    with pytest.raises(IndexError, match="takes no columns"):
        array[2, 1]


def test_rows_of_one_block_are_not_copied(array):
    first, second = array[8:16], array[10:12]
    assert np.shares_memory(first, second)
    assert isinstance(base_of(first), mmap.mmap)
    assert not first.flags.writeable
    assert isinstance(base_of(next(iter(array.blocks()))), mmap.mmap)
    assert np.shares_memory(array[8:16, 2:4], array[8:16])
    assert array[8:17].flags.owndata


def test_values_survive_mapping_the_next_block(array):
    held = [array[start : start + BLOCK] for start in range(0, N, BLOCK)]
    assert np.array_equal(np.concatenate(held), VALUES)


@pytest.mark.parametrize(("start", "n"), [(0, N), (0, 8), (3, 2), (7, 11), (47, 6), (5, 0)])
def test_read_into_fills_the_given_rows(any_layout, start, n):
    out = np.full((n + 2, H), 9, dtype=np.float16)
    any_layout.read_into(out[1:-1], start)
    assert np.array_equal(out[1:-1], VALUES[start : start + n])
    assert (out[[0, -1]] == 9).all()
    wide = np.zeros((n, H), dtype=np.float32)
    any_layout.read_into(wide, start)
    assert np.array_equal(wide, VALUES[start : start + n].astype(np.float32))


def test_read_into_fills_columns_of_a_wider_array(any_layout):
    wide = np.full((20, H + 4), 9, dtype=np.float16)
    any_layout.read_into(wide[:, 2 : 2 + H], 6)
    assert np.array_equal(wide[:, 2 : 2 + H], VALUES[6:26])
    assert (wide[:, [0, 1, -2, -1]] == 9).all()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (N, "has rows 0 to 52, not 53$"),
        ([0, -N - 1], "has rows 0 to 52, not -54$"),
        (np.zeros(3, bool), "mask of shape"),
        ([[1, 2]], "slice, integers or a mask"),
        ([0.5], "slice, integers or a mask"),
        ((slice(0, 9), H), "has columns 0 to 6, not 7$"),
        ((slice(0, 9), [0, -H - 1]), "has columns 0 to 6, not -8$"),
        ((slice(0, 9), np.zeros(3, bool)), "has 7 columns: a mask of shape"),
    ],
)
def test_rows_out_of_range_are_refused(array, key, message):
    with pytest.raises(IndexError, match=message):
        array[key]


def test_intact_blocks_have_no_fault(any_layout):
    assert [any_layout.check_block(index, BLOCK) for index in range(7)] == [None] * 7


def block_file(array, index):
    return array._location.path / "layer0" / "h" / f"c.{index}.0"


def test_a_missing_block_is_reported(own_array):
    block_file(own_array, 2).unlink()
    assert own_array.check_block(2, BLOCK) == "layer0/h: block 2 (rows 16 to 23) is missing: write the dump again"
    assert own_array.check_block(1, BLOCK) is None
    for read in (lambda: own_array[20], lambda: np.asarray(own_array), lambda: list(own_array.blocks())):
        with pytest.raises(InputError, match=r"block 2 \(rows 16 to 23\) is missing"):
            read()


@pytest.mark.parametrize(("change", "fault"), [(-1, "truncated"), (-116, "truncated"), (1, "too long")])
def test_a_block_of_another_length_is_reported(own_array, change, fault):
    file = block_file(own_array, 6)
    data = file.read_bytes()
    file.write_bytes((data + b"0")[: len(data) + change])
    expected = rf"layer0/h: block 6 \(rows 48 to 52\) is {fault}: {116 + change} bytes, expected 116"
    for read in (lambda: own_array[50], lambda: np.asarray(own_array), lambda: list(own_array.blocks())):
        with pytest.raises(InputError, match=expected):
            read()


@pytest.mark.parametrize("place", [0, 57, 111, 112, 115], ids=lambda place: f"byte{place}")
def test_a_flipped_bit_is_reported(own_array, place):
    file = block_file(own_array, 3)
    data = bytearray(file.read_bytes())
    data[place] ^= 4
    file.write_bytes(data)
    assert own_array.check_block(3, BLOCK) == "layer0/h: block 3 (rows 24 to 31) does not match its checksum"


def test_a_damaged_block_of_another_layout_is_reported(tmp_path):
    array = make(tmp_path / "dump", compressors=[GzipCodec(), Crc32cCodec()])
    file = block_file(array, 3)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert array.check_block(2, BLOCK) is None
    assert array.check_block(3, BLOCK).startswith("layer0/h: block 3 (rows 24 to 31) cannot be read: ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_nonfinite_value_is_reported(tmp_path, value):
    values = VALUES.copy()
    values[19, 5] = value
    array = make(tmp_path / "dump", values, compressors=Crc32cCodec())
    assert array.check_block(2, BLOCK) == f"layer0/h: {value} at row 19, unit 5"
    assert array.check_block(2, 3) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_damaged_block_of_zstd_is_reported(tmp_path, damage):
    array = make(tmp_path / "dump", compressors=[ZstdCodec(), Crc32cCodec()])
    file = block_file(array, 3)
    content = file.read_bytes()
    file.unlink()
    if damage != "remove":
        file.write_bytes({"flip": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-7], "empty": b""}[damage])
    fault = "is missing" if damage == "remove" else "does not match its checksum"
    assert array.check_block(3, BLOCK).startswith(f"layer0/h: block 3 (rows 24 to 31) {fault}")
    with pytest.raises(InputError, match=fault):
        array[20:30]
    assert np.array_equal(array[16:24], VALUES[16:24])


def test_zstd_blocks_with_other_content_are_reported(tmp_path):
    array = make(tmp_path / "dump", compressors=[ZstdCodec(), Crc32cCodec()])
    content = b"not a frame"
    block_file(array, 3).write_bytes(content + google_crc32c.value(content).to_bytes(4, "little"))
    assert "block 3 (rows 24 to 31) is not zstd" in array.check_block(3, BLOCK)
    content = Zstd().encode(VALUES[:5])
    block_file(array, 3).write_bytes(content + google_crc32c.value(content).to_bytes(4, "little"))
    assert "block 3 (rows 24 to 31) is truncated: 74 bytes, expected 116" in array.check_block(3, BLOCK)
