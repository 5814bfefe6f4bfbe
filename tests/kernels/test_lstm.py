"""lstm.py: the reference against torch.nn and the equations, and the work handed to torch's operator."""

import numpy as np
import pytest
import torch

from gatescope.kernels.lstm import LSTM, lstm_reference


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_reference_is_torch_nn(bias, equal_but_for_rounding):
    torch.manual_seed(0)
    b, t, i, h = 3, 19, 5, 7
    theirs = torch.nn.LSTM(i, h, bias=bias).double()
    x, h0, c0 = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((t, b, i), (b, h), (b, h)))
    expected, (_, last) = theirs(x, (h0[None], c0[None]))
    y, cells, _ = lstm_reference(x, h0, c0, *theirs.parameters())
    equal_but_for_rounding("h", y, expected, t * (i + h))
    equal_but_for_rounding("c", cells[-1], last[0], t * (i + h))
    leaves, seed = [x, h0, c0, *theirs.parameters()], torch.randn_like(y)
    gradients = [torch.autograd.grad(o, leaves, seed) for o in (y, expected)]
    for k, (mine, other) in enumerate(zip(*gradients, strict=True)):
        equal_but_for_rounding(f"gradient {k}", mine, other, t * b * (i + h))


def test_reference_is_the_equations(equal_but_for_rounding):
    rng = np.random.default_rng(0)
    b, t, i, h = 2, 9, 4, 5
    x, h0, c0 = rng.normal(size=(t, b, i)), rng.normal(size=(b, h)), rng.normal(size=(b, h))
    w_ih, w_hh, b_ih, b_hh = (rng.normal(size=s) for s in ((4 * h, i), (4 * h, h), (4 * h,), (4 * h,)))
    state, cell, states, cells, gates = h0, c0, [], [], []
    for step in range(t):
        a = x[step] @ w_ih.T + b_ih + state @ w_hh.T + b_hh
        i_, f, o = (1 / (1 + np.exp(-a[:, k * h : (k + 1) * h])) for k in (0, 1, 3))
        g = np.tanh(a[:, 2 * h : 3 * h])
        cell = f * cell + i_ * g
        state = o * np.tanh(cell)
        states.append(state)
        cells.append(cell)
        gates.append(np.stack((i_, f, g, o), axis=1))
    mine = lstm_reference(*(torch.from_numpy(a) for a in (x, h0, c0, w_ih, w_hh, b_ih, b_hh)))
    for name, value, expected in zip(("h", "c", "gates"), mine, (states, cells, gates), strict=True):
        equal_but_for_rounding(name, value, torch.from_numpy(np.stack(expected)), 4 * t * (i + h))


def test_torch_runs_it_only_where_nothing_else_is_asked(monkeypatch):
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


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
def test_torch_runs_the_layers_between_which_we_drop(bidirectional, monkeypatch, equal_but_for_rounding):
    """Values and gradients are those of our own loop, the masks to the entry."""
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
