"""Tests of reading other programs' states: every format is written by its own library and read back row by row."""

import json
import mmap
import zipfile

import h5py
import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import save_file

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import OtherDump, ReadConfig, open_states

T, B, H = 40, 3, 5
N = T * B
RANDOM = np.random.default_rng(0)
CUBE = RANDOM.normal(size=(T, B, H)).astype(np.float32)
ROWS = CUBE.swapaxes(0, 1).reshape(N, H)  # sequence by sequence
STARTS = np.arange(0, N + 1, T)
TEXT = "".join(RANDOM.choice(list("abä\r\n𝄞"), N))


def write_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def write_zarr(path, **arrays):
    group = zarr.create_group(path)
    for name, values in arrays.items():
        group.create_array(name, data=np.asarray(values), chunks=(7, *np.shape(values)[1:]))
    return path


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def write_compressed(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def write_safetensors(path, **arrays):
    save_file({name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}, path)
    return path


def is_mapped(values):
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap.mmap)


WRITERS = {
    "stored.npz": write_npz,
    "deflated.npz": write_compressed,
    "file.h5": write_h5,
    "file.hdf5": write_h5,
    "file.safetensors": write_safetensors,
    "file.zarr": write_zarr,
}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    return lambda **arrays: WRITERS[request.param](tmp_path / request.param, **arrays)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows(write, dtype):
    values = ROWS.astype(dtype)
    source = open_states(write(first=values, second=-values[:, :2]))
    assert isinstance(source, OtherDump) and source.names == ["first", "second"] and source.n_rows == N
    assert source.array("first").dtype == dtype and source.array("second").shape == (N, 2)
    assert np.array_equal(source.features(["second", "first"]), np.hstack([-values[:, :2], values]))
    assert np.array_equal(source.array("first")[7:30, [0, 3]], values[7:30, [0, 3]])
    assert source.sequence_starts.tolist() == [0, N] and source.tokens is None and source.vocabulary is None
    assert source.verify() == []


@pytest.mark.parametrize("batch_first", [False, True])
def test_three_dimensions(write, batch_first):
    cube = np.ascontiguousarray(CUBE.swapaxes(0, 1)) if batch_first else CUBE
    tokens = np.arange(N).reshape(cube.shape[:2])
    source = open_states(write(states=cube, tokens=tokens), ReadConfig(batch_first=batch_first))
    assert np.array_equal(np.asarray(source.array("states")), ROWS)
    assert np.array_equal(source.array("states")[[0, T - 1, T, N - 1]], ROWS[[0, T - 1, T, N - 1]])
    assert np.array_equal(source.sequence_starts, STARTS)
    assert np.array_equal(source.tokens, (tokens if batch_first else tokens.T).reshape(-1))


def test_sequences_and_tokens(write):
    ids = np.repeat([4, 2, 9], [10, 60, 50])
    source = open_states(write(states=ROWS, sequence_ids=ids, words=np.arange(N) % 7))
    assert source.sequence_starts.tolist() == [0, 10, 70, 120]
    assert np.array_equal(source.document_starts, source.sequence_starts)
    assert np.array_equal(source.tokens, np.arange(N) % 7) and source.vocabulary is None
    assert source.sequence_ids.tolist() == np.repeat([0, 1, 2], [10, 60, 50]).tolist()


def test_npy_is_mapped(tmp_path):
    for name, values in (("c", ROWS), ("fortran", np.asfortranarray(ROWS)), ("big", ROWS.astype(">f4"))):
        np.save(tmp_path / f"{name}.npy", values)
        source = open_states(tmp_path / f"{name}.npy")
        assert source.names == [name] and source.dtype == np.dtype("float32")
        assert np.array_equal(source.features([name]), ROWS)
    assert is_mapped(open_states(tmp_path / "c.npy").array("c")[3:9])


def test_a_stored_member_is_mapped_and_a_compressed_one_is_not(tmp_path):
    for name, mapped in (("stored.npz", True), ("deflated.npz", False)):
        array = open_states(WRITERS[name](tmp_path / name, other=ROWS[:, :1], states=ROWS)).array("states")
        assert is_mapped(array[3:9]) == mapped


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8])
def test_whole_numbers_of_any_size_are_read(tmp_path, dtype):
    arrays = {"h": np.ones((4, 2), np.float16), "tokens": np.array([0, 3, 1, 2], dtype)}
    source = open_states(write_safetensors(tmp_path / "x.safetensors", **arrays))
    assert source.tokens.tolist() == [0, 3, 1, 2]


def test_bfloat16_of_safetensors_is_read_as_float32(tmp_path):
    values = torch.from_numpy(ROWS).bfloat16()
    save_file({"h": values}, tmp_path / "x.safetensors")
    source = open_states(tmp_path / "x.safetensors")
    assert source.dtype == np.float32 and np.array_equal(source.features(["h"]), values.float().numpy())


def test_lstmvis_layout(tmp_path):
    path = write_h5(tmp_path / "states.hdf5", states1=ROWS, output1=-ROWS, states2=2 * ROWS, word_ids=np.arange(N))
    source = open_states(path, ReadConfig(sequence_length=50, text=None))
    assert sorted(source.names) == ["output1", "states1", "states2"]
    assert np.array_equal(source.features(["states2"]), 2 * ROWS)
    assert source.sequence_starts.tolist() == [0, 50, 100, 120] and source.document_starts.tolist() == [0, N]
    assert np.array_equal(source.tokens, np.arange(N))


def test_neurox_layout(tmp_path):
    sentences = ["a b c", "b", "a b c (Occurrence 2)", "c c"] + [f"w{i} b" for i in range(8)]
    lengths = [len(sentence.split(" (")[0].split()) for sentence in sentences]
    values = [RANDOM.normal(size=(2, length, H)).astype(np.float32) for length in lengths]
    path = write_h5(tmp_path / "acts.hdf5", **{str(i): each for i, each in enumerate(values)})
    with h5py.File(path, "a") as file:
        index = file.create_dataset("sentence_to_index", (1,), dtype=h5py.special_dtype(vlen=str))
        index[0] = json.dumps({sentence: str(i) for i, sentence in enumerate(sentences)})
    source = open_states(path)
    assert source.names == ["layer0", "layer1"] and source.n_rows == sum(lengths)
    assert np.array_equal(source.sequence_starts, np.cumsum([0, *lengths]))
    for layer in (0, 1):
        expected = np.concatenate([each[layer] for each in values])
        assert np.array_equal(np.asarray(source.array(f"layer{layer}")), expected)
        assert np.array_equal(source.array(f"layer{layer}")[2:5], expected[2:5])
    words = " ".join(sentence.split(" (")[0] for sentence in sentences).split()
    first = {word: words.index(word) for word in words}
    same = source.tokens[[first[word] for word in words]]
    assert np.array_equal(source.tokens, same) and len(set(source.tokens)) == len(first)


def test_numbers_for_names_are_no_sentences_without_their_index(tmp_path):
    cubes = RANDOM.normal(size=(2, 15, 8, H)).astype(np.float32)
    source = open_states(write_h5(tmp_path / "layers.h5", **{"0": cubes[0], "1": cubes[1]}))
    assert source.names == ["0", "1"] and source.n_rows == 120 and len(source.sequence_starts) == 9
    assert np.array_equal(source.array("1")[15:30], cubes[1][:, 1])


def test_characters_may_be_nul(tmp_path):
    source = open_states(write_npz(tmp_path / "x.npz", h=ROWS, chars=np.array(list("ab\0") * (N // 3))))
    assert "".join(source.vocabulary[token] for token in source.tokens) == "ab\0" * (N // 3)
    write_zarr(tmp_path / "z.zarr", h=ROWS, tokens=np.arange(N) % 3)
    zarr.open_group(tmp_path / "z.zarr").attrs["vocabulary"] = ["a", "b", "\0"]
    assert open_states(tmp_path / "z.zarr").vocabulary == ["a", "b", "\0"]


def test_a_stored_member_of_an_npz_is_compared_with_its_checksum(tmp_path):
    many = np.tile(ROWS, (100, 1))
    path = write_npz(tmp_path / "x.npz", h=many, other=2 * many)
    assert open_states(path).verify() == []
    data = bytearray(path.read_bytes())
    data[data.index(many.tobytes()) + many.nbytes - 4] ^= 1
    path.write_bytes(data)
    assert open_states(path).verify() == [f"h does not match its checksum in {path}"]
    assert open_states(path, ReadConfig(arrays=("other",))).verify() == []


def test_what_cannot_be_read_and_nobody_asks_for_is_no_matter(tmp_path):
    np.savez(tmp_path / "x.npz", h=ROWS, meta=np.array({"a": 1}))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("README.txt", "no array")
    assert open_states(tmp_path / "x.npz").names == ["h"]
    with pytest.raises(InputError, match=r"meta cannot be read: .*Python objects"):
        open_states(tmp_path / "x.npz", ReadConfig(arrays=("meta",)))
    with pytest.raises(InputError, match=r"README.txt cannot be read"):
        open_states(tmp_path / "x.npz", ReadConfig(arrays=("README.txt",)))
    for name in ("sequence_starts", "document_starts", "sequence_ids", "tokens", "chars", "vocabulary"):
        np.savez(tmp_path / "y.npz", h=ROWS, **{name: np.array([{}] * N, dtype=object)})
        with pytest.raises(InputError, match=rf"y\.npz: {name} cannot be read: .*Python objects"):
            open_states(tmp_path / "y.npz")
    small = torch.zeros(N, H).to(torch.float8_e4m3fn)
    save_file({"h": torch.from_numpy(ROWS), "f8": small}, tmp_path / "x.safetensors")
    assert open_states(tmp_path / "x.safetensors").names == ["h"]
    with pytest.raises(InputError, match=r"f8 cannot be read: .*F8_E4M3"):
        open_states(tmp_path / "x.safetensors", ReadConfig(arrays=("f8",)))


def test_a_text_beside_the_states(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    (tmp_path / "text.txt").write_bytes(TEXT.encode())
    source = open_states(tmp_path / "x.npy", ReadConfig(text=tmp_path / "text.txt", sequence_length=T))
    assert source.text() == TEXT and source.text(3, 9) == TEXT[3:9]
    assert list(source.documents()) == [(0, N, TEXT)]
    ids = np.repeat(["b", "a"], [100, 20])
    for each in (ids, ids.tolist()):
        source = open_states(tmp_path / "x.npy", ReadConfig(text=tmp_path / "text.txt"), each)
        assert list(source.documents()) == [(0, 100, TEXT[:100]), (100, N, TEXT[100:])]


def test_nan_is_named_with_row_and_unit(write):
    values = ROWS.copy()
    values[77, 2] = np.nan
    source = open_states(write(fine=ROWS, states=values))
    assert source.verify() == ["states: nan at row 77, unit 2: expected finite states"]


def test_identity_tells_states_apart(tmp_path):
    one = open_states(write_npz(tmp_path / "a.npz", states=ROWS)).identity()
    assert one == open_states(write_h5(tmp_path / "a.h5", states=ROWS)).identity()
    other = ROWS.copy()
    other[50, 1] += 1
    assert one != open_states(write_npz(tmp_path / "b.npz", states=other)).identity()


CUT = np.repeat([0, 1, 0], [40, 40, 40])
BAD = [
    ({}, {}, "has no float array"),
    ({"tokens": np.zeros(N, int)}, {}, "has no float array"),
    ({"states": np.zeros((N, H), int)}, {}, "has no float array"),
    ({"states": np.zeros((0, H))}, {}, "not empty"),
    ({"states": ROWS, "other": ROWS[1:]}, {}, "other has 119 rows and states has 120|states has 120 rows and other"),
    ({"states": ROWS}, {"arrays": ("h",)}, "has no 'h': it has states float32"),
    ({"states": ROWS, "sequence_ids": CUT}, {}, "sequence 0 goes on at row 80 after another"),
    ({"states": ROWS, "sequence_ids": CUT[1:]}, {}, r"has 120 rows, and sequence ids of shape \[119\]"),
    ({"states": ROWS, "sequence_starts": np.array([0, 7])}, {}, "sequence_starts does not rise from 0 to 120"),
    ({"states": ROWS, "document_starts": np.array([1, N])}, {}, "document_starts does not rise"),
    ({"states": ROWS, "tokens": np.arange(N) - 1}, {}, "not 120 whole numbers from 0"),
    ({"states": CUBE, "other": np.zeros((20, 6, 2))}, {}, "6 sequences of 20 rows and 3 sequences of 40 rows"),
    ({"states": CUBE, "lengths": np.array([T, 0, 1])}, {}, "whole numbers from 1 to 40, one for each of 3 sequences"),
    ({"states": CUBE, "lengths": np.array([T, T + 1, 1])}, {}, "whole numbers from 1 to 40"),
    ({"states": CUBE, "lengths": np.full(T, 3)}, {}, r"lengths int64 \[40\]: expected"),
    ({"states": CUBE}, {"sequence_length": 5}, "leave out --sequence-length"),
]


@pytest.mark.parametrize(("arrays", "config", "message"), BAD)
def test_what_does_not_fit_is_named(tmp_path, arrays, config, message):
    with pytest.raises(InputError, match=message):
        open_states(write_npz(tmp_path / "x.npz", **arrays), ReadConfig(**config))


def test_a_text_that_does_not_fit(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    for content, message in (
        (b"abc", "has 3 characters"),
        (b"ab\xff", "not UTF-8 at offset 2"),
        (None, "cannot be read"),
    ):
        text = tmp_path / "text.txt"
        text.unlink(missing_ok=True)
        if content is not None:
            text.write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_states(tmp_path / "x.npy", ReadConfig(text=text))


@pytest.mark.parametrize("name", ["x.npy", *WRITERS])
def test_damaged_files_are_refused(tmp_path, name):
    path = tmp_path / name
    if name == "x.npy":
        np.save(path, ROWS)
    else:
        WRITERS[name](path, states=ROWS)
    file = next(path.rglob("zarr.json")) if path.is_dir() else path
    content = file.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\0" * len(content)):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=name):
            source = open_states(path)
            raise InputError(f"{name} {source.verify()[0]}")


def test_blocks_without_rows_are_refused(tmp_path):
    zarr.create_group(tmp_path / "x.zarr").create_array("h", data=ROWS, chunks=(10, ROWS.shape[1]))
    file = tmp_path / "x.zarr" / "h" / "zarr.json"
    document = json.loads(file.read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"][0] = 0
    file.write_text(json.dumps(document))
    (problem,) = open_states(tmp_path / "x.zarr").verify()
    assert "cannot be read" in problem


def test_python_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        open_states(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "states.npy")
    with pytest.raises(InputError, match="Python objects"):
        open_states(tmp_path / "x.npz")


def test_what_is_nothing_of_the_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("notes.txt", "not of a known kind"),
        ("empty", "not a state dump"),
        ("no", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            open_states(tmp_path / name)


def test_a_state_dump_keeps_its_own_sequences(tmp_path, small_dump):
    path = small_dump(tmp_path / "states.zarr")
    assert isinstance(open_states(path), StateDump)
    assert open_states(path, ReadConfig(arrays=("layer1/h",))).names == ["layer1/h"]
    with pytest.raises(InputError, match="has no 'layer9/h'"):
        open_states(path, ReadConfig(arrays=("layer9/h",)))
    for config in (ReadConfig(sequence_length=3), ReadConfig(batch_first=True), ReadConfig(text=path)):
        with pytest.raises(InputError, match="a text and sequences of its own"):
            open_states(path, config)
