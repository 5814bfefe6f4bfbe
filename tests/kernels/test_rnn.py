"""rnn.py: the reference against torch.nn and the equation, and the allowed nonlinearities."""

import numpy as np
import pytest
import torch

from gatescope.kernels.rnn import RNN, rnn, rnn_reference


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_reference_equals_torch_nn(nonlinearity, bias, equal_but_for_rounding):
    torch.manual_seed(0)
    b, t, i, h = 3, 19, 5, 7
    theirs = torch.nn.RNN(i, h, nonlinearity=nonlinearity, bias=bias).double()
    x, h0 = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((t, b, i), (b, h)))
    expected, _ = theirs(x, h0[None])
    y = rnn_reference(x, h0, *theirs.parameters(), nonlinearity=nonlinearity)
    equal_but_for_rounding("h", y, expected, t * (i + h))
    leaves, seed = [x, h0, *theirs.parameters()], torch.randn_like(y)
    gradients = [torch.autograd.grad(o, leaves, seed) for o in (y, expected)]
    for k, (mine, other) in enumerate(zip(*gradients, strict=True)):
        equal_but_for_rounding(f"gradient {k}", mine, other, t * b * (i + h))


def test_reference_equals_the_equation(equal_but_for_rounding):
    rng = np.random.default_rng(0)
    b, t, i, h = 2, 9, 4, 5
    x, h0 = rng.normal(size=(t, b, i)), rng.normal(size=(b, h))
    w_ih, w_hh, b_ih, b_hh = (rng.normal(size=s) for s in ((h, i), (h, h), (h,), (h,)))
    for nonlinearity, activate in (("tanh", np.tanh), ("relu", lambda a: np.maximum(a, 0))):
        state, states = h0, []
        for step in range(t):
            state = activate(x[step] @ w_ih.T + b_ih + state @ w_hh.T + b_hh)
            states.append(state)
        arguments = (torch.from_numpy(a) for a in (x, h0, w_ih, w_hh, b_ih, b_hh))
        mine = rnn_reference(*arguments, nonlinearity=nonlinearity)
        equal_but_for_rounding(nonlinearity, mine, torch.from_numpy(np.stack(states)), 4 * t * (i + h))


def test_an_unknown_nonlinearity_is_refused():
    with pytest.raises(ValueError, match=r"'elu'.*'tanh' or 'relu'"):
        RNN(3, 4, 1, "elu")
    with pytest.raises(ValueError, match="expected 'tanh' or 'relu', got 'elu'"):
        rnn(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1), nonlinearity="elu")
    given = [torch.zeros(1, 1, 1), *[torch.zeros(1, 1)] * 3, None, None, None]
    with pytest.raises(ValueError, match="got 'elu'"):
        torch.ops.gatescope.rnn(*given, "elu", "reference")


@pytest.mark.parametrize("steps", [1, 200])
def test_a_nonlinearity_that_is_set_later_is_checked(steps):
    module = RNN(1, 1)
    module.nonlinearity = "elu"
    with pytest.raises(ValueError, match="nonlinearity: expected 'tanh' or 'relu', got 'elu'"):
        module(torch.zeros(steps, 1, 1))
    assert RNN(3, 4, 1, "relu").mode == torch.nn.RNN(3, 4, 1, "relu").mode
