"""Texts given with other programs' states: numbers, words and characters, of every shape."""

import h5py
import numpy as np
import pytest
import zarr

from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import ReadConfig, open_states
from gatescope.engine.other_text import text_of_file

T, B, H = 10, 6, 4
N = T * B
CUBE = np.random.default_rng(0).normal(size=(T, B, H)).astype(np.float32)
ROWS = CUBE.swapaxes(0, 1).reshape(N, H)  # sequence by sequence
WORDS = np.array(["the", "cät", "sat"])[np.arange(N) % 3]
CHARACTERS = np.array(list("aä𝄞"))[np.arange(N) % 3]


def write(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".zarr":
        group = zarr.create_group(path)
        for name, values in arrays.items():
            # zarr-python writes text of any length on its own.
            array = group.create_array(
                name, shape=values.shape, dtype=str if values.dtype.kind == "U" else values.dtype
            )
            array[:] = values
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                values = np.asarray(values)
                file[name] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values
    return path


@pytest.mark.filterwarnings("ignore:The data type")
@pytest.mark.parametrize("name", ["x.npz", "x.h5", "x.zarr"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_words_are_numbered_and_characters_are_the_text(tmp_path, name, as_bytes):
    words, characters = (np.char.encode(each, "utf-8") if as_bytes else each for each in (WORDS, CHARACTERS))
    source = open_states(write(tmp_path / f"words_{name}", h=ROWS, words=words))
    assert source.vocabulary is None and source.tokens.dtype == np.uint32
    assert np.array_equal(source.tokens, np.unique(WORDS, return_inverse=True)[1])
    assert source.words == np.unique(WORDS).tolist()
    source = open_states(write(tmp_path / name, h=ROWS, chars=characters))
    assert source.text() == "".join(CHARACTERS)


@pytest.mark.parametrize("batch_first", [False, True])
def test_tokens_beside_three_dimensions_have_their_shape(tmp_path, batch_first):
    cube = CUBE.swapaxes(0, 1) if batch_first else CUBE
    config = ReadConfig(batch_first=batch_first)
    for tokens in (np.arange(N), WORDS):
        shaped = tokens.reshape(B, T) if batch_first else tokens.reshape(B, T).T
        source = open_states(write(tmp_path / "x.npz", h=cube, tokens=shaped), config)
        assert np.array_equal(source.tokens, np.unique(tokens, return_inverse=True)[1])
    path = write(tmp_path / "x.npz", h=cube, tokens=np.arange(N).reshape(cube.shape[1::-1]))
    with pytest.raises(InputError, match=r"not one for each state: expected \[60\] or \[(10, 6|6, 10)\]"):
        open_states(path, config)


def test_tokens_of_two_dimensions_beside_rows_are_refused(tmp_path):
    path = write(tmp_path / "x.npz", h=ROWS, tokens=np.arange(N).reshape(B, T))
    with pytest.raises(InputError, match=r"tokens \[6, 10\] are not one for each state: expected \[60\]$"):
        open_states(path)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["x.npz", "x.h5", "x.zarr"])
def test_padding_is_not_read_as_states(tmp_path, name, batch_first):
    lengths = np.array([10, 5, 1, 10, 9, 2])
    real = (np.arange(T) < lengths[:, None]).reshape(-1)
    cube, tokens = CUBE.copy(), np.arange(N).reshape(B, T).T
    cube[~real.reshape(B, T).T] = np.nan
    if batch_first:
        cube, tokens = np.ascontiguousarray(cube.swapaxes(0, 1)), np.ascontiguousarray(tokens.T)
    source = open_states(
        write(tmp_path / name, h=cube, tokens=tokens, lengths=lengths), ReadConfig(batch_first=batch_first)
    )
    assert source.sequence_starts.tolist() == [0, *np.cumsum(lengths)] and source.verify() == []
    assert np.array_equal(source.features(["h"]), ROWS[real]) and np.array_equal(
        source.array("h")[7:20], ROWS[real][7:20]
    )
    assert np.array_equal(source.tokens, np.arange(N)[real])


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint8])
@pytest.mark.parametrize("name", ["x.npz", "x.h5"])
def test_a_vocabulary_may_be_code_points(tmp_path, name, dtype):
    source = open_states(
        write(tmp_path / name, h=ROWS, tokens=np.arange(N) % 3, vocabulary=np.array([97, 0, 10], dtype))
    )
    assert source.vocabulary == ["a", "\0", "\n"] and source.text(0, 4) == "a\0\na"


def test_invalid_tokens_are_refused_or_left_out_with_a_warning(tmp_path):
    path = write(tmp_path / "x.npz", h=ROWS, tokens=np.arange(N, dtype=np.float32))
    with pytest.raises(InputError, match="tokens are float32: expected whole numbers from 0, or words"):
        open_states(path)
    path = write(tmp_path / "x.npz", h=ROWS, tokens=np.arange(N) % 3, vocabulary=np.array([97, -1, 10]))
    with pytest.raises(InputError, match="vocabulary is not text"):
        open_states(path)
    path = write(tmp_path / "x.npz", h=ROWS, tokens=np.arange(N) % 3, vocabulary=np.array(["a", "b"]))
    with pytest.raises(InputError, match="tokens go up to 2, but vocabulary has 2 entries"):
        open_states(path)
    path = write(tmp_path / "x.npz", h=ROWS, words=WORDS[:3])
    with pytest.warns(UserWarning, match=r"words \[3\] are not one for each state: expected \[60\]; they are ignored"):
        assert open_states(path).tokens is None


@pytest.mark.parametrize("beyond", [2**32 - 1, 2**32, 2**40])
def test_tokens_beyond_32_bits_are_refused(tmp_path, beyond):
    tokens = np.arange(N, dtype=np.uint64)
    tokens[3] = 2**32 - 2
    assert np.array_equal(open_states(write(tmp_path / "x.npz", h=ROWS, tokens=tokens)).tokens, tokens)
    tokens[3] = beyond
    with pytest.raises(InputError, match=f"tokens are not {N} whole numbers from 0"):
        open_states(write(tmp_path / "x.npz", h=ROWS, tokens=tokens))


def test_numeric_tokens_take_precedence_over_words(tmp_path):
    source = open_states(write(tmp_path / "x.npz", h=ROWS, words=WORDS, word_ids=np.arange(N) % 5))
    assert np.array_equal(source.tokens, np.arange(N) % 5)


def test_characters_are_numbered_in_code_point_order(tmp_path):
    (tmp_path / "text").write_text("bé\nb", encoding="utf-8")
    tokens, characters = text_of_file("x.npy", tmp_path / "text", 4)
    assert characters == ["\n", "b", "é"] and tokens.tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab", r"has 2 characters, but x\.npy has 3 rows"),
        ("a\r\nb\r\n", r"has 6 characters \(2 of them carriage returns\), but"),
        ("\ufeffa\r\n", r"has 4 characters \(1 of them carriage returns, 1 of them byte order marks\), but"),
    ],
)
def test_a_length_mismatch_names_the_likely_cause(tmp_path, text, message):
    (tmp_path / "text").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(InputError, match=message):
        text_of_file("x.npy", tmp_path / "text", 3)
