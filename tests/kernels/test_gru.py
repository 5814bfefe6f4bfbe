"""gru.py: the reference against torch.nn and against the equations of both variants."""

import numpy as np
import pytest
import torch

from gatescope.kernels.gru import gru_reference


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_reference_equals_torch_nn(bias, equal_but_for_rounding):
    torch.manual_seed(0)
    b, t, i, h = 3, 19, 5, 7
    theirs = torch.nn.GRU(i, h, bias=bias).double()
    x, h0 = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((t, b, i), (b, h)))
    expected, _ = theirs(x, h0[None])
    y, _ = gru_reference(x, h0, *theirs.parameters())
    equal_but_for_rounding("h", y, expected, t * (i + h))
    leaves, seed = [x, h0, *theirs.parameters()], torch.randn_like(y)
    gradients = [torch.autograd.grad(o, leaves, seed) for o in (y, expected)]
    for k, (mine, other) in enumerate(zip(*gradients, strict=True)):
        equal_but_for_rounding(f"gradient {k}", mine, other, t * b * (i + h))


@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
def test_reference_equals_the_equations(reset_after, equal_but_for_rounding):
    rng = np.random.default_rng(0)
    b, t, i, h = 2, 9, 4, 5
    x, h0 = rng.normal(size=(t, b, i)), rng.normal(size=(b, h))
    w_ih, w_hh, b_ih, b_hh = (rng.normal(size=s) for s in ((3 * h, i), (3 * h, h), (3 * h,), (3 * h,)))
    rows = {"r": slice(0, h), "z": slice(h, 2 * h), "n": slice(2 * h, 3 * h)}
    w_n, b_n = w_hh[rows["n"]], b_hh[rows["n"]]
    state, states, gates = h0, [], []
    for step in range(t):
        of_input = {k: x[step] @ w_ih[row].T + b_ih[row] for k, row in rows.items()}
        r, z = (1 / (1 + np.exp(-(of_input[k] + state @ w_hh[rows[k]].T + b_hh[rows[k]]))) for k in "rz")
        n = np.tanh(of_input["n"] + (r * (state @ w_n.T + b_n) if reset_after else (r * state) @ w_n.T + b_n))
        state = z * state + (1 - z) * n
        states.append(state)
        gates.append(np.stack((r, z, n), axis=1))
    arguments = (torch.from_numpy(a) for a in (x, h0, w_ih, w_hh, b_ih, b_hh))
    mine = gru_reference(*arguments, reset_after=reset_after)
    for name, value, expected in zip(("h", "gates"), mine, (states, gates), strict=True):
        equal_but_for_rounding(name, value, torch.from_numpy(np.stack(expected)), 4 * t * (i + h))
