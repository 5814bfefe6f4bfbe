"""The file from which training resumes."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gatescope.engine.checkpoint import Progress, load_checkpoint, save_checkpoint, standing
from gatescope.engine.errors import InputError
from gatescope.engine.model import CharacterModel
from gatescope.engine.train_config import TrainConfig


def trained(steps, cell="lstm"):
    """A model and Adam after a few steps on the same window."""
    torch.manual_seed(0)
    model = CharacterModel(TrainConfig(cell=cell, hidden=5, layers=2).architecture, 7)
    optimizer = torch.optim.Adam(model.parameters())
    window = torch.randint(7, (6, 3))
    for _ in range(steps):
        optimizer.zero_grad()
        model(window, model.zero_state(3))[0].square().sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_checkpoint_restores_everything_to_the_bit(tmp_path, cell):
    model, optimizer = trained(3, cell)
    state = tuple(torch.randn_like(s) for s in model.zero_state(3))
    saved = Progress(3, state, 1.25, 2, {"scale": 2.0**15, "_growth_tracker": 3})
    save_checkpoint(tmp_path / "c", model, optimizer, saved)
    other, its_optimizer = trained(0, cell)
    loaded = load_checkpoint(tmp_path / "c", other, its_optimizer)
    for name in ("step", "best", "best_step", "scale"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert len(loaded.state) == len(state)
    for ours, theirs in zip(loaded.state, state, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for (name, ours), theirs in zip(other.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert set(its_optimizer.state[ours]) == set(optimizer.state[theirs])
        for moment, value in optimizer.state[theirs].items():
            assert torch.equal(its_optimizer.state[ours][moment], value), (name, moment)


def test_a_missing_checkpoint_means_step_zero(tmp_path):
    progress = load_checkpoint(tmp_path / "none", *trained(0))
    assert (progress.step, progress.state, progress.best) == (0, (), float("inf"))


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model, optimizer = trained(1)
    save_checkpoint(path, model, optimizer, Progress(1, model.zero_state(2)))
    whole = path.read_bytes()
    for content in (whole[:100], b"", b"\xff" * 50):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.safetensors is damaged.*--overwrite"):
            load_checkpoint(path, model, optimizer)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(path, *trained(0, "gru"))


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.mkdir()
    for read in (standing, lambda path: load_checkpoint(path, *trained(0))):
        with pytest.raises(InputError, match=r"checkpoint\.safetensors is damaged.*--overwrite"):
            read(path)


@pytest.mark.parametrize("place", [-1, -1000, 0.5])
def test_a_flipped_bit_is_named(tmp_path, place):
    path = tmp_path / "checkpoint.safetensors"
    model, optimizer = trained(1)
    save_checkpoint(path, model, optimizer, Progress(1, model.zero_state(2)))
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.safetensors is damaged \(it does not match its checksum\)"):
        load_checkpoint(path, model, optimizer)


def test_an_altered_best_loss_is_named(tmp_path):
    model, optimizer = trained(1)
    save_checkpoint(tmp_path / "c", model, optimizer, Progress(1, model.zero_state(2), 1.5))
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes().replace(b"1.5", b"1.4"))
    with pytest.raises(InputError, match="does not match its checksum"):
        load_checkpoint(tmp_path / "c", model, optimizer)


@pytest.mark.parametrize("entry", ["checksum", "best_step"])
def test_a_removed_entry_is_named(tmp_path, entry):
    path, (model, optimizer) = tmp_path / "c", trained(1)
    save_checkpoint(path, model, optimizer, Progress(1, model.zero_state(2), 1.5))
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["gatescope"])
    del about[entry]
    save_file(load_file(path), path, {"gatescope": json.dumps(about)})
    with pytest.raises(InputError, match=r"is damaged \(it does not match its checksum\): train again"):
        load_checkpoint(path, model, optimizer)
    if entry == "best_step":
        with pytest.raises(InputError, match=r"is damaged \('best_step'\): train again"):
            standing(path)
