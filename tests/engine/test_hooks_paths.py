"""Where a recording goes: paths in use, two recordings at once, and a recording that is killed."""

import os

import numpy as np
import pytest
import torch
from killing import assert_survives_kills, contents
from torch import nn

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.hooks import record_states

V, H, B, T = 5, 6, 3, 11
VOCABULARY = list("abc\n ")


@pytest.fixture
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(0, V, (4, B, T)))  # four batches


def record(path, tokens, model=None, **options):
    model = model or nn.Embedding(V, H)
    with record_states(model, {"layer0/h": ""}, path, vocabulary=VOCABULARY, **options) as recording:
        for batch in tokens:
            model(batch)
            recording.add(batch)


def test_hooks_are_removed_if_the_recording_cannot_start(tmp_path):
    class Hookless(nn.Identity):
        def register_forward_hook(self, *args, **options):
            raise RuntimeError("no hooks here")

    model = nn.Sequential(nn.Identity(), Hookless())
    recording = record_states(model, {"layer0/h": "0", "layer1/h": "1"}, tmp_path / "s", vocabulary=VOCABULARY)
    with pytest.raises(RuntimeError, match="no hooks here"), recording:
        pass
    assert not model[0]._forward_hooks and os.listdir(tmp_path) == []


def test_an_earlier_dump_is_replaced_only_on_request(tmp_path, tokens):
    path = tmp_path / "s"
    record(path, tokens[:1])
    with pytest.raises(InputError, match="already exists: choose another path, or overwrite=True"):
        record(path, tokens)
    assert StateDump.open(path).n_rows == B * T
    record(path, tokens[:2], overwrite=True)
    assert StateDump.open(path).n_rows == 2 * B * T and os.listdir(tmp_path) == ["s"]


def test_a_second_recording_to_the_same_path_is_refused(tmp_path, tokens):
    model, path = nn.Embedding(V, H), tmp_path / "s"
    first, second = (record_states(model, {"layer0/h": ""}, path, vocabulary=VOCABULARY) for _ in range(2))
    with first:
        model(tokens[0])
        first.add(tokens[0])
        with (
            pytest.raises(InputError, match=r"s is being recorded by another program: wait for it, or choose another"),
            second,
        ):
            pass
    before = contents(path)
    with pytest.raises(InputError, match="already exists"), second:
        pass
    with pytest.raises(InputError, match="a recording can be used only once: call record_states again"), first:
        pass
    with pytest.raises(InputError, match="add was called outside the with statement"):
        first.add(tokens[0])
    assert contents(path) == before and not model._forward_hooks


def test_a_dump_created_meanwhile_is_kept(tmp_path, tokens):
    model, path = nn.Embedding(V, H), tmp_path / "s"
    with (
        pytest.raises(InputError, match="already exists"),
        record_states(model, {"layer0/h": ""}, path, vocabulary=VOCABULARY) as recording,
    ):
        model(tokens[0])
        recording.add(tokens[0])
        record(tmp_path / "other", tokens)
        os.rename(tmp_path / "other", path)
    assert StateDump.open(path).n_rows == 4 * B * T and os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_replacing_anything_but_a_dump_is_refused_immediately(tmp_path, kind):
    path = tmp_path / "s"
    if kind == "folder":
        path.mkdir()
    (path / "mine" if kind == "folder" else path).write_text("mine")
    with pytest.raises(InputError, match=r"s is not a state dump: .*; only a dump may be overwritten: choose another"):
        record_states(nn.Identity(), {"layer0/h": ""}, path, vocabulary=VOCABULARY, overwrite=True)
    assert contents(tmp_path) in ({"s": b"mine"}, {"s/mine": b"mine"})


def test_a_symlink_stays_a_symlink(tmp_path, tokens):
    (tmp_path / "disk").mkdir()
    os.symlink(tmp_path / "disk" / "s", tmp_path / "link")
    for overwrite in (False, True):
        record(tmp_path / "link", tokens[: 1 + overwrite], overwrite=overwrite)
    assert StateDump.open(tmp_path / "disk" / "s").n_rows == 2 * B * T
    assert (tmp_path / "link").is_symlink() and os.listdir(tmp_path / "disk") == ["s"]


def test_changing_the_working_folder_does_not_move_the_dump(tmp_path, tokens, monkeypatch):
    model = nn.Embedding(V, H)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    recording = record_states(model, {"layer0/h": ""}, "s", vocabulary=VOCABULARY)
    os.chdir("elsewhere")
    with recording:
        model(tokens[0])
        recording.add(tokens[0])
        os.chdir("..")
        model(tokens[1])
        recording.add(tokens[1])
        os.chdir("elsewhere")
    assert StateDump.open(tmp_path / "s").n_rows == 2 * B * T and os.listdir() == []


def _record(folder):
    folder.mkdir(exist_ok=True)
    model = nn.Embedding(V, H)
    nn.init.ones_(model.weight)
    record(folder / "s", torch.zeros(2, B, T, dtype=torch.long), model, overwrite=True)


def test_recording_survives_a_kill_at_any_write(tmp_path):
    def look(folder):
        if (folder / "s").exists():
            assert StateDump.open(folder / "s").verify() == []

    assert_survives_kills(_record, lambda folder: (folder,), tmp_path, 12, look)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_while_writing_leaves_nothing(tmp_path, tokens, monkeypatch, error):
    append, path = DumpWriter.append, tmp_path / "s"

    def failing(self, *args):
        append(self, *args)
        raise error

    monkeypatch.setattr(DumpWriter, "append", failing)
    with pytest.raises(error):
        record(path, tokens)
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    record(path, tokens)
    assert StateDump.open(path).verify() == []
