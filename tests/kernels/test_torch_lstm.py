"""torch_lstm.py: when torch's operator runs a module, and the dropout between its layers."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from gatescope.kernels import torch_lstm
from gatescope.kernels.lstm import LSTM
from gatescope.kernels.products import onednn_multiplies_bfloat16


def test_torch_runs_only_plain_lstm_calls(monkeypatch):
    calls = []
    real = torch.lstm
    monkeypatch.setattr(torch, "lstm", lambda *args: calls.append(1) or real(*args))
    module, x = LSTM(3, 4), torch.randn(5, 2, 3)
    module(x)
    assert len(calls) == 1
    module(x, capture=("gates",))
    module(x, reset=torch.zeros(5, 2, dtype=torch.bool))
    module(x[:, :0])
    for backend in ("loop", "reference"):
        LSTM(3, 4, backend=backend)(x)
    assert len(calls) == 1


def test_torch_does_not_train_long_sequences_of_unequal_length(monkeypatch):
    calls = []
    real = torch.lstm
    monkeypatch.setattr(torch, "lstm", lambda *args: calls.append(1) or real(*args))
    module = LSTM(3, 4)
    cases = ([20, 20, 11], 0), ([16, 3], 0), ([15, 3], 1), ([20, 20, 20], 1), ([40, 1, 1, 1], 1)
    for lengths, taken in cases:
        packed = pack_padded_sequence(torch.randn(lengths[0], len(lengths), 3), lengths)
        calls.clear()
        module(packed)
        assert len(calls) == taken, lengths
        calls.clear()
        with torch.no_grad():
            module(packed)
        assert len(calls) == 1, lengths


@pytest.mark.skipif(not onednn_multiplies_bfloat16(), reason="oneDNN has no bfloat16 for this processor")
@pytest.mark.parametrize("native", [False, True])
def test_torch_runs_bfloat16_only_if_the_processor_multiplies_it(native, monkeypatch):
    calls = []
    real = torch.lstm
    monkeypatch.setattr(torch, "lstm", lambda *args: calls.append(1) or real(*args))
    monkeypatch.setattr(torch_lstm, "multiplies_bfloat16", lambda: native)
    x = torch.randn(8, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        LSTM(3, 4)(x)
    LSTM(3, 4, dtype=torch.bfloat16)(x.bfloat16())
    assert len(calls) == (2 if native else 0)
    LSTM(3, 4)(x)
    LSTM(3, 4, dtype=torch.bfloat16)(x[:, :3].bfloat16())
    assert len(calls) == (4 if native else 2)


@pytest.mark.skipif(not onednn_multiplies_bfloat16(), reason="oneDNN has no bfloat16 for this processor")
def test_packed_sequences_under_autocast_have_the_dtype_of_torch_nn():
    packed = pack_padded_sequence(torch.randn(20, 2, 3), [20, 11])
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (layer(3, 4)(packed)[0].data.dtype for layer in (LSTM, torch.nn.LSTM))
    assert found == expected


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
def test_torch_runs_the_layers_and_this_package_drops_between_them(bidirectional, monkeypatch, equal_but_for_rounding):
    """Values and gradients are those of our own loop, and the masks equal in every entry."""
    calls = []
    real = torch.lstm
    monkeypatch.setattr(torch, "lstm", lambda *args: calls.append(1) or real(*args))
    form = {"num_layers": 3, "dropout": 0.4, "bidirectional": bidirectional, "dtype": torch.float64}
    modules = [LSTM(5, 6, backend=backend, **form) for backend in (None, "loop")]
    modules[1].load_state_dict(modules[0].state_dict())
    x = torch.randn(11, 3, 5, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(6 if bidirectional else 3, 3, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    results = []
    for module in modules:
        torch.manual_seed(3)
        y, (h, c) = module(x, tuple(states))
        leaves = [x, *states, *module.parameters()]
        results.append([y, h, c, *torch.autograd.grad(y.square().sum() + h.sum() + c.sum(), leaves)])
    assert len(calls) == 3
    for k, (mine, expected) in enumerate(zip(*results, strict=True)):
        equal_but_for_rounding(k, mine, expected, 3 * 11 * 3 * 12)
    modules[0].eval()
    modules[0](x)
    assert len(calls) == 4
