"""Small models with random weights, and a small dump."""

import numpy as np
import pytest
import torch

from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.model_description import write_description
from gatescope.engine.trained_model import load_model, write_weights
from gatescope.engine.vocabulary import Vocabulary

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


@pytest.fixture
def text(request, tmp_path):
    """The path of a file with the module's TEXT."""
    path = tmp_path / "text.txt"
    path.write_text(request.module.TEXT)
    return str(path)


@pytest.fixture
def small_dump():
    """Write a dump of two layers: sequences of 7, 1, 12 and 20 rows in two documents, in blocks of 16 rows."""

    def write(
        path,
        seed=0,
        lengths=(7, 1, 12, 20),
        dtype="float16",
        block_rows=16,
        compression="none",
        overwrite=False,
        **attributes,
    ):
        random = np.random.default_rng(seed)
        starts = np.cumsum([0, *lengths], dtype=np.int64)
        names = ["layer0/h", "layer0/c", "layer0/gates/i", "layer1/h", "layer1/c", "layer1/gates/i"]
        spec = DumpSpec(
            arrays=dict.fromkeys(names, 3),
            sequence_starts=starts,
            document_starts=starts[[0, *range(2, len(starts))]],
            initial=("h", "c"),
            token_dtype=np.dtype(np.uint8),
            dtype=np.dtype(dtype),
            attributes={"vocabulary": ["\n", " ", "a", "b"], "weights_sha256": "0" * 64, "cell": "lstm", **attributes},
            block_rows=block_rows,
            compression=compression,
        )
        n = spec.n_rows
        with DumpWriter(path, spec, overwrite=overwrite) as writer:
            writer.write_initial(0, {name: random.normal(size=(len(lengths), 3)) for name in spec.initial_arrays})
            writer.append(0, random.integers(0, 4, n), {name: random.normal(size=(n, 3)) for name in names})
        return path

    return write
