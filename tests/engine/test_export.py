"""Exporting a dump: h5py reads the file, and the dictionary is read as LSTMVis reads it."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from forked import gatescope
from killing import assert_survives_kills

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.export import export_lstmvis
from gatescope.engine.files import partial_name, settled_name
from gatescope.engine.other_dumps import open_states


def test_states_and_gates_become_lstmvis_datasets(tmp_path, small_dump):
    dump = StateDump.open(small_dump(tmp_path / "states.zarr"))
    names = export_lstmvis(dump.path, tmp_path / "out" / "states.h5")
    expected = {"layer0/h": "output1", "layer0/c": "states1", "layer0/gates/i": "input1"}
    expected |= {"layer1/h": "output2", "layer1/c": "states2", "layer1/gates/i": "input2"}
    assert names == list(expected.values())
    with h5py.File(tmp_path / "out" / "states.h5") as file:
        for name, target in expected.items():
            assert file[target].dtype == np.float16
            assert np.array_equal(file[target][()], np.asarray(dump.array(name)))
        assert np.array_equal(file["word_ids"][()], dump.tokens)
    assert sorted(os.listdir(tmp_path / "out")) == ["states.dict", "states.h5", "states.yml"]


def test_gatescope_reads_its_own_export(tmp_path, small_dump):
    dump = StateDump.open(small_dump(tmp_path / "states.zarr"))
    export_lstmvis(str(dump.path), str(tmp_path / "states.h5"))
    again = open_states(tmp_path / "states.h5")
    assert again.text() == dump.text() and np.array_equal(again.sequence_starts, dump.sequence_starts)
    assert np.array_equal(again.document_starts, dump.document_starts)
    assert np.array_equal(again.features(["states2"]), dump.features(["layer1/c"]))


def test_dictionary_and_configuration_follow_lstmvis(tmp_path, small_dump):
    vocabulary = ["\t", "\n", " ", "\x00", "a", "\xa0", "␣"]
    export_lstmvis(small_dump(tmp_path / "s.zarr", vocabulary=vocabulary), tmp_path / "states.h5")
    lines = (tmp_path / "states.dict").read_text().split("\n")
    # As in LSTMVis's lstmdata/data_handler.py: two words a line.
    words = {int(number): word for word, number in (line.split() for line in lines if line)}
    assert words == {0: "⇥", 1: "⏎", 2: "U+0020", 3: "U+0000", 4: "a", 5: "U+00A0", 6: "␣"}
    config = yaml.safe_load((tmp_path / "states.yml").read_text())
    assert config["files"] == {"states": "states.h5", "words_dict": "states.dict"}
    assert config["word_sequence"] == {"file": "states", "path": "word_ids", "dict_file": "words_dict"}
    assert {"type": "state", "layer": 2, "path": "states2", "transform": "tanh"} in config["states"]["types"]
    assert {"type": "output", "layer": 1, "path": "output1", "transform": "none"} in config["states"]["types"]


def test_words_are_exported_as_words(tmp_path, small_dump):
    words = ["the", "New York", "New␣York", "a"]
    dump = small_dump(tmp_path / "s.zarr", vocabulary=words)
    export_lstmvis(dump, tmp_path / "states.h5")
    lines = (tmp_path / "states.dict").read_text().splitlines()
    signs = {int(number): word for word, number in map(str.split, lines)}
    coded = "".join(f"U+{ord(each):04X}" for each in words[1])
    assert signs == {0: "the", 1: coded, 2: "New␣York", 3: "a"}
    again = open_states(tmp_path / "states.h5")
    assert again.words == words and np.array_equal(again.tokens, StateDump.open(dump).tokens)


def test_words_that_are_no_text_for_other_programs_are_exported(tmp_path, small_dump):
    """A byte-level vocabulary has the NUL, and one of UTF-16 may have half of a character."""
    words = ["the", "\0", "a\0b", "\ud800 é"]
    export_lstmvis(small_dump(tmp_path / "s.zarr", vocabulary=words), tmp_path / "states.h5")
    assert (tmp_path / "states.dict").read_text() == "the 0\nU+0000 1\naU+0000b 2\nU+D800␣é 3\n"
    assert open_states(tmp_path / "states.h5").words == words
    with h5py.File(tmp_path / "states.h5") as file:
        assert file["vocabulary"].asstr("utf-8", "replace")[0] == "the"


def test_a_file_name_may_contain_any_characters(tmp_path, small_dump):
    export_lstmvis(small_dump(tmp_path / "s.zarr"), tmp_path / "😀 é.h5")
    config = yaml.safe_load((tmp_path / "😀 é.yml").read_text(encoding="utf-8"))
    assert config["files"] == {"states": "😀 é.h5", "words_dict": "😀 é.dict"} and config["name"] == "😀 é"


def test_refused_exports_leave_no_files(tmp_path, small_dump):
    dump = small_dump(tmp_path / "s.zarr")
    with pytest.raises(InputError, match="must end in"):
        export_lstmvis(dump, tmp_path / "states.txt")
    (tmp_path / "states.dict").write_text("mine")
    with pytest.raises(InputError, match=r"states.dict already exists"):
        export_lstmvis(dump, tmp_path / "states.h5")
    block = dump / "layer0/h/c.0.0"
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"is damaged: layer0/h: block 0 .* is truncated"):
        export_lstmvis(dump, tmp_path / "other.h5")
    assert sorted(os.listdir(tmp_path)) == ["s.zarr", "states.dict"]
    assert (tmp_path / "states.dict").read_text() == "mine"


def _export(dump, folder):
    export_lstmvis(dump, folder / "states.h5", overwrite=True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_file_that_cannot_be_created_is_named_by_its_final_path(tmp_path, small_dump):
    # A folder in which even root may not create a file.
    file = Path("/proc/self/states.h5")
    with pytest.raises(OSError) as error:
        export_lstmvis(small_dump(tmp_path / "states.zarr"), file)
    assert (error.value.errno, settled_name(str(error.value.filename))) == (errno.ENOENT, str(file))


@pytest.mark.parametrize("largest_file", [300, 1000, 2500, 3000, 4000, 6000])
def test_a_full_disk_is_reported_and_leaves_no_files(tmp_path, small_dump, largest_file):
    # HDF5 writes records of its own before and after the values, and closes its file when a write has failed.
    small_dump(tmp_path / "s.zarr")
    done = gatescope("export", "s.zarr", "states.h5", folder=tmp_path, largest_file=largest_file)
    assert done.returncode == 2 and "cannot write: File too large (states.h5)" in done.stderr
    assert os.listdir(tmp_path) == ["s.zarr"]


def test_export_survives_a_kill_at_any_write(tmp_path, small_dump):
    dump = small_dump(tmp_path / "s.zarr")
    assert_survives_kills(_export, lambda folder: (dump, folder), tmp_path, n_kills=2)


def test_leftovers_of_a_killed_export_are_removed(tmp_path, small_dump):
    left = [partial_name(tmp_path / f"s.{suffix}") for suffix in ("h5", "dict", "yml")]
    for path in left:
        path.write_text("half")
    export_lstmvis(small_dump(tmp_path / "states.zarr"), tmp_path / "s.h5")
    assert not any(path.exists() for path in left)


def test_scores_are_exported_but_not_as_states(tmp_path):
    attributes = {"vocabulary": list("ab")}
    starts = np.arange(0, 9, 4, dtype=np.int64)
    spec = DumpSpec(
        {"layer0/h": 3, "layer1/entropy": 1}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), attributes
    )
    with DumpWriter(tmp_path / "s.zarr", spec) as writer:
        writer.append(0, np.arange(8) % 2, {"layer0/h": np.ones((8, 3)), "layer1/entropy": np.ones((8, 1))})
    assert export_lstmvis(tmp_path / "s.zarr", tmp_path / "s.h5") == ["output1", "entropy2"]
    types = yaml.safe_load((tmp_path / "s.yml").read_text())["states"]["types"]
    assert [each["path"] for each in types] == ["output1"]
