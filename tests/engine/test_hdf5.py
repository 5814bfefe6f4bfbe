"""hdf5.py: the layouts of LSTMVis and of NeuroX."""

import json

import h5py
import numpy as np
import pytest
from other_files import RANDOM, ROWS, H, N, write_h5

from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import ReadConfig, open_states


def test_the_lstmvis_layout_is_read(tmp_path):
    path = write_h5(tmp_path / "states.hdf5", states1=ROWS, output1=-ROWS, states2=2 * ROWS, word_ids=np.arange(N))
    source = open_states(path, ReadConfig(sequence_length=50, text=None))
    assert sorted(source.names) == ["output1", "states1", "states2"]
    assert np.array_equal(source.features(["states2"]), 2 * ROWS)
    assert source.sequence_starts.tolist() == [0, 50, 100, 120] and source.document_starts.tolist() == [0, N]
    assert np.array_equal(source.tokens, np.arange(N))


def test_the_neurox_layout_is_read(tmp_path):
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
    assert [source.words[token] for token in source.tokens] == words


def test_numbered_datasets_are_sentences_only_with_an_index(tmp_path):
    cubes = RANDOM.normal(size=(2, 15, 8, H)).astype(np.float32)
    source = open_states(write_h5(tmp_path / "layers.h5", **{"0": cubes[0], "1": cubes[1]}))
    assert source.names == ["0", "1"] and source.n_rows == 120 and len(source.sequence_starts) == 9
    assert np.array_equal(source.array("1")[15:30], cubes[1][:, 1])


def test_empty_sentences_give_no_rows(tmp_path):
    values = {"0": np.zeros((2, 0, H), np.float32), "1": np.ones((2, 3, H), np.float32)}
    index = json.dumps({"": "0", "a b c": "1"})
    for name, chosen in (("some", values), ("none", {"0": values["0"]})):
        path = write_h5(tmp_path / f"{name}.h5", **chosen)
        with h5py.File(path, "a") as file:
            file.create_dataset("sentence_to_index", data=[index], dtype=h5py.string_dtype())
    assert open_states(tmp_path / "some.h5").sequence_starts.tolist() == [0, 3]
    with pytest.raises(InputError, match=r"none\.h5: layer0 is float32 \[0, 0\]: expected floats .*, not empty"):
        open_states(tmp_path / "none.h5")


def test_unsupported_hdf5_types_matter_only_if_requested(tmp_path):
    path = write_h5(tmp_path / "states.h5", h=ROWS)
    with h5py.File(path, "a") as file:
        for name in (b"0", b"written_at"):
            h5py.h5d.create(file.id, name, h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((N,)))
    source = open_states(path)
    assert source.names == ["h"] and np.array_equal(np.asarray(source.array("h")), ROWS)
    with pytest.raises(InputError, match=r"states.h5: written_at cannot be read: TypeError: No NumPy equivalent"):
        open_states(path, ReadConfig(arrays=("written_at",)))
