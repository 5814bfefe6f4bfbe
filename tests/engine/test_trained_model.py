"""The files of a model: read back, and refused if anything altered them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gatescope.engine.errors import InputError
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.model_description import description_digest, write_description
from gatescope.engine.trained_model import load_model, save_model, weights_digest, write_weights
from gatescope.engine.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("\n", "a", "b", "é"))
CORPUS = {"name": "test", "characters": 10}


@pytest.fixture
def folder(tmp_path):
    architecture = Architecture(cell="gru", hidden=5, layers=2, embedding=3, reset_after=False)
    write_description(tmp_path, architecture, VOCABULARY, CORPUS)
    torch.manual_seed(0)
    write_weights(tmp_path, CharacterModel(architecture, 4), {"step": 7, "validation_nats": 1.5})
    return tmp_path


def test_a_loaded_model_equals_the_saved_one(folder):
    trained = load_model(folder)
    assert trained.vocabulary == VOCABULARY and trained.corpus == CORPUS
    assert trained.training == {"step": 7, "validation_nats": 1.5}
    torch.manual_seed(0)
    expected = CharacterModel(trained.model.architecture, 4)
    for name, parameter in expected.named_parameters():
        assert torch.equal(parameter, trained.model.get_parameter(name))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_description(folder, trained.model.architecture, VOCABULARY, CORPUS)
    write_weights(folder, trained.model, trained.training)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


LAYERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
TRAINED = {"corpus": "plays", "n_characters": 1_000, "steps": 60, "validation_nats": 1.75}


@pytest.mark.parametrize("cell", LAYERS)
def test_a_model_of_torch_layers_computes_the_same_logits(tmp_path, cell):
    torch.manual_seed(0)
    parts = torch.nn.Embedding(4, 3), LAYERS[cell](3, 5, num_layers=2), torch.nn.Linear(5, 4)
    model = CharacterModel(Architecture(cell=cell, hidden=5, layers=2, embedding=3), 4)
    for ours, theirs in zip((model.embedding, model.rnn, model.output), parts, strict=True):
        ours.load_state_dict(theirs.state_dict())
    save_model(model, tmp_path / "a" / "model", list(VOCABULARY.characters), **TRAINED)
    trained = load_model(tmp_path / "a" / "model")
    assert trained.vocabulary == VOCABULARY and trained.corpus == {"name": "plays", "characters": 1_000}
    assert trained.training == {"step": 60, "validation_nats": 1.75}
    tokens = torch.randint(0, 4, (7, 2))
    embedding, rnn, output = parts
    expected = output(rnn(embedding(tokens))[0])
    torch.testing.assert_close(trained.model(tokens, trained.model.zero_state(2))[0], expected)


@pytest.mark.parametrize(
    ("characters", "dtype", "said"),
    [
        ("abc", torch.float32, "expected 4 different single characters"),
        ("abca", torch.float32, "expected 4 different single characters"),
        (["a", "b", "c", "de"], torch.float32, "expected 4 different single characters"),
        ("abcd", torch.float64, "weight embedding.weight is torch.float64, expected float32"),
    ],
)
def test_an_unsavable_model_is_refused_before_anything_is_written(tmp_path, characters, dtype, said):
    model = CharacterModel(Architecture(hidden=5, embedding=3), 4).to(dtype)
    with pytest.raises(InputError, match=said):
        save_model(model, tmp_path / "model", characters, **TRAINED)
    assert not (tmp_path / "model").exists()


def test_a_model_does_not_overwrite_another(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="already holds a model"):
        save_model(CharacterModel(Architecture(hidden=5), 4), folder, "abcd", **TRAINED)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def change(path: Path, **changes):
    """Change a description, and update its checksum."""
    description = json.loads(path.read_text())
    architecture = description["architecture"] | changes.pop("architecture", {})
    del description["sha256"]
    description |= {"architecture": architecture} | changes
    path.write_text(json.dumps(description | {"sha256": description_digest(description)}))


def rewrite(path: Path, dtype=torch.float32, about=None):
    """Write the weights anew, in another dtype or with other facts."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = {name: weight.to(dtype) for name, weight in load_file(path).items()}
    save_file(weights, path, metadata if about is None else {"gatescope": about})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "has no model.json"),
        (lambda f: (f / "model.json").write_text("{"), "is damaged: it is not JSON"),
        (lambda f: (f / "model.json").write_text("[]"), "not a model description"),
        (lambda f: change(f / "model.json", version=99), "model version 99, but this gatescope reads 1"),
        (lambda f: change(f / "model.json", format="other"), "not a model description"),
        (lambda f: change(f / "model.json", architecture={"cell": "lstm", "speed": 3}), "is damaged: entries"),
        (lambda f: change(f / "model.json", architecture={"cell": "transformer"}), "--cell 'transformer' is unknown"),
        (lambda f: (f / "model.json").write_text("[" * 200_000), "is damaged: it is not JSON"),
        (lambda f: change(f / "model.json", architecture={"hidden": 5.0}), "--hidden 5.0: expected a whole number"),
        (lambda f: change(f / "model.json", architecture={"layers": True}), "--layers True: expected a whole number"),
        (
            lambda f: change(f / "model.json", architecture={"embedding": "3"}),
            "--embedding '3': expected a whole number",
        ),
        (lambda f: change(f / "model.json", architecture={"dropout": "0"}), "--dropout '0': expected a number"),
        (lambda f: change(f / "model.json", architecture={"hidden": 10**6}), "no weight as large as 1000000"),
        (lambda f: change(f / "model.json", architecture={"layers": 10**3}), "no weight as large as 1000"),
        (lambda f: change(f / "model.json", architecture={"hidden": 10**12}), "--hidden 1000000000000 is too large"),
        (lambda f: change(f / "model.json", architecture={"layers": 3}), "weight .* has shape"),
        (lambda f: change(f / "model.json", vocabulary=["ab", 3]), "vocabulary is not a list of different characters"),
        (lambda f: change(f / "model.json", vocabulary=list("aabc")), "is not a list of different characters"),
        (lambda f: change(f / "model.json", vocabulary=list("abc\ud800")), "is not a list of different characters"),
        (lambda f: change(f / "model.json", corpus={"name": "x"}), "does not name its corpus"),
        (lambda f: rewrite(f / "model.safetensors", torch.bfloat16), r"weight \S+ is bfloat16, expected float32"),
        (lambda f: rewrite(f / "model.safetensors", torch.float64), r"weight \S+ is float64, expected float32"),
        (lambda f: rewrite(f / "model.safetensors", about="[1]"), "is not a complete weight file"),
        (lambda f: rewrite(f / "model.safetensors", about="[" * 200_000), "is not a complete weight file"),
        (lambda f: rewrite(f / "model.safetensors", about="{}"), "is not a complete weight file"),
        (
            lambda f: rewrite(f / "model.safetensors", about='{"step": 1, "validation_nats": null}'),
            "its step and loss are not numbers",
        ),
        (lambda f: change(f / "model.json", vocabulary=["a", "b"]), "weight .* has shape"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors, .*repeat .*or, if its loss was not"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x00" * 99), "is not a complete weight file"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is not a complete weight file"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
            "is not a complete weight file",
        ),
    ],
)
def test_a_damaged_folder_gives_a_one_line_error_naming_the_file(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize("place", [-1, -1000, 0.5])
def test_a_flipped_bit_in_the_weights_is_named(folder, place):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: it does not match its checksum"):
        load_model(folder)


def test_an_altered_loss_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b"1.5", b"1.4"))
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: it does not match its checksum"):
        load_model(folder)


def test_different_weights_have_different_digests():
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1), "extra": "of the module's own"}
    others = [
        weights | {"a": weights["a"].T.contiguous().T},
        weights | {"a": weights["a"].reshape(3, 2)},
        weights | {"a": weights["a"].bfloat16()},
        weights | {"b": torch.tensor(2)},
        {"c": weights["a"], "b": weights["b"]},
    ]
    same, *different = [weights_digest(each) == weights_digest(weights) for each in others]
    assert same and not any(different)
    assert weights_digest(weights, {"step": 1}) != weights_digest(weights)


def test_digests_accept_sparse_and_meta_tensors():
    sparse, meta = torch.eye(3).to_sparse(), torch.empty(2, 3, device="meta")
    assert weights_digest({"a": sparse}) == weights_digest({"a": torch.eye(3)}) != weights_digest({"a": 2 * sparse})
    assert weights_digest({"a": meta}) != weights_digest({"a": meta.T})


def test_an_altered_vocabulary_is_named(folder):
    """Without the check, its letters would be read and written as other letters."""
    file = folder / "model.json"
    description = json.loads(file.read_text())
    description["vocabulary"][1:3] = "b", "a"
    file.write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"model\.json does not match its checksum"):
        load_model(folder)


def test_a_removed_checksum_of_weights_is_named(folder):
    rewrite(folder / "model.safetensors", about='{"step": 7, "validation_nats": 1.5}')
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: it does not match its checksum"):
        load_model(folder)


def test_a_removed_checksum_of_the_description_is_named(folder):
    description = json.loads((folder / "model.json").read_text())
    del description["sha256"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"model\.json does not match its checksum"):
        load_model(folder)


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(InputError, match="absent does not exist; expected a folder that"):
        load_model(tmp_path / "absent")
    with pytest.raises(InputError, match=r"is not a model: it has no model\.json; expected a folder that"):
        load_model(tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", None])
def test_a_missing_device_is_a_one_line_error(folder, device):
    with pytest.raises(InputError, match=rf"^device {device!r} cannot be used \(.*\): expected 'cpu'") as error:
        load_model(folder, device)
    assert "\n" not in str(error.value)
