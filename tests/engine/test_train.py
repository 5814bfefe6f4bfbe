"""Training: what it minimises, how it resumes, and what it refuses."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from killing import assert_survives_kills, run_read_only

from gatescope.engine import free_memory
from gatescope.engine.corpus import survey_corpus
from gatescope.engine.errors import InputError
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.model import CharacterModel
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model, write_weights
from gatescope.engine.training_step import TrainingStep

TEXT = "the quick brown fox jumps over the lazy dog; " * 400
SMALL = TrainConfig(hidden=12, layers=2, dropout=0.2, batch=4, length=20, steps=30, evaluate_every=7)


def log_of(folder, stage):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == stage]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("embedding", [0, 8], ids=["one-hot", "embedding"])
def test_every_cell_learns_a_repeated_sentence(text, tmp_path, cell, embedding):
    config = TrainConfig(cell=cell, embedding=embedding, hidden=32, batch=8, length=30, steps=150, warm_up=20)
    result = train_model(survey_corpus(text), tmp_path / "model", config)
    # A model that ignores its input loses the entropy of the characters, about 3.1 nats.
    assert result["validation_nats"] < 1.0
    trained = load_model(tmp_path / "model")
    assert trained.training == {"step": result["step"], "validation_nats": result["validation_nats"]}
    (final,) = [line for line in log_of(tmp_path / "model", "validate") if line["step"] == 150]
    assert final["perplexity"] == pytest.approx(math.exp(final["nats"]))
    assert final["bits_per_character"] == pytest.approx(final["nats"] / math.log(2))


def test_the_reported_step_belongs_to_the_kept_weights(text, tmp_path, monkeypatch):
    nats = iter([2.0, 1.0, 1.5, 1.25])
    monkeypatch.setattr("gatescope.engine.training_loop.evaluate", lambda *given: next(nats))
    config = TrainConfig(hidden=4, batch=2, length=10, steps=4, evaluate_every=1)
    result = train_model(survey_corpus(text), tmp_path / "model", config, facts={"language": "english"})
    assert (result["step"], result["validation_nats"]) == (2, 1.0)
    trained = load_model(tmp_path / "model")
    assert trained.training == {"step": 2, "validation_nats": 1.0}
    assert trained.corpus["language"] == "english" and trained.corpus["characters"] == len(TEXT)
    # Nothing is left to do, and the result is the same.
    assert train_model(survey_corpus(text), tmp_path / "model", config, facts={"language": "english"}) == result


def test_the_gradient_is_clipped_before_the_step(text, tmp_path):
    # Adam divides by the gradient's own size unless that is far below its epsilon of 1e-8. A gradient clipped to 1e-12
    # must therefore leave the initial weights as they are, whatever the learning rate.
    config = replace(SMALL, clip=1e-12, learning_rate=0.5)
    train_model(survey_corpus(text), tmp_path / "model", config)
    norms = [line["gradient_norm"] for line in log_of(tmp_path / "model", "train") if "gradient_norm" in line]
    assert min(norms) > 1e-3  # logged before clipping
    torch.manual_seed(0)
    start = CharacterModel(config.architecture, len(set(TEXT))).output.weight.detach()
    assert (load_model(tmp_path / "model").model.output.weight - start).abs().max() < 0.01


@pytest.mark.parametrize("n_kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_stopping_and_resuming_does_not_change_the_model(text, tmp_path, n_kills):
    assert_survives_kills(_train, lambda folder: (text, folder), tmp_path, n_kills)


def _train(text, folder):
    train_model(survey_corpus(text), Path(folder), replace(SMALL, keep=(0, 5, 14, 30)))


def test_a_finished_training_can_be_repeated_on_a_read_only_disk(text, tmp_path):
    folder = tmp_path / "model"
    _train(text, folder)
    assert run_read_only(_train, (text, folder), folder) == 0
    # Not before it is done.
    (folder / "checkpoint.safetensors").unlink()
    assert run_read_only(_train, (text, folder), folder) == 1


def test_a_second_program_in_the_same_folder_is_refused(text, tmp_path, monkeypatch):
    """The second program comes while the first takes its steps, and leaves the first one's files alone."""
    take, met = TrainingStep.take, []

    def meanwhile(self, step, rate):
        if step == 10:
            for overwrite in (False, True):
                with pytest.raises(InputError, match="model is being written by another program"):
                    train_model(survey_corpus(text), tmp_path / "model", SMALL, overwrite=overwrite)
                met.append(overwrite)
        take(self, step, rate)

    monkeypatch.setattr(TrainingStep, "take", meanwhile)
    train_model(survey_corpus(text), tmp_path / "model", SMALL)
    assert met == [False, True]
    assert ".lock" not in [path.name for path in (tmp_path / "model").iterdir()]


def test_another_seed_gives_other_weights(text, tmp_path):
    hashes = set()
    for seed in (0, np.int64(1), 2**63 - 1):
        train_model(survey_corpus(text), tmp_path / str(seed), replace(SMALL, steps=2), seed=seed)
        hashes.add(load_model(tmp_path / str(seed)).weights_sha256)
    assert len(hashes) == 3


def test_other_settings_or_another_text_are_refused(text, tmp_path):
    train_model(survey_corpus(text), tmp_path / "model", replace(SMALL, steps=2))
    with pytest.raises(InputError, match=r"train\.steps = 2, not 3"):
        train_model(survey_corpus(text), tmp_path / "model", replace(SMALL, steps=3))
    Path(text).write_text(TEXT + "more")
    with pytest.raises(InputError, match="is not the text"):
        train_model(survey_corpus(text), tmp_path / "model", replace(SMALL, steps=2))
    (tmp_path / "model" / "model.json").write_text("{")
    with pytest.raises(InputError, match=r"model\.json is damaged"):
        train_model(survey_corpus(text), tmp_path / "model", replace(SMALL, steps=2))
    train_model(survey_corpus(text), tmp_path / "model", replace(SMALL, steps=3), overwrite=True)


def test_a_model_that_learnt_nothing_gives_a_warning(text, tmp_path):
    wild = TrainConfig(hidden=4, batch=4, length=10, steps=5, learning_rate=1e4, clip=1e4)
    guessing = scipy.stats.entropy([TEXT.count(character) for character in set(TEXT)])
    # It diverges, or stays where it began, with the same probability for all characters.
    for rate, least in ((1e4, math.log(len(set(TEXT)))), (1e-9, guessing)):
        config = replace(wild, learning_rate=rate)
        result = train_model(survey_corpus(text), tmp_path / f"{rate}", config)
        assert result["validation_nats"] > least
        assert f" nats, but character frequencies alone give {guessing:.4f}: nothing" in result["warning"]
    mild = train_model(survey_corpus(text), tmp_path / "mild", replace(wild, steps=100, learning_rate=0.01))
    assert mild["validation_nats"] < guessing and mild["warning"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"seed": seed}, f"--seed {seed}: expected a whole number") for seed in (-1, 1.5, 2**63)),
        ({"device": "gpu"}, "device 'gpu' cannot be used"),
    ],
)
def test_an_invalid_seed_or_device_is_refused(text, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        train_model(survey_corpus(text), tmp_path / "model", SMALL, **options)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda text: (text, SMALL),
            r"^text is of type str: expected Survey, as survey_corpus\('text\.txt'\) returns it$",
        ),
        (
            lambda text: (survey_corpus(text), SMALL.architecture),
            "config is of type Architecture: expected TrainConfig",
        ),
        (lambda text: (survey_corpus(text), None), "config is of type NoneType: expected TrainConfig"),
    ],
)
def test_wrong_survey_or_configuration_types_are_named(text, tmp_path, given, message):
    survey, config = given(str(text))
    with pytest.raises(InputError, match=message):
        train_model(survey, tmp_path / "model", config)
    assert not (tmp_path / "model").exists()


def test_the_error_for_a_short_text_names_the_needed_length(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("ab" * 50)
    with pytest.raises(InputError, match=r"95 characters to train on.*need 3,232.*--batch"):
        train_model(survey_corpus(str(path)), tmp_path / "model", TrainConfig())
    # The folder is not claimed, so the command can be repeated with other settings.
    assert not (tmp_path / "model").exists()
    small = TrainConfig(hidden=4, batch=1, length=4, steps=1)
    assert train_model(survey_corpus(str(path)), tmp_path / "model", small)["step"] == 1


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_may_be_str_or_path(text, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(hidden=4, batch=2, length=10, steps=2)
    train_model(survey_corpus(kind(text)), kind("model"), config)
    model = load_model(kind("model"))
    assert sample_states(model, kind("sample.zarr"), SampleConfig(sequences=2, length=5)) == 10
    assert extract_states(model, kind(text), kind("one.zarr"), ExtractConfig()) == len(TEXT)
    assert extract_states(model, [kind(text), text], kind("two.zarr"), ExtractConfig()) == 2 * len(TEXT)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["settings"]["corpus"] == text


@pytest.mark.parametrize("steps", [14, 30], ids=["begun", "finished"])
@pytest.mark.parametrize("damage", ["no weights", "no description", "cut", "earlier"])
def test_missing_kept_weights_are_reported(text, tmp_path, monkeypatch, steps, damage):
    folder = tmp_path / "model"
    interrupted = steps < SMALL.steps

    def take(self, step, rate):
        if step == steps:
            raise KeyboardInterrupt
        plain(self, step, rate)

    plain = TrainingStep.take
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) if interrupted else nullcontext():
        patched.setattr(TrainingStep, "take", take)
        train_model(survey_corpus(text), folder, SMALL)
    weights = (folder / "model.safetensors").read_bytes()
    if damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "no description":
        (folder / "model.json").unlink()
    elif damage == "cut":
        (folder / "model.safetensors").write_bytes(weights[:-100])
    else:
        write_weights(folder, load_model(folder).model, {"step": 1, "validation_nats": 9.0})
    with pytest.raises(InputError, match=r"has lost the best weights .* start over with --overwrite"):
        train_model(survey_corpus(text), folder, SMALL)
    if damage != "no description":
        (folder / "model.safetensors").write_bytes(weights)
        assert train_model(survey_corpus(text), folder, SMALL)["step"] >= 7


def test_a_model_too_large_for_memory_leaves_no_files(text, tmp_path):
    for config in (TrainConfig(hidden=10**6), TrainConfig(embedding=10**11), TrainConfig(layers=10**3, hidden=10**4)):
        with pytest.raises(InputError, match=r"weights, their gradients .* GB free: lower --hidden"):
            train_model(survey_corpus(text), tmp_path / "model", config)
    assert not (tmp_path / "model").exists()


def test_finished_training_needs_no_memory_and_lack_of_it_loses_nothing(text, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    done = train_model(survey_corpus(text), folder, SMALL)
    monkeypatch.setattr(free_memory, "free_bytes", lambda device, enough: 1000)
    assert train_model(survey_corpus(text), folder, SMALL) == done
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"the state of Adam take [\d.]+ kB and cpu has 1\.00 kB free"):
        train_model(survey_corpus(text), folder, SMALL, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
