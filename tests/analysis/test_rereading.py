"""Rereading sequences of different lengths: sums of losses against a loop over characters and torch's own layers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latched_model import CHARACTERS, HIDDEN, write_latched_model
from torch import nn

from gatescope.analysis import rereading
from gatescope.analysis.labels import Labels
from gatescope.analysis.rereading import Rereading
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.interventions import Erased, Held
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.trained_model import load_model, save_model

K, LENGTH = 3, 11
DOCUMENTS = ["(ab)a(bb", "b", "aa(b(ab)))ab", "ba(ab", "()" * 12]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """The model, a dump of documents cut into sequences of up to 9 characters, and random labels."""
    folder = tmp_path_factory.mktemp("read")
    trained = load_model(write_latched_model(folder / "model"))
    texts = []
    for number, text in enumerate(DOCUMENTS):
        texts.append(folder / f"{number}.txt")
        texts[-1].write_text(text)
    extract_states(
        trained, texts, folder / "states.zarr", ExtractConfig(length=9, capture=("h",), dtype="float32", context=4)
    )
    dump = StateDump.open(folder / "states.zarr")
    generator = np.random.default_rng(0)
    hypotheses = tuple(SimpleNamespace(name=f"h{k}") for k in range(K))
    values, defined = generator.random((2, dump.n_rows, K)) < np.array([0.4, 0.8])[:, None, None]
    return trained, dump, Labels(hypotheses, values, defined)


def by_character(trained, dump, labels, alignment, sequences, length):
    """Sums and counts of losses, [1 + 2 K, S] each, one character after another."""
    net = nn.RNN(len(CHARACTERS), HIDDEN, 2)
    net.load_state_dict(trained.model.rnn.state_dict())
    sums, counts = np.zeros((2, 1 + 2 * K, len(sequences)))
    for place, s in enumerate(sequences):
        start, stop = dump.sequence_starts[s : s + 2]
        stop = min(stop, start + length)
        before = np.stack([dump.initial(f"layer{layer}/h")[s] for layer in (0, 1)])[:, None]
        x = torch.eye(len(CHARACTERS))[torch.from_numpy(dump.tokens[start:stop].astype(int))][:, None]
        with torch.no_grad():
            log_p = trained.model.output(net(x, torch.from_numpy(before))[0][:, 0]).log_softmax(1).numpy()
        for row in range(start, stop - 1):
            loss, asked = -log_p[row - start, dump.tokens[row + 1]], row + (alignment == "pre")
            where = [True]
            where += [labels.defined[asked, k] and labels.values[asked, k] for k in range(K)]
            where += [labels.defined[asked, k] and not labels.values[asked, k] for k in range(K)]
            sums[where, place] += loss
            counts[where, place] += 1
    return sums, counts


@pytest.mark.parametrize("alignment", ["post", "pre"])
@pytest.mark.parametrize("length", [LENGTH, 6])
def test_losses_are_summed_where_hypotheses_hold(case, alignment, length):
    trained, dump, labels = case
    sequences = np.array([0, 1, 2, 4, 5, 6])
    assert len(set(np.diff(dump.sequence_starts)[sequences])) > 2
    reading = Rereading(trained, dump, labels, alignment, sequences, length)
    sums, counts = by_character(trained, dump, labels, alignment, sequences, length)
    np.testing.assert_array_equal(reading.counts, counts)
    np.testing.assert_allclose(reading.losses, sums, rtol=1e-5, atol=1e-5)
    assert counts[1:].min(axis=0).max() > 0


def test_the_last_state_of_a_sequence_is_unlabelled(case):
    trained, dump, labels = case
    sequences = np.arange(len(dump.sequence_starts) - 1)
    h = Rereading(trained, dump, labels, "pre", sequences, 9).held("translate", 0, 0)["h"].numpy()
    states = [dump[f"layer{layer}/h"][:] for layer in (0, 1)]
    moved = 0
    for s, (start, stop) in enumerate(zip(dump.sequence_starts[:-1], dump.sequence_starts[1:], strict=True)):
        # The next character's label decides whether a state is moved, so the last state stays.
        for row in range(start, stop):
            defined = row + 1 < stop and labels.defined[row + 1, 0]
            before = np.stack([each[row] for each in states])
            assert np.allclose(h[:, row - start, s], before, atol=1e-5) != defined
            moved += defined
    assert moved > 10


def test_changes_compare_the_same_characters(case):
    trained, dump, labels = case
    sequences = np.arange(len(dump.sequence_starts) - 1)
    reading = Rereading(trained, dump, labels, "post", sequences, LENGTH)
    values = reading.held("zero", 0, 0)
    units = torch.zeros(2, 2, HIDDEN, dtype=torch.bool)
    units[1, 1] = True
    none, whole = reading.changes(Held(values, units))
    np.testing.assert_allclose(none, 0, atol=1e-5)
    # Without the top layer, every character costs its loss under the output's bias alone.
    bias = trained.model.output.bias.detach().log_softmax(0).numpy()
    for s, (start, stop) in enumerate(zip(dump.sequence_starts[:-1], dump.sequence_starts[1:], strict=True)):
        stop = min(stop, start + LENGTH)
        expected = -bias[dump.tokens[start + 1 : stop]].sum() - reading.losses[0, s]
        np.testing.assert_allclose(whole[0, s], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alignment", ["post", "pre"])
def test_labelled_states_are_those_with_a_defined_hypothesis(case, alignment):
    trained, dump, labels = case
    sequences = np.array([4, 1, 2, 6])
    reading = Rereading(trained, dump, labels, alignment, sequences, 6)
    mean, u, v = torch.zeros(1, 2, HIDDEN), torch.zeros(1, 2, HIDDEN), torch.zeros(1, 2, HIDDEN)
    u[0, 1, 3], v[0, 1, 3], mean[0, 1, 3] = 1, 1, 0.5
    expected = []
    for place, s in enumerate(sequences):
        start, stop = dump.sequence_starts[s : s + 2]
        for t in range(min(stop - start, 6)):
            # The label that belongs to the state after a character: its own, or that of the next character read.
            row = start + t + (alignment == "pre")
            if row < min(stop, start + 6) and labels.defined[row, 1]:
                state = np.concatenate([dump[f"layer{layer}/h"][start + t] for layer in (0, 1)])
                expected.append((t, place, labels.values[row, 1], state))
    expected.sort(key=lambda each: each[:2])
    erased, kept = Erased(mean, u, v), np.arange(2 * HIDDEN) != HIDDEN + 3
    for states, same in (
        (reading.undisturbed, kept | True),
        (reading.states(erased, once=True), kept),
        # The rest of the top layer reads on from the erased states, and the layer below is unaffected.
        (reading.states(erased), np.arange(2 * HIDDEN) < HIDDEN),
    ):
        X, holds, sequence = reading.labelled(1, states)
        assert sequence.tolist() == [each[1] for each in expected] and holds.tolist() == [each[2] for each in expected]
        np.testing.assert_allclose(X[:, same], np.stack([each[3] for each in expected])[:, same], atol=1e-5)
        assert same.all() or np.allclose(X[:, HIDDEN + 3], 0.5, rtol=0, atol=1e-6)


def test_labelled_states_include_all_states_of_the_cell(tmp_path):
    torch.manual_seed(0)
    model = CharacterModel(Architecture(cell="lstm", hidden=4, layers=2), 2)
    save_model(model, tmp_path / "model", "ab", corpus="none", n_characters=1, steps=0, validation_nats=1.0)
    trained = load_model(tmp_path / "model")
    (tmp_path / "text").write_text("abbaab")
    config = ExtractConfig(capture=("h", "c"), dtype="float32")
    extract_states(trained, tmp_path / "text", tmp_path / "states.zarr", config)
    dump = StateDump.open(tmp_path / "states.zarr")
    labels = Labels((SimpleNamespace(name="h0"),), np.eye(6, 1, dtype=bool), np.ones((6, 1), bool))
    reading = Rereading(trained, dump, labels, "post", np.array([0]), 6)
    nothing = torch.zeros(1, 2, 8)
    expected = np.hstack([dump[name][:] for name in ("layer0/h", "layer1/h", "layer0/c", "layer1/c")])
    erased = Erased(nothing, nothing, nothing)
    for states in (reading.undisturbed, reading.states(erased), reading.states(erased, once=True)):
        np.testing.assert_allclose(reading.labelled(0, states)[0], expected, atol=1e-6)


def test_sets_are_processed_in_parts(case, monkeypatch):
    trained, dump, labels = case
    reading = Rereading(trained, dump, labels, "post", np.arange(5), LENGTH)
    values, units = reading.held("mean", 0, 0), torch.rand(7, 2, HIDDEN) < 0.3
    together = reading.changes(Held(values, units))
    assert together.shape == (7, 1 + 2 * K, 5) and np.abs(together).max() > 0.1
    for rows in (1, 15):
        monkeypatch.setattr(rereading, "MOST_ROWS", rows)
        np.testing.assert_allclose(reading.changes(Held(values, units)), together, atol=2e-5)


def test_a_sequence_of_one_character_predicts_nothing(case):
    trained, dump, labels = case
    (one,) = np.flatnonzero(np.diff(dump.sequence_starts) == 1)[:1]
    reading = Rereading(trained, dump, labels, "post", np.array([one]), LENGTH)
    assert not reading.counts.any() and not reading.losses.any()


def test_initial_states_are_required(case, tmp_path):
    trained, _, labels = case
    (tmp_path / "text").write_text("(ab)" * 5)
    config = ExtractConfig(length=9, capture=("log_probability",))
    extract_states(trained, tmp_path / "text", Path(tmp_path / "states.zarr"), config)
    dump = StateDump.open(tmp_path / "states.zarr")
    with pytest.raises(InputError, match=r"layer0/h.*--capture h"):
        Rereading(trained, dump, labels, "post", np.array([0]), LENGTH)
