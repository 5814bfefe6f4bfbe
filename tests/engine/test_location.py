"""Locations: what is a URL, what is a path on this machine, and relative paths."""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from gatescope.engine.concat import concatenate, concatenated_spec
from gatescope.engine.corpus import survey_corpus
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.export import export_lstmvis
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.location import Location, local_path
from gatescope.engine.other_dumps import open_states
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.source_tree import TreeConfig, write_corpus
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model

URLS = [
    "s3://bucket/x",
    "simplecache::s3://bucket/x",
    "zip://a::file:///tmp/x",
    "memory://bucket/x",
    "file:///tmp/x",
    Path("s3://bucket/x"),
]


@pytest.mark.parametrize("place", URLS)
def test_a_url_is_refused_as_a_local_path(place):
    url = str(place) if isinstance(place, str) else "s3://bucket/x"
    with pytest.raises(InputError, match=f"^{url} is a URL: expected a path on this machine"):
        local_path(place)


@pytest.mark.parametrize("place", ["states.zarr", "/tmp/a:b/c", "run:1/x", "a/~", "C:/x"])
def test_a_path_is_returned_unchanged(place):
    assert local_path(place) == local_path(Path(place)) == Path(place)


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path, small_dump):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/x") == local_path(Path("~/x")) == tmp_path / "x"
    small_dump(tmp_path / "s.zarr")
    assert StateDump.open("~/s.zarr").verify() == []
    (tmp_path / "text.txt").write_text("abc" * 10)
    assert survey_corpus("~/text.txt").n_characters == 30


WRITERS = {
    "DumpWriter": lambda out, trained, dump, text: DumpWriter(out, concatenated_spec([StateDump.open(dump)])),
    "sample": lambda out, trained, dump, text: sample_states(trained, out, SampleConfig(sequences=2, length=5)),
    "extract": lambda out, trained, dump, text: extract_states(trained, text, out, ExtractConfig()),
    "concatenate": lambda out, trained, dump, text: concatenate([dump], out),
    "part": lambda out, trained, dump, text: concatenate([out], dump),
    "export": lambda out, trained, dump, text: export_lstmvis(dump, out),
    "corpus": lambda out, trained, dump, text: write_corpus(dump, out, TreeConfig(glob=("*.json",))),
    "train": lambda out, trained, dump, text: train_model(survey_corpus(text), out, TrainConfig(batch=1, length=2)),
    "load_model": lambda out, trained, dump, text: load_model(out),
}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_to_a_url(name, lstm, small_dump, tmp_path, monkeypatch):
    dump, text = small_dump(tmp_path / "s.zarr"), tmp_path / "text.txt"
    text.write_text("abc" * 30)
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    for out in ("s3://bucket/x.h5", Path("s3://bucket/x.h5")):
        with pytest.raises(InputError, match=r"^s3://bucket/x.h5 is a URL"):
            WRITERS[name](out, lstm, dump, str(text))
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("name", WRITERS)
def test_a_symlink_loop_is_a_one_line_error(name, lstm, small_dump, tmp_path):
    dump, text = small_dump(tmp_path / "s.zarr"), tmp_path / "text.txt"
    text.write_text("abc" * 30)
    (tmp_path / "x.h5").symlink_to(tmp_path / "y")
    (tmp_path / "y").symlink_to(tmp_path / "x.h5")
    for out in (tmp_path / "x.h5", tmp_path / "y" / "x.h5"):
        with pytest.raises(InputError, match=f"^{out} is a link that leads back to itself: give another path$"):
            WRITERS[name](out, lstm, dump, str(text))


@pytest.mark.parametrize("text", ["a\0b", "a\ud800"])
def test_an_impossible_path_is_a_one_line_error(text):
    with pytest.raises(InputError, match=r"^'a.* cannot be a path"):
        local_path(text)


@pytest.mark.parametrize("place", [None, 5, b"text", ["text"], ""])
@pytest.mark.parametrize("use", [survey_corpus, load_model, StateDump.open, open_states, local_path])
def test_objects_that_are_not_paths_are_refused(use, place):
    with pytest.raises(InputError, match="is not a path: expected a str or a Path"):
        use(place)


@pytest.mark.parametrize("use", [survey_corpus, load_model, StateDump.open, open_states])
def test_a_path_that_is_too_long_is_a_one_line_error(use):
    with pytest.raises(InputError, match=r"'x+\.\.\. is too long for a path"):
        use("x" * 5000)


def test_data_opened_by_relative_path_survives_a_change_of_folder(tmp_path, small_dump, monkeypatch):
    path = small_dump(tmp_path / "states.zarr")
    values = np.asarray(StateDump.open(path).array("layer0/h"))
    np.savez_compressed(tmp_path / "x.npz", h=values)
    zarr.save_group(tmp_path / "x.zarr", h=values)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    sources = [
        (open_states(place), name) for place, name in (("states.zarr", "layer0/h"), ("x.npz", "h"), ("x.zarr", "h"))
    ]
    monkeypatch.chdir("elsewhere")
    for source, name in sources:
        assert np.array_equal(np.asarray(source.array(name)), values)
    assert sources[0][0].verify() == []


def test_messages_name_the_path_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(Location("a/states.zarr")) == "a/states.zarr"
    with pytest.raises(InputError, match=r"^states\.zarr does not exist"):
        StateDump.open("states.zarr")
