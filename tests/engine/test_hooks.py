"""Recording the modules of any model, against the outputs that a plain PyTorch hook sees."""

import os

import numpy as np
import pytest
import torch
from tagger import VOCABULARY, B, H, I, T, Tagger, V, outputs_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from gatescope.engine.concat import concatenate
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.hooks import record_states
from gatescope.engine.trained_model import weights_digest


@pytest.fixture
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(0, V, (4, B, T)))  # four batches


def test_an_lstm_and_a_transformer_layer(tmp_path, tokens):
    torch.manual_seed(0)
    model = Tagger()
    path = tmp_path / "new" / "states.zarr"
    modules = {"layer0/h": "rnn", "layer1/h": model.attention}
    outputs = {"layer0/h": outputs_of(model.rnn), "layer1/h": outputs_of(model.attention)}
    with record_states(model, modules, path, vocabulary=VOCABULARY, attributes={"cell": "lstm"}) as recording:
        for batch in tokens:
            model(batch)
            recording.add(batch)
    dump = StateDump.open(path)
    assert dump.verify() == [] and dump.attributes["cell"] == "lstm" and os.listdir(path.parent) == ["states.zarr"]
    assert dump.text() == "".join(VOCABULARY[token] for token in tokens.reshape(-1))
    assert np.array_equal(dump.sequence_starts, np.arange(0, 4 * B * T + 1, T))
    for name, batches in outputs.items():
        expected = torch.cat([batch.reshape(-1, H) for batch in batches])
        assert np.array_equal(np.asarray(dump.array(name)), expected.half().numpy())


def test_words_are_recorded_and_are_no_text(tmp_path, tokens):
    words = ["the", "dog", "New York", "a", "\n"]
    model = Tagger()
    for name in ("s", "t"):
        with record_states(model, {"layer0/h": "rnn"}, tmp_path / name, vocabulary=words) as recording:
            model(tokens[0])
            recording.add(tokens[0])
    dump = StateDump.open(tmp_path / "s")
    assert dump.words == words and dump.vocabulary is None and dump.of_each_row == "token" and dump.verify() == []
    assert dump.tokens.tolist() == tokens[0].reshape(-1).tolist()
    with pytest.raises(InputError, match="is of words: a text is of characters"):
        dump.text()
    concatenate([tmp_path / "s", tmp_path / "t"], tmp_path / "both")
    assert StateDump.open(tmp_path / "both").words == words


def test_states_under_autocast_are_recorded(tmp_path, tokens):
    model = nn.Sequential(nn.Embedding(V, I), nn.Linear(I, H))
    with (
        record_states(model, {"layer0/h": "1"}, tmp_path / "s", vocabulary=VOCABULARY) as recording,
        torch.autocast("cpu", torch.bfloat16),
    ):
        expected = model(tokens[0])
        recording.add(tokens[0])
    assert expected.dtype == torch.bfloat16
    rows = np.asarray(StateDump.open(tmp_path / "s").array("layer0/h"))
    assert np.array_equal(rows, expected.detach().half().reshape(-1, H).numpy())


def test_a_compiled_model_is_recorded(tmp_path, tokens):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(V, I), nn.Linear(I, H))
    compiled = torch.compile(model, backend="eager")
    expected = compiled(tokens[0]).detach()
    options = {"path": tmp_path / "s.zarr", "vocabulary": VOCABULARY, "dtype": "float32"}
    with (
        pytest.raises(InputError, match=r"layer0/h: its module was not called .* record the original model"),
        record_states(compiled, {"layer0/h": "_orig_mod.1"}, **options) as recording,
    ):
        compiled(tokens[0])
        recording.add(tokens[0])
    torch.compiler.reset()
    with record_states(compiled, {"layer0/h": "_orig_mod.1"}, **options) as recording:
        compiled(tokens[0])
        recording.add(tokens[0])
    recorded = np.asarray(StateDump.open(tmp_path / "s.zarr").array("layer0/h"))
    assert np.array_equal(recorded, expected.reshape(-1, H).numpy())
    torch.compiler.reset()


def test_single_steps_of_a_cell_are_recorded(tmp_path, tokens):
    cell = nn.LSTMCell(V, H)
    state, expected = None, []
    with record_states(cell, {"layer0/h": ""}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        for t in range(T):
            state = cell(nn.functional.one_hot(tokens[0, :, t], V).float(), state)
            expected.append(state[0].detach())
        recording.add(tokens[0])
    rows = torch.stack(expected, dim=1).reshape(-1, H)
    assert np.array_equal(np.asarray(StateDump.open(tmp_path / "s").array("layer0/h")), rows.half().numpy())


@pytest.mark.parametrize("layout", ["BTH", "TBH"])
def test_single_steps_of_a_cell_are_refused_as_sequences(tmp_path, tokens, layout):
    cell, state = nn.LSTMCell(V, H), None
    x = nn.functional.one_hot(tokens[0], V).float()
    modules = {"layer0/h": cell, "layer0/c": (cell, lambda output: output[1])}
    with record_states(cell, modules, tmp_path / "s", vocabulary=VOCABULARY, layout=layout) as recording:
        cell(x[:, 0])
        with pytest.raises(
            InputError, match="layer0/h: its module returned 3 sequences of 1 row, and the tokens are 1"
        ):
            recording.add(tokens[0, :, 0])
        steps = []
        for t in range(T):
            state = cell(x[:, t], state)
            steps.append(state)
            column = tokens[0, :, t : t + 1]
            recording.add(column if layout == "BTH" else column.T, continues=t > 0)
    dump = StateDump.open(tmp_path / "s")
    assert dump.sequence_starts.tolist() == [0, T, 2 * T, 3 * T]
    for name, of_steps in zip(modules, zip(*steps, strict=True), strict=True):
        expected = torch.stack(of_steps, dim=1).detach().half().reshape(-1, H)
        assert np.array_equal(np.asarray(dump.array(name)), expected.numpy())


def test_a_function_may_choose_another_part_of_the_output(tmp_path):
    cell, x = nn.LSTMCell(4, 3), torch.randn(5, 2, 4)
    arrays = {"layer0/h": cell, "layer0/c": (cell, lambda output: output[1])}
    state, expected = None, []
    with record_states(cell, arrays, tmp_path / "s", vocabulary=["a"], dtype="float32") as recording:
        for step in x:
            state = cell(step, state)
            expected.append(state[1])
        recording.add(torch.zeros(2, 5, dtype=torch.long))
    dump = StateDump.open(tmp_path / "s")
    np.testing.assert_array_equal(dump["c"][0][:], torch.stack(expected, dim=1).flatten(0, 1).detach())
    assert (np.asarray(dump["h"][0]) != np.asarray(dump["c"][0])).any()


def test_one_sequence_without_a_batch(tmp_path, tokens):
    rnn = nn.RNN(V, H)
    outputs = outputs_of(rnn)
    x = nn.functional.one_hot(tokens[0, 0], V).float()
    with record_states(rnn, {"layer0/h": rnn}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        for _ in range(2):
            rnn(x)
            recording.add(tokens[0, 0])
    dump = StateDump.open(tmp_path / "s")
    assert dump.sequence_starts.tolist() == [0, T, 2 * T]
    assert np.array_equal(np.asarray(dump.array("layer0/h")), torch.cat(outputs).half().numpy())


def test_a_loop_that_carries_its_state_continues_its_sequences(tmp_path, tokens):
    rnn, outputs = nn.GRU(V, H, batch_first=True), []
    text = tokens.permute(1, 0, 2).reshape(B, 4 * T)
    with record_states(rnn, {"layer0/h": rnn}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        for _ in range(2):
            state = None
            for piece in range(4):
                y, state = rnn(nn.functional.one_hot(tokens[piece], V).float(), state)
                outputs.append(y.detach())
                # The last sequence ends before the last piece.
                lengths = [T, T, 0] if piece == 3 else None
                recording.add(tokens[piece], lengths, continues=piece > 0)
    dump = StateDump.open(tmp_path / "s")
    assert np.diff(dump.sequence_starts).tolist() == 2 * [4 * T, 4 * T, 3 * T]
    assert np.array_equal(dump.document_starts, dump.sequence_starts)
    words = torch.cat([text[0], text[1], text[2, : 3 * T]])
    assert dump.tokens.tolist() == 2 * words.tolist()
    rows = [torch.cat(outputs[4 * loop : 4 * loop + 4], dim=1) for loop in range(2)]
    expected = torch.cat([each for y in rows for each in (y[0], y[1], y[2, : 3 * T])])
    assert np.array_equal(np.asarray(dump.array("layer0/h")), expected.half().numpy())


def test_invalid_continuations_are_refused(tmp_path, tokens):
    model = nn.Embedding(V, H)
    with record_states(model, {"layer0/h": ""}, tmp_path / "s", vocabulary=VOCABULARY) as recording:

        def add(batch, continues):
            model(batch.clamp(min=0))
            recording.add(batch, continues=continues)

        with pytest.raises(InputError, match="3 sequences cannot continue: there was no add before this"):
            add(tokens[0], True)
        add(tokens[0], False)
        with pytest.raises(InputError, match="2 sequences cannot continue: the last add had 3; leave out continues"):
            add(tokens[1, :2], True)
        add(tokens[0], False)
        with pytest.raises(InputError, match="a token is outside"):
            add(tokens[1] - V, True)
        # A piece is missing.
        with pytest.raises(InputError, match="there was no add before this, or it failed"):
            add(tokens[1], True)
    assert StateDump.open(tmp_path / "s").tokens.tolist() == 2 * tokens[0].reshape(-1).tolist()


def test_a_discarded_pass_is_not_recorded(tmp_path, tokens):
    model = nn.Embedding(V, H)
    with record_states(model, {"layer0/h": ""}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        model(tokens[0])
        recording.add(tokens[0])
        model(tokens[1])
        recording.discard()
        model(tokens[2])
        recording.add(tokens[2], continues=True)
        model(tokens[3])
        recording.discard()
    dump = StateDump.open(tmp_path / "s")
    assert dump.tokens.tolist() == torch.cat([tokens[0], tokens[2]], dim=1).reshape(-1).tolist()


NAN = torch.tensor([[V - 1, 0]])


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_a_backward_pass_that_calls_modules_again(tmp_path, tokens, is_reentrant):
    embedding, linear = nn.Embedding(V, I), nn.Linear(I, H)
    outputs = outputs_of(linear)

    def loss_of(batch):
        return checkpoint(lambda x: linear(x).tanh().tanh(), embedding(batch), use_reentrant=is_reentrant).sum()

    with record_states(linear, {"layer0/h": linear}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        loss = loss_of(tokens[0])
        recording.add(tokens[0])
        loss.backward()
        loss = loss_of(tokens[1])
        with pytest.raises(InputError, match=r"2 calls, .* pass, discard\(\) after a backward pass that repeats it"):
            recording.add(tokens[1])
        loss.backward()
        recording.discard()
        loss_of(tokens[2])
        recording.add(tokens[2])
    dump = StateDump.open(tmp_path / "s")
    expected = torch.cat([outputs[number].reshape(-1, H) for number in (0, 4)])
    assert np.array_equal(np.asarray(dump.array("layer0/h")), expected.half().numpy())


@pytest.mark.parametrize(
    ("tokens", "lengths"),
    [(NAN, None), (NAN.float(), None), ([[0], [1, 2]], None), (NAN[0, :1], None), (NAN, [3]), (NAN * 9, None)],
    ids=["states", "floats", "ragged", "shape", "lengths", "vocabulary"],
)
def test_recording_works_after_a_failed_add(tmp_path, tokens, lengths):
    model = nn.Embedding(V, H)
    with torch.no_grad():
        model.weight[V - 1] = float("nan")
    with record_states(model, {"layer0/h": ""}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        for _ in range(2):
            model(NAN)
            with pytest.raises(InputError):
                recording.add(tokens, lengths)
            model(torch.tensor([[0, 1]]))
            recording.add([[0, 1]])
    dump = StateDump.open(tmp_path / "s")
    assert dump.tokens.tolist() == [0, 1, 0, 1]
    expected = model.weight[[0, 1, 0, 1]].detach().half().numpy()
    assert np.array_equal(np.asarray(dump.array("layer0/h")), expected)


def test_dumps_of_different_weights_are_not_concatenated(tmp_path, tokens):
    def recorded(name, model, **attributes):
        path = tmp_path / name
        with record_states(model, {"layer0/h": ""}, path, vocabulary=VOCABULARY, attributes=attributes) as recording:
            model(tokens[0])
            recording.add(tokens[0])
        return path

    model, other = nn.Embedding(V, H), nn.Embedding(V, H)
    parts = [recorded("a", model), recorded("b", model)]
    assert concatenate(parts, tmp_path / "ab") == 2 * B * T
    assert StateDump.open(parts[0]).attributes["weights_sha256"] == weights_digest(model.state_dict())
    with pytest.raises(InputError, match="weights_sha256 is"):
        concatenate([*parts, recorded("c", other)], tmp_path / "abc")
    own = recorded("d", other, weights_sha256="7" * 64)
    assert StateDump.open(own).attributes["weights_sha256"] == "7" * 64


def test_one_output_cannot_have_two_names(tmp_path):
    both = {"layer0/h": "rnn", "layer1/h": "rnn"}
    with pytest.raises(InputError, match="layer0/h and layer1/h are the same output: use pairs"):
        record_states(Tagger(), both, tmp_path / "s", vocabulary=VOCABULARY)
    first, second = (("rnn", lambda output, k=k: output[1][k]) for k in (0, 1))
    record_states(Tagger(), {"layer1/h": first, "layer1/c": second}, tmp_path / "s", vocabulary=VOCABULARY)


def test_warns_when_a_stacked_rnn_is_recorded_as_layer0(tmp_path, recwarn):
    record_states(Tagger(), {"layer1/h": "rnn"}, tmp_path / "s", vocabulary=VOCABULARY)
    record_states(nn.LSTM(I, H), {"layer0/h": ""}, tmp_path / "s", vocabulary=VOCABULARY)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="layer0/h: LSTM returns only its top layer, layer1"):
        record_states(Tagger(), {"layer0/h": "rnn"}, tmp_path / "s", vocabulary=VOCABULARY)


def test_an_error_removes_the_hooks_and_all_files(tmp_path, tokens):
    model = Tagger()
    with (
        pytest.raises(ZeroDivisionError),
        record_states(model, {"layer0/h": "rnn"}, tmp_path / "s", vocabulary=VOCABULARY) as recording,
    ):
        model(tokens[0])
        recording.add(tokens[0])
        raise ZeroDivisionError
    assert not model.rnn._forward_hooks and os.listdir(tmp_path) == []
