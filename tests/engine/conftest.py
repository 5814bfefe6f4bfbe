"""Small models with random weights for the tests of sampling and extraction."""

import pytest
import torch

from gatescope.engine.corpus import Vocabulary
from gatescope.engine.model import Architecture, CharacterModel, load_model, write_description, write_weights

CHARACTERS = "\n abcdefghij(){}"


@pytest.fixture
def make_model(tmp_path):
    """Make the folder of a model with large random weights, so that its text and states vary."""

    def make(name="model", characters=CHARACTERS, **architecture):
        folder = tmp_path / name
        folder.mkdir()
        vocabulary = Vocabulary(tuple(sorted(characters)))
        torch.manual_seed(0)
        chosen = Architecture(**{"hidden": 10, "layers": 2, **architecture})
        model = CharacterModel(chosen, len(vocabulary))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.8)
        write_description(folder, chosen, vocabulary, {"name": "test", "characters": 1})
        write_weights(folder, model, {"step": 0, "validation_nats": 1.0})
        return folder

    return make


@pytest.fixture
def lstm(make_model):
    return load_model(make_model())
