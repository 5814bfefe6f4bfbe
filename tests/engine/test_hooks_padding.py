"""Padding of batches that are recorded, before and after their sequences, and that of packed sequences."""

import numpy as np
import pytest
import torch
from tagger import VOCABULARY, B, H, T, Tagger, V, outputs_of
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.hooks import record_states


@pytest.fixture
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(0, V, (4, B, T)))  # four batches


def test_time_first_and_padding(tmp_path, tokens):
    model = Tagger(batch_first=False)
    lengths, outputs = [T, 2, 5], outputs_of(model.rnn)
    with record_states(
        model, {"layer0/h": "rnn"}, tmp_path / "s", vocabulary=VOCABULARY, layout="TBH", dtype="float32"
    ) as recording:
        model(tokens[0].T)
        recording.add(tokens[0].T, lengths)
    dump = StateDump.open(tmp_path / "s")
    rows = torch.cat([outputs[0][:length, b] for b, length in enumerate(lengths)])
    assert np.array_equal(np.asarray(dump.array("layer0/h")), rows.numpy())
    assert dump.sequence_starts.tolist() == [0, 11, 13, 18]
    assert dump.tokens.tolist() == torch.cat([tokens[0, b, :n] for b, n in enumerate(lengths)]).tolist()


@pytest.mark.parametrize("layout", ["BTH", "TBH"])
def test_padding_before_the_sequences_is_left_out_by_a_mask(tmp_path, tokens, layout):
    """As tokenisers of decoders pad, and call the mask `attention_mask`."""
    model, lengths = Tagger(batch_first=layout == "BTH"), [T, 2, 5]
    turned, outputs = (lambda x: x if layout == "BTH" else x.T), outputs_of(model.rnn)
    mask = torch.arange(T) >= T - torch.tensor(lengths)[:, None]
    read = torch.where(mask, tokens[0], 0)
    with record_states(model, {"layer0/h": "rnn"}, tmp_path / "s", vocabulary=VOCABULARY, dtype="float32") as recording:
        for given in (mask, mask.long(), mask.bfloat16()):
            model(turned(read))
            recording.add(turned(read), mask=turned(given))
        model(turned(read))
        recording.add(turned(read), mask=turned(mask & (torch.arange(B) != 2)[:, None]), continues=True)
    dump = StateDump.open(tmp_path / "s")
    ends = [T + T, 2 + 2, 5]
    assert np.diff(dump.sequence_starts).tolist() == [T, 2, 5, T, 2, 5, *ends]
    h = outputs[0] if layout == "BTH" else outputs[0].transpose(0, 1)
    expected = torch.cat([h[b, T - length :] for b, length in enumerate(lengths)])
    assert np.array_equal(np.asarray(dump.array("layer0/h"))[: sum(lengths)], expected.numpy())
    assert dump.tokens[: sum(lengths)].tolist() == tokens[0][mask].tolist()


def test_packed_sequences_are_recorded(tmp_path, tokens):
    rnn, lengths = nn.GRU(V, H, batch_first=True), torch.tensor([2, 11, 5])
    x = nn.functional.one_hot(tokens[0], V).float()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    model = nn.Sequential(rnn)
    with record_states(model, {"layer0/h": rnn}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        model(packed)
        recording.add(tokens[0])
    dump = StateDump.open(tmp_path / "s")
    rows = torch.cat([rnn(x[b : b + 1, :length])[0][0] for b, length in enumerate(lengths)])
    assert dump.sequence_starts.tolist() == [0, 2, 13, 18]
    np.testing.assert_allclose(np.asarray(dump.array("layer0/h")), rows.detach().half().numpy(), atol=2e-3)


def test_padding_of_packed_batches_may_hold_anything(tmp_path, tokens):
    rnn, lengths = nn.GRU(V, H, batch_first=True), torch.tensor([2, 7, 5])
    x = nn.functional.one_hot(tokens[0], V).float()
    padded = tokens[0].clone()
    padded[torch.arange(T) >= lengths[:, None]] = -100
    with record_states(rnn, {"layer0/h": rnn}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        packed = rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[0]
        # The batch is wider than its longest sequence.
        recording.add(padded)
        rnn(x)
        recording.add(padded, lengths)
        rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        recording.add(pack_padded_sequence(tokens[0], lengths, batch_first=True, enforce_sorted=False))
        rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        with pytest.raises(InputError, match=r"lengths are \[2, 8, 5\]: expected 3 of them, from 1 to \[2, 7, 5\]"):
            recording.add(tokens[0], [2, 8, 5])
    dump = StateDump.open(tmp_path / "s")
    assert np.diff(dump.sequence_starts).tolist() == 3 * [2, 7, 5]
    words = torch.cat([tokens[0, b, :length] for b, length in enumerate(lengths)]).tolist()
    assert dump.tokens.tolist() == 3 * words
    rows = np.asarray(dump.array("layer0/h")).reshape(3, 14, H)
    values, _ = pad_packed_sequence(packed, batch_first=True)
    expected = torch.cat([values[b, :length] for b, length in enumerate(lengths)]).detach().half().numpy()
    assert np.array_equal(rows[0], expected) and np.array_equal(rows[2], expected)
    np.testing.assert_allclose(rows[1], rows[0], atol=2e-3)


@pytest.mark.parametrize("layout", ["BTH", "TBH"])
def test_an_encoder_that_drops_padding_is_recorded(tmp_path, tokens, layout):
    torch.manual_seed(0)
    lengths, embedding = torch.tensor([2, 11, 5]), nn.Embedding(V, H)
    layer = nn.TransformerEncoderLayer(H, 2, 8, batch_first=True)
    encoder, padding = nn.TransformerEncoder(layer, 2).eval(), torch.arange(T) >= lengths[:, None]
    # Nothing is known of the layout of a function's output, and a nested tensor is batch first in any case.
    modules = {f"layer{number}/h": (each, lambda output: output) for number, each in enumerate(encoder.layers)}
    nested = []
    encoder.layers[0].register_forward_hook(lambda module, x, output: nested.append(output.is_nested))
    with record_states(encoder, modules, tmp_path / "s", vocabulary=VOCABULARY, layout=layout) as recording:
        with torch.no_grad():
            encoder(embedding(tokens[0]), src_key_padding_mask=padding)
        recording.add(tokens[0] if layout == "BTH" else tokens[0].T)
    dump = StateDump.open(tmp_path / "s")
    assert nested == [True] and np.diff(dump.sequence_starts).tolist() == lengths.tolist()
    with torch.no_grad():
        alone = [encoder.layers[0](embedding(tokens[0, b : b + 1, :length]))[0] for b, length in enumerate(lengths)]
    np.testing.assert_allclose(np.asarray(dump.array("layer0/h")), torch.cat(alone).half().numpy(), atol=2e-3)
    assert dump.tokens.tolist() == torch.cat([tokens[0, b, :length] for b, length in enumerate(lengths)]).tolist()
