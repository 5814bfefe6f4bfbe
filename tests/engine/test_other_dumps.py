"""Reading other programs' states: each format is written by its own library and read back row by row."""

import numpy as np
import pytest
import zarr
from other_files import CUBE, RANDOM, ROWS, STARTS, WRITERS, H, N, T, write_h5, write_npz, write_zarr

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import OtherDump, ReadConfig, open_states

TEXT = "".join(RANDOM.choice(list("abä\r\n𝄞"), N))


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    return lambda **arrays: WRITERS[request.param](tmp_path / request.param, **arrays)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_matrices_of_rows_are_read(write, dtype):
    values = ROWS.astype(dtype)
    source = open_states(write(first=values, second=-values[:, :2]))
    assert isinstance(source, OtherDump) and source.names == ["first", "second"] and source.n_rows == N
    assert source.array("first").dtype == dtype and source.array("second").shape == (N, 2)
    assert np.array_equal(source.features(["second", "first"]), np.hstack([-values[:, :2], values]))
    assert np.array_equal(source.array("first")[7:30, [0, 3]], values[7:30, [0, 3]])
    assert source.sequence_starts.tolist() == [0, N] and source.tokens is None and source.vocabulary is None
    assert source.verify() == []


@pytest.mark.parametrize("batch_first", [False, True])
def test_three_dimensional_states_are_read(write, batch_first):
    cube = np.ascontiguousarray(CUBE.swapaxes(0, 1)) if batch_first else CUBE
    tokens = np.arange(N).reshape(cube.shape[:2])
    source = open_states(write(states=cube, tokens=tokens), ReadConfig(batch_first=batch_first))
    assert np.array_equal(np.asarray(source.array("states")), ROWS)
    assert np.array_equal(source.array("states")[[0, T - 1, T, N - 1]], ROWS[[0, T - 1, T, N - 1]])
    assert np.array_equal(source.sequence_starts, STARTS)
    assert np.array_equal(source.tokens, (tokens if batch_first else tokens.T).reshape(-1))


def test_sequences_and_tokens_are_read(write):
    ids = np.repeat([4, 2, 9], [10, 60, 50])
    source = open_states(write(states=ROWS, sequence_ids=ids, words=np.arange(N) % 7))
    assert source.sequence_starts.tolist() == [0, 10, 70, 120]
    assert np.array_equal(source.document_starts, source.sequence_starts)
    assert np.array_equal(source.tokens, np.arange(N) % 7) and source.vocabulary is None
    assert source.sequence_ids.tolist() == np.repeat([0, 1, 2], [10, 60, 50]).tolist()


def test_characters_may_be_nul(tmp_path):
    source = open_states(write_npz(tmp_path / "x.npz", h=ROWS, chars=np.array(list("ab\0") * (N // 3))))
    assert "".join(source.vocabulary[token] for token in source.tokens) == "ab\0" * (N // 3)
    write_zarr(tmp_path / "z.zarr", h=ROWS, tokens=np.arange(N) % 3)
    zarr.open_group(tmp_path / "z.zarr").attrs["vocabulary"] = ["a", "b", "\0"]
    assert open_states(tmp_path / "z.zarr").vocabulary == ["a", "b", "\0"]


def test_a_text_file_beside_the_states_is_read(tmp_path):
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


def test_identity_distinguishes_states_by_their_values(tmp_path):
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
    ({"states": ROWS, "sequence_ids": CUT}, {}, "sequence 0 resumes at row 80 after another"),
    ({"states": ROWS, "sequence_ids": CUT[1:]}, {}, r"its sequence ids are \[119\], expected one for each of 120"),
    ({"states": ROWS, "sequence_starts": np.array([0, 7])}, {}, "sequence_starts does not increase from 0 to 120"),
    ({"states": ROWS, "document_starts": np.array([1, N])}, {}, "document_starts does not increase"),
    ({"states": ROWS, "tokens": np.arange(N) - 1}, {}, "not 120 whole numbers from 0"),
    ({"states": CUBE, "other": np.zeros((20, 6, 2))}, {}, "6 sequences of 20 rows and 3 sequences of 40 rows"),
    ({"states": CUBE, "lengths": np.array([T, 0, 1])}, {}, "whole numbers from 1 to 40, one for each of 3 sequences"),
    ({"states": CUBE, "lengths": np.array([T, T + 1, 1])}, {}, "whole numbers from 1 to 40"),
    ({"states": CUBE, "lengths": np.full(T, 3)}, {}, r"lengths int64 \[40\]: expected"),
    ({"states": CUBE}, {"sequence_length": 5}, "leave out --sequence-length"),
]


@pytest.mark.parametrize(("arrays", "config", "message"), BAD)
def test_mismatched_input_is_named(tmp_path, arrays, config, message):
    with pytest.raises(InputError, match=message):
        open_states(write_npz(tmp_path / "x.npz", **arrays), ReadConfig(**config))


def test_an_unsuitable_text_file_is_refused(tmp_path):
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


def test_array_names_in_place_of_the_configuration_are_refused(tmp_path):
    np.savez(tmp_path / "h.npz", h=np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match="config is of type list: expected ReadConfig"):
        open_states(tmp_path / "h.npz", ["h"])


def test_paths_that_hold_no_states_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("notes.txt", "has an unknown format"),
        ("empty", "not a state dump"),
        ("no", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            open_states(tmp_path / name)


def test_a_folder_of_npy_files_is_one_source(tmp_path):
    folder = tmp_path / "old dumps"
    folder.mkdir()
    np.save(folder / "tokens.npy", np.arange(N) % 7)
    with pytest.raises(InputError, match="not a state dump"):
        open_states(folder)
    np.save(folder / "layer0.npy", ROWS)
    np.save(folder / "layer1.npy", -ROWS[:, :2])
    np.save(folder / "sequence_ids.npy", np.repeat([3, 1], N // 2))
    np.save(folder / "notes.npy", np.array(["x", None]), allow_pickle=True)
    source = open_states(folder, ReadConfig(arrays=("layer1", "layer0")))
    assert np.array_equal(source.features(["layer1", "layer0"]), np.hstack([-ROWS[:, :2], ROWS]))
    assert source.sequence_starts.tolist() == [0, N // 2, N] and source.tokens.tolist() == (np.arange(N) % 7).tolist()
    assert isinstance(source._file.arrays["layer0"], np.memmap)
    with pytest.raises(InputError, match="old dumps has no 'layer2': it has layer0 float32"):
        open_states(folder, ReadConfig(arrays=("layer2",)))


def test_a_state_dump_keeps_its_own_sequences(tmp_path, small_dump):
    path = small_dump(tmp_path / "states.zarr")
    assert isinstance(open_states(path), StateDump)
    assert open_states(path, ReadConfig(arrays=("layer1/h",))).names == ["layer1/h"]
    with pytest.raises(InputError, match="has no 'layer9/h'"):
        open_states(path, ReadConfig(arrays=("layer9/h",)))
    for config in (ReadConfig(sequence_length=3), ReadConfig(batch_first=True), ReadConfig(text=path)):
        with pytest.raises(InputError, match="its own text and sequences"):
            open_states(path, config)
    dump = StateDump.open(path)
    assert isinstance(open_states(path, sequence_ids=dump.sequence_ids.astype(str)), StateDump)
    with pytest.raises(InputError, match=r"by the labels' sequence_id it has 1 sequence of \d+ rows: leave one"):
        open_states(path, sequence_ids=np.zeros(dump.n_rows))
    with pytest.raises(InputError, match="labels' sequence_id has 3 rows, and"):
        open_states(path, sequence_ids=[0, 0, 1])
