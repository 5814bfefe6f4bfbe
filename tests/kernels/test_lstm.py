"""lstm.py: the reference against torch.nn and the equations."""

import numpy as np
import pytest
import torch

from gatescope.kernels.lstm import lstm_reference


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_reference_equals_torch_nn(bias, equal_but_for_rounding):
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


def test_reference_equals_the_equations(equal_but_for_rounding):
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
