"""Sampling with every state recorded."""

import numpy as np
import pytest
import torch
from sampled_states import sampled
from scipy import stats

from gatescope.engine.errors import InputError
from gatescope.engine.model import Architecture
from gatescope.engine.sample import SampleConfig, sample_in_memory, sample_states
from gatescope.engine.trained_model import load_model
from gatescope.engine.vocabulary import Vocabulary

ALL = ("h", "c", "gates")


def arrays(dump):
    return {name: np.asarray(dump.array(name)) for name in dump.names}


@pytest.mark.parametrize("architecture", [{}, {"cell": "gru"}, {"cell": "gru", "reset_after": False}, {"cell": "rnn"}])
def test_states_equal_the_model_reading_the_sampled_text(make_model, tmp_path, architecture):
    trained = load_model(make_model(**architecture))
    # In float64, only the rounding of the recorded float32 is left.
    model = trained.model.double()
    dump = sampled(trained, tmp_path / "s.zarr", capture=ALL, dtype="float32")
    prime = trained.vocabulary.encode("\n").astype(np.int64)
    tokens = np.asarray(dump.tokens).reshape(5, 12).astype(np.int64)
    state = model.zero_state(5)
    with torch.no_grad():
        _, state = model(torch.from_numpy(np.repeat(prime[:, None], 5, axis=1)), state)
        for layer in range(2):
            np.testing.assert_allclose(dump.initial(f"layer{layer}/h"), state[0][layer].numpy(), rtol=1e-6)
        for step in range(12):
            _, state = model(torch.from_numpy(tokens[:, step])[None], state)
            for name, value in zip(model.architecture.states, state, strict=True):
                for layer in range(2):
                    found = np.asarray(dump[name][layer]).reshape(5, 12, -1)[:, step]
                    np.testing.assert_allclose(found, value[layer].numpy(), rtol=1e-6)


def test_text_follows_the_model_at_the_temperature(make_model, tmp_path):
    # A single recurrent unit that remembers nothing: characters are independent draws from softmax(b / temperature).
    folder = make_model(hidden=1, layers=1, characters="\nabc")
    trained = load_model(folder)
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.zero_()
        trained.model.output.bias.copy_(torch.tensor([-1.0, 0.0, 0.5, 1.0]))
    dump = sampled(trained, tmp_path / "s.zarr", sequences=200, length=100, temperature=0.5)
    expected = torch.softmax(torch.tensor([-1.0, 0.0, 0.5, 1.0]).double() / 0.5, 0).numpy() * dump.n_rows
    assert stats.chisquare(np.bincount(dump.tokens, minlength=4), expected).pvalue > 1e-3


def test_a_sequence_does_not_depend_on_its_neighbours(lstm, tmp_path):
    many = sampled(lstm, tmp_path / "many.zarr", sequences=70)
    few = sampled(lstm, tmp_path / "few.zarr", sequences=3)
    rows = slice(0, few.n_rows)
    assert np.array_equal(few.tokens[rows], many.tokens[rows])
    for name in few.names:
        assert np.array_equal(few.array(name)[rows], many.array(name)[rows])
    longer = sampled(lstm, tmp_path / "longer.zarr", sequences=3, length=20)
    assert longer.text(0, 12) == few.text(0, 12)


def test_seed_and_prime_change_the_text(lstm, tmp_path, make_model):
    texts = {sampled(lstm, tmp_path / f"{seed}.zarr", seed=seed).text() for seed in (0, 1, 2**63)}
    assert len(texts) == 3
    primed = sampled(lstm, tmp_path / "primed.zarr", prime="abc")
    assert primed.text() not in texts and primed.attributes["prime"] == "abc"
    assert sampled(lstm, tmp_path / "again.zarr").attributes["prime"] == "\n"
    without_newline = load_model(make_model("other", characters="abc"))
    dump = sampled(without_newline, tmp_path / "bare.zarr")
    assert dump.attributes["prime"] == "" and not np.asarray(dump.initial("layer0/h")).any()
    with pytest.raises(InputError, match=r"'é'.*vocabulary"):
        sampled(lstm, tmp_path / "bad.zarr", prime="aé")
    assert not (tmp_path / "bad.zarr").exists()


def test_only_requested_states_are_recorded(lstm, make_model, tmp_path):
    dump = sampled(lstm, tmp_path / "gates.zarr", capture=("gates",))
    assert dump.names == [f"layer{layer}/gates/{gate}" for layer in (0, 1) for gate in "ifgo"]
    gru = load_model(make_model("gru", cell="gru"))
    assert sampled(gru, tmp_path / "gru.zarr").names == ["layer0/h", "layer1/h"]
    with pytest.raises(InputError, match="--capture c: a gru has h and gates"):
        sampled(gru, tmp_path / "none.zarr", capture=("c",))
    facts = dump.attributes
    assert facts["alignment"] == "post" and facts["cell"] == "lstm" and facts["gates"]["order"] == list("ifgo")
    assert facts["weights_sha256"] == lstm.weights_sha256 and facts["temperature"] == 0.8 and facts["seed"] == 0


def test_a_cell_beyond_float16_names_the_remedy(make_model, tmp_path):
    trained = load_model(make_model(cell="rnn", nonlinearity="relu"))
    with torch.no_grad():
        trained.model.rnn.bias_ih_l0.fill_(1e6)
    message = r"layer0/h: 1\.\d+e\+06 at row 0, unit 0 is beyond float16 \(at most 65504\): use --dtype float32$"
    with pytest.raises(InputError, match=message):
        sampled(trained, tmp_path / "s.zarr", length=3)
    with pytest.raises(InputError, match=message):
        sample_in_memory(trained, SampleConfig(sequences=5, length=3))
    # After following the message's advice, nothing left by the failed attempt gets in the way.
    assert sampled(trained, tmp_path / "s.zarr", length=3, dtype="float32").verify() == []


def test_a_finished_dump_is_left_alone_and_other_settings_are_refused(lstm, tmp_path):
    sampled(lstm, tmp_path / "s.zarr")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s.zarr").rglob("*") if path.is_file()}
    sampled(lstm, tmp_path / "s.zarr")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "s.zarr").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="seed"):
        sampled(lstm, tmp_path / "s.zarr", seed=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("sequences", 0), ("length", -1), ("temperature", 0.0), ("sequences", 2**32), ("length", 10**23)],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=f"--{field}"):
        SampleConfig(**{field: value})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"capture": ("c",)}, "--capture c"),
        ({"prime": "é"}, "--prime 'é'"),
        ({"precision": "float16"}, "--precision float16 needs a GPU"),
    ],
)
def test_unavailable_captures_are_refused_before_training(config, said):
    architecture, vocabulary = Architecture(cell="gru"), Vocabulary(("\n", "a"))
    SampleConfig(capture=("h", "gates"), prime="a\n").require(architecture, vocabulary, "cpu")
    with pytest.raises(InputError, match=said):
        SampleConfig(**config).require(architecture, vocabulary, "cpu")


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_scores_equal_the_model_for_any_sampling_settings(make_model, tmp_path, layers):
    trained = load_model(make_model(cell="gru", layers=layers))
    model = trained.model.double()
    capture = ("h", "log_probability", "entropy")
    dump = sampled(trained, tmp_path / "s.zarr", capture=capture, dtype="float32", length=40, temperature=0.5, top_k=4)
    tokens = torch.from_numpy(np.asarray(dump.tokens).reshape(5, 40).astype(np.int64))
    read = torch.cat([torch.from_numpy(trained.vocabulary.encode("\n").astype(np.int64)).repeat(5, 1), tokens], dim=1)
    with torch.no_grad():
        p = model(read[:, :-1].T, model.zero_state(5))[0].log_softmax(dim=2).transpose(0, 1)
    expected = {
        f"layer{layers}/log_probability": p.gather(2, tokens[..., None])[..., 0],
        f"layer{layers}/entropy": -(p * p.exp()).sum(dim=2),
    }
    assert dump.names == [*(f"layer{layer}/h" for layer in range(layers)), *expected]
    for name, values in expected.items():
        assert dump.array(name).shape == (200, 1)
        np.testing.assert_allclose(np.asarray(dump.array(name))[:, 0], values.flatten(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("capture", [("h",), ("log_probability",), ("h", "entropy")], ids="-".join)
def test_logits_that_are_not_finite_are_refused(make_model, cell, capture):
    trained = load_model(make_model(cell=cell))
    with torch.no_grad():
        trained.model.output.bias[3] = float("nan")
    with pytest.raises(InputError, match="finite"):
        sample_in_memory(trained, SampleConfig(sequences=3, length=4, capture=capture))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(lstm, tmp_path, seed):
    with pytest.raises(InputError, match=f"--seed {seed}: expected"):
        sampled(lstm, tmp_path / "s.zarr", seed=seed)


@pytest.mark.parametrize(
    ("trained", "config", "message"),
    [
        (
            "model",
            SampleConfig(),
            r"trained is of type str: expected TrainedModel, as load_model\('model'\) returns it",
        ),
        (None, {"sequences": 3}, "config is of type dict: expected SampleConfig"),
    ],
)
def test_a_path_or_dictionary_in_place_of_an_object_is_refused(lstm, tmp_path, trained, config, message):
    with pytest.raises(InputError, match=message):
        sample_states(trained or lstm, tmp_path / "states", config)
    with pytest.raises(InputError, match=message):
        sample_in_memory(trained or lstm, config)


def test_settings_may_be_numpy_numbers(lstm, tmp_path):
    plain = sampled(lstm, tmp_path / "plain", seed=1, sequences=2, length=5, temperature=0.5, top_p=0.25, top_k=3)
    given = {"sequences": np.int64(2), "length": np.int32(5), "top_k": np.uint8(3)}
    given |= {"temperature": np.float32(0.5), "top_p": np.float64(0.25)}
    found = sampled(lstm, tmp_path / "numpy", seed=np.int64(1), **given)
    assert found.attributes == plain.attributes and found.text() == plain.text()
    for seed in (1.0, "1", None):
        with pytest.raises(InputError, match=r"--seed .*: expected a whole number"):
            sampled(lstm, tmp_path / "s.zarr", seed=seed)
