"""States of the network before training: for a dump of that very network they equal the dump's own."""

import numpy as np
import pytest
import torch

from gatescope.engine.concat import concatenate
from gatescope.engine.dump import StateDump
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.trained_model import TrainedModel, load_model
from gatescope.engine.untrained import untrained_states
from gatescope.engine.vocabulary import Vocabulary

CHARACTERS = "\n abc"
SEED = 11


def before_training(**architecture):
    torch.manual_seed(SEED)
    model = CharacterModel(Architecture(**{"hidden": 9, "layers": 2, **architecture}), len(CHARACTERS))
    return TrainedModel(model.eval(), Vocabulary(tuple(CHARACTERS)), "", {}, {})


def read(trained, folder, name, capture, text, context):
    (folder / f"{name}.txt").write_text(text)
    config = ExtractConfig(length=20, context=context, capture=capture)
    extract_states(trained, str(folder / f"{name}.txt"), folder / name, config)
    return folder / name


def recorded(kind, trained, folder, capture):
    if kind == "sample":
        config = SampleConfig(sequences=5, length=30, prime="ab", capture=capture)
        sample_states(trained, folder / "dump", config)
        return StateDump.open(folder / "dump")
    parts = [read(trained, folder, "one", capture, "abc cab\n" * 9, 7)]
    parts.append(read(trained, folder, "two", capture, "ba" * 25, 0))
    parts.append(read(trained, folder, "three", capture, "cab" * 25, 30))
    if kind == "extract":
        return StateDump.open(parts[0])
    concatenate(parts, folder / "both")
    return StateDump.open(folder / "both")


@pytest.mark.parametrize("kind", ["sample", "extract", "concat"])
@pytest.mark.parametrize(
    "architecture, capture",
    [
        ({"cell": "lstm"}, ("h", "c", "gates", "entropy")),
        ({"cell": "gru", "reset_after": False, "embedding": 3}, ("h", "gates")),
        ({"cell": "rnn"}, ("h",)),
    ],
    ids=["lstm", "gru", "rnn"],
)
def test_untrained_states_read_the_same_text_as_the_dump(tmp_path, kind, architecture, capture):
    dump = recorded(kind, before_training(**architecture), tmp_path, capture)
    before = torch.random.get_rng_state()
    found = untrained_states(dump, tmp_path / "untrained.zarr", seed=SEED)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found.names == [name for name in dump.names if "entropy" not in name] and found.dtype == dump.dtype
    assert found.verify() == [] and found.text() == dump.text()
    for bounds in ("sequence_starts", "document_starts"):
        np.testing.assert_array_equal(getattr(found, bounds), getattr(dump, bounds))
    for name in found.names:
        np.testing.assert_array_equal(found.array(name)[:], dump.array(name)[:])
        if "gates" not in name:
            np.testing.assert_array_equal(found.initial(name), dump.initial(name))
    other = untrained_states(dump, tmp_path / "other.zarr", seed=SEED + 1)
    assert (other.array("layer1/h")[:] != dump.array("layer1/h")[:]).mean() > 0.9


def test_untrained_states_come_from_fresh_weights_and_are_reused(make_model, tmp_path):
    sample_states(load_model(make_model()), tmp_path / "dump", SampleConfig(sequences=4, length=10))
    dump = StateDump.open(tmp_path / "dump")
    found = untrained_states(dump, tmp_path / "untrained.zarr", seed=0)
    # With weights below .08, states move little.
    assert np.abs(found.array("layer0/h")[:]).max() < 0.1 < np.abs(dump.array("layer0/h")[:]).max()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "untrained.zarr").rglob("*")}
    untrained_states(dump, tmp_path / "untrained.zarr", seed=0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "untrained.zarr").rglob("*")} == written


def test_states_without_a_bound_are_kept_in_float32(tmp_path):
    dump = recorded("sample", before_training(cell="rnn", nonlinearity="relu"), tmp_path, ("h",))
    found = untrained_states(dump, tmp_path / "untrained.zarr", seed=SEED)
    assert dump.dtype == np.float16 and found.dtype == np.float32
    np.testing.assert_array_equal(found.array("layer1/h")[:].astype(np.float16), dump.array("layer1/h")[:])


@pytest.mark.parametrize(
    "model", [None, {"cell": "mamba", "hidden": 3}, {"cell": "lstm"}, {"cell": "rnn", "hidden": 3}]
)
def test_other_networks_have_no_untrained_states(small_dump, tmp_path, model):
    dump = StateDump.open(small_dump(tmp_path / "dump", **({} if model is None else {"model": model})))
    assert untrained_states(dump, tmp_path / "untrained.zarr", seed=0) is None
    assert not (tmp_path / "untrained.zarr").exists()


def test_a_dump_of_only_scores_has_no_untrained_states(tmp_path):
    dump = recorded("sample", before_training(), tmp_path, ("entropy",))
    assert untrained_states(dump, tmp_path / "untrained.zarr", seed=SEED) is None
