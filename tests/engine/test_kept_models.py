"""Models kept at several steps of one training: whose weights they hold, and what keeping them leaves unchanged."""

import math
from dataclasses import replace

import pytest
import torch
from killing import contents
from safetensors.torch import load_file

from gatescope.engine.corpus import survey_corpus
from gatescope.engine.errors import InputError
from gatescope.engine.evaluate import evaluate
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.files import partial_name
from gatescope.engine.kept_models import kept_folder, kept_models, kept_names
from gatescope.engine.model import CharacterModel
from gatescope.engine.stage_folder import read_config
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model

TEXT = "the quick brown fox jumps over the lazy dog; " * 400
# Without warm-up and decay, the learning rate does not depend on the number of steps.
LEVEL = TrainConfig(
    hidden=12, layers=2, dropout=0.2, batch=4, length=20, steps=20, evaluate_every=8, warm_up=0, final_rate=1.0
)
KEPT = replace(LEVEL, keep=(0, 5, 8, 20))


@pytest.mark.parametrize("step", [5, 8, 20])
def test_a_kept_model_equals_a_training_stopped_at_that_step(text, tmp_path, step):
    train_model(survey_corpus(text), tmp_path / "model", KEPT)
    short = replace(LEVEL, steps=step, evaluate_every=step)
    train_model(survey_corpus(text), tmp_path / "short", short)
    kept = contents(kept_folder(tmp_path / "model", step))
    assert kept == {name: (tmp_path / "short" / name).read_bytes() for name in ("model.json", "model.safetensors")}


def test_the_model_kept_at_step_zero_is_untrained(text, tmp_path):
    train_model(survey_corpus(text), tmp_path / "model", KEPT, seed=3)
    kept = load_model(kept_folder(tmp_path / "model", 0))
    torch.manual_seed(3)
    drawn = CharacterModel(LEVEL.architecture, len(kept.vocabulary))
    for name, weight in drawn.named_parameters():
        assert torch.equal(weight, kept.model.get_parameter(name))
    tokens = kept.vocabulary.encode(TEXT)
    nats = evaluate(drawn, tokens[-round(len(tokens) * 0.05) :], LEVEL.length)
    assert kept.training == {"step": 0, "validation_nats": nats}
    assert nats == pytest.approx(math.log(len(kept.vocabulary)), abs=0.1)


def test_keeping_models_does_not_change_the_training(text, tmp_path):
    results = [train_model(survey_corpus(text), tmp_path / str(len(each.keep)), each) for each in (LEVEL, KEPT)]
    assert results[0] == results[1]
    kept = [f"steps/{step:06d}/{name}" for step in KEPT.keep for name in ("model.json", "model.safetensors")]
    plain, with_kept = (contents(tmp_path / name, ("log.jsonl", "config.json")) for name in ("0", "4"))
    assert sorted(with_kept) == sorted([*plain, *kept])
    assert {name: with_kept[name] for name in plain} == plain
    # Nothing is written about keeping, so that a training begun by an earlier gatescope can be resumed.
    assert "keep" not in read_config(tmp_path / "0")["settings"]["train"]


@pytest.mark.cuda
def test_models_are_kept_before_a_graph_is_recorded_and_between_its_replays(text, tmp_path):
    keep = (0, 2, 5, 20)
    for name, config in (
        ("plain", LEVEL),
        ("kept", replace(LEVEL, keep=keep)),
        *((str(step), replace(LEVEL, steps=step, evaluate_every=step)) for step in keep[1:]),
    ):
        train_model(survey_corpus(text), tmp_path / name, config, device="cuda")
    pairs = [("plain/checkpoint", "kept/checkpoint"), ("plain/model", "kept/model")]
    pairs += [(f"{step}/model", f"kept/steps/{step:06d}/model") for step in keep[1:]]
    for pair in pairs:
        expected, found = (load_file(tmp_path / f"{name}.safetensors") for name in pair)
        torch.testing.assert_close(found, expected, msg=lambda text, pair=pair: f"{pair}: {text}")


def test_the_best_weights_come_from_a_checkpoint(text, tmp_path, monkeypatch):
    """A kept model between two checkpoints may be better than both, yet the best weights stay those of a checkpoint."""
    nats = iter([3.0, 0.5, 2.0, 2.5, 1.5])
    monkeypatch.setattr("gatescope.engine.training_loop.evaluate", lambda *given: next(nats))
    result = train_model(survey_corpus(text), tmp_path / "model", KEPT)
    assert (result["step"], result["validation_nats"]) == (20, 1.5)
    losses = [load_model(folder).training["validation_nats"] for folder in kept_models(tmp_path / "model")]
    assert losses == [3.0, 0.5, 2.0, 1.5]


def test_kept_models_come_in_the_order_of_their_steps(tmp_path):
    for name in ("000020", "1000000", "000003", "999999", "notes"):
        (tmp_path / "steps" / name).mkdir(parents=True)
        (tmp_path / "steps" / name / "model.json").touch()
    # A model whose training was killed before it was whole.
    (tmp_path / "steps" / "000100").mkdir()
    assert [folder.name for folder in kept_models(tmp_path)] == ["000003", "000020", "999999", "1000000"]
    assert kept_models(tmp_path / "absent") == []


def test_a_kept_model_reads_text(text, tmp_path):
    train_model(survey_corpus(text), tmp_path / "model", KEPT)
    model = load_model(kept_folder(tmp_path / "model", 5))
    assert extract_states(model, text, tmp_path / "read.zarr", ExtractConfig()) == len(TEXT)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_kept_model_is_reported(text, tmp_path, name):
    folder = tmp_path / "model"
    done = train_model(survey_corpus(text), folder, KEPT)
    file = kept_folder(folder, 8) / name
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(
        InputError, match=rf"steps/000008/{name}, which the training kept, is missing: .* start over with --overwrite"
    ):
        train_model(survey_corpus(text), folder, KEPT)
    file.write_bytes(content)
    assert train_model(survey_corpus(text), folder, KEPT) == done


def test_overwriting_removes_models_of_another_training(text, tmp_path):
    folder = tmp_path / "model"
    train_model(survey_corpus(text), folder, KEPT)
    with pytest.raises(InputError, match=r"train\.keep = \[0, 5, 8, 20\], not \[5\]"):
        train_model(survey_corpus(text), folder, replace(KEPT, keep=(5,)))
    train_model(survey_corpus(text), folder, replace(KEPT, keep=(5,)), overwrite=True)
    assert [kept.name for kept in kept_models(folder)] == ["000005"]
    for name in ("config.json", "model.json", "model.safetensors", "checkpoint.safetensors", "tokens.npy"):
        (folder / name).unlink()
    # What a training leaves if it is killed while it keeps a model.
    (folder / "steps" / "000005" / "model.json").unlink()
    with pytest.raises(InputError, match=r"holds steps/000005 but no config\.json"):
        train_model(survey_corpus(text), folder, LEVEL)


def test_a_nonfinite_loss_keeps_no_model(text, tmp_path, monkeypatch):
    rate = TrainConfig.rate
    monkeypatch.setattr(TrainConfig, "rate", lambda self, step: math.inf if step == 4 else rate(self, step))
    with pytest.raises(InputError, match=r"validation loss is nan nats after step 5: .*--learning-rate"):
        train_model(survey_corpus(text), tmp_path / "model", KEPT)
    assert [kept.name for kept in kept_models(tmp_path / "model")] == ["000000"]


REFUSED = {"negative": (-1, 5), "twice": (5, 5), "falling": (8, 5), "beyond": (21,)}


@pytest.mark.parametrize("keep", REFUSED.values(), ids=REFUSED)
def test_steps_that_cannot_be_kept_are_refused(keep):
    with pytest.raises(InputError, match=r"^--keep .*: expected increasing numbers from 0 .* to --steps 20$"):
        replace(LEVEL, keep=keep)


@pytest.mark.parametrize("keep", [5, "5", (1.5,), (True,)])
def test_keep_refuses_anything_but_a_tuple_of_integers(keep):
    with pytest.raises(InputError, match=r"^--keep "):
        replace(LEVEL, keep=keep)


def test_a_model_is_kept_before_its_checkpoint_is_saved(text, tmp_path, monkeypatch):
    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("gatescope.engine.training_loop.save_checkpoint", killed)
        train_model(survey_corpus(text), tmp_path / "model", KEPT)
    assert [kept.name for kept in kept_models(tmp_path / "model")] == ["000000", "000005", "000008"]
    train_model(survey_corpus(text), tmp_path / "model", KEPT)
    train_model(survey_corpus(text), tmp_path / "whole", KEPT)
    assert contents(tmp_path / "model") == contents(tmp_path / "whole")


def test_foreign_files_beside_kept_models_are_left_alone(text, tmp_path):
    notes = tmp_path / "model" / "steps" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    train_model(survey_corpus(text), tmp_path / "model", KEPT)
    train_model(survey_corpus(text), tmp_path / "model", replace(KEPT, keep=(5,)), overwrite=True)
    assert notes.read_text() == "mine"
    assert kept_models(tmp_path / "model") == [kept_folder(tmp_path / "model", 5)]


def test_kept_names_include_unfinished_models(tmp_path):
    for place in ("000005/model.json", "000008/model.safetensors", "notes/model.json", "2024/notes.txt"):
        (tmp_path / "steps" / place).parent.mkdir(parents=True)
        (tmp_path / "steps" / place).write_text("")
    (tmp_path / "steps" / "000020").mkdir()
    partial_name(tmp_path / "steps" / "000020" / "model.safetensors").write_bytes(b"half")
    assert kept_names(tmp_path) == ["steps/000005", "steps/000008", "steps/000020"]
    assert kept_names(tmp_path / "absent") == []
