"""training_loop.py: the state is carried from step to step, and a loss that is not finite stops the training."""

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gatescope.engine.corpus import survey_corpus
from gatescope.engine.errors import InputError
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model

TEXT = "the quick brown fox jumps over the lazy dog; " * 400
SMALL = TrainConfig(hidden=12, layers=2, dropout=0.2, batch=4, length=20, steps=30, evaluate_every=7)


def test_state_is_carried_from_window_to_window(text, tmp_path):
    # With a vanishing learning rate the weights stay the same, so that the carried state can be recomputed.
    config = TrainConfig(hidden=8, batch=2, length=10, steps=3, evaluate_every=3, learning_rate=1e-30)
    train_model(survey_corpus(text), tmp_path / "model", config)
    carried = load_file(tmp_path / "model" / "checkpoint.safetensors")
    trained = load_model(tmp_path / "model")
    tokens = trained.vocabulary.encode(TEXT).astype(np.int64)
    lanes = tokens[: len(tokens) - round(len(tokens) * 0.05)]
    lanes = lanes[: len(lanes) // 2 * 2].reshape(2, -1)
    with torch.no_grad():
        _, state = trained.model(torch.from_numpy(lanes[:, :30].T.copy()), trained.model.zero_state(2))
    for index, value in enumerate(state):
        np.testing.assert_allclose(carried[f"state.{index}"], value.numpy(), rtol=1e-5, atol=1e-7)


def test_a_diverging_loss_stops_and_names_the_remedy(text, tmp_path):
    config = TrainConfig(cell="rnn", nonlinearity="relu", hidden=16, batch=4, length=50, steps=60, learning_rate=1e30)
    with pytest.raises(InputError, match=r"at step \d+.*--learning-rate"):
        train_model(survey_corpus(text), tmp_path / "model", config)


def test_the_step_that_went_wrong_is_named(text, tmp_path, monkeypatch):
    """The 18th step spoils the weights: the 19th has the first loss that is not finite, long before the next line."""
    monkeypatch.setattr(TrainConfig, "rate", lambda self, step: math.inf if step == 17 else 0.0)
    config = TrainConfig(hidden=8, batch=4, length=10, steps=60)
    with pytest.raises(InputError, match=r"the loss is nan nats .* at step 19: "):
        train_model(survey_corpus(text), tmp_path / "model", config)


@pytest.mark.parametrize("spoilt", [6, 29])
def test_a_validation_loss_that_is_not_finite_stops_before_the_checkpoint(text, tmp_path, monkeypatch, spoilt):
    """The last step before a validation spoils the weights: all training losses were finite."""
    rate = TrainConfig.rate
    monkeypatch.setattr(TrainConfig, "rate", lambda self, step: math.inf if step == spoilt else rate(self, step))
    with pytest.raises(InputError, match=rf"validation loss is nan nats after step {spoilt + 1}: .*--learning-rate"):
        train_model(survey_corpus(text), tmp_path / "model", SMALL)
    assert ('"validate"' in (tmp_path / "model" / "log.jsonl").read_text()) == (spoilt == 29)
    assert (tmp_path / "model" / "checkpoint.safetensors").exists() == (spoilt == 29)
    monkeypatch.undo()
    assert train_model(survey_corpus(text), tmp_path / "model", SMALL)["step"] == 30
