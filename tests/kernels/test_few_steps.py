"""few_steps.py: short sequences by torch's operators, values and gradients, and what stays in the loop."""

import pytest
import torch
from stacks import B, H, I, flat
from torch.nn.utils.rnn import pack_padded_sequence

from gatescope.kernels.few_steps import FEW_STEPS
from gatescope.kernels.gru import GRU
from gatescope.kernels.rnn import RNN

CELLS = {
    "gru": (GRU, {}, "gru"),
    "rnn": (RNN, {}, "rnn_tanh"),
    "rnn-relu": (RNN, {"nonlinearity": "relu"}, "rnn_relu"),
}


@pytest.fixture(params=CELLS)
def kind(request):
    return CELLS[request.param]


@pytest.fixture
def calls(kind, monkeypatch):
    """The numbers of steps for which torch's operator ran."""
    calls, real = [], getattr(torch, kind[2])
    monkeypatch.setattr(torch, kind[2], lambda *given: calls.append(len(given[0])) or real(*given))
    return calls


@pytest.mark.parametrize("form", [{}, {"bidirectional": True}, {"bias": False}], ids=["one-way", "two-way", "no-bias"])
@pytest.mark.parametrize("steps", [1, FEW_STEPS])
def test_few_steps_equal_the_loop(kind, calls, form, steps, equal_but_for_rounding):
    module, options, _ = kind
    mine, loop = (
        module(I, H, 2, dropout=0.5, backend=backend, dtype=torch.float64, **form, **options).eval()
        for backend in (None, "loop")
    )
    loop.load_state_dict(mine.state_dict())
    x = torch.randn(steps, B, I, dtype=torch.float64, requires_grad=True)
    state = torch.randn(len(mine.all_weights), B, H, dtype=torch.float64, requires_grad=True)
    results = []
    for each in (mine, loop):
        outputs = flat(each(x, state))
        gradients = torch.autograd.grad(sum(o.square().sum() for o in outputs), [x, state, *each.parameters()])
        results.append((*outputs, *gradients))
    assert calls == [steps]
    for k, (a, b) in enumerate(zip(*results, strict=True)):
        equal_but_for_rounding(k, a, b, 2 * steps * B * 3 * H)


def test_single_sequences_and_batch_first_are_run_by_torch(kind, calls):
    module, options, _ = kind
    mine, x = module(I, H, batch_first=True, **options), torch.randn(B, 2, I)
    y, state = mine(x)
    torch.testing.assert_close(mine(x[1])[0], y[1])
    assert calls == [2, 2] and y.shape == (B, 2, H) and state.shape == (1, B, H)


def test_all_other_calls_run_in_the_loop(kind, calls):
    module, options, _ = kind
    mine, x = module(I, H, 2, dropout=0.5, **options), torch.randn(2, B, I)
    mine(x)
    mine.eval()
    mine(torch.randn(FEW_STEPS + 1, B, I))
    mine(x, capture=("h",))
    mine(x, reset=torch.zeros(2, B, dtype=torch.bool))
    mine(x[:, :0])
    mine(pack_padded_sequence(x, [2] * B))
    with torch.autocast("cpu", torch.bfloat16):
        mine(x)
    torch.func.jvp(lambda x: mine(x)[0], (x,), (x,))
    torch.compile(mine, fullgraph=True, backend="aot_eager")(x)
    module(I, H, dtype=torch.bfloat16, **options)(x.bfloat16())
    module(I, H, backend="loop", **options)(x)
    assert not calls
    mine(x)
    assert calls == [2]


def test_gru_with_reset_before_the_product_does_not_call_torch(monkeypatch):
    monkeypatch.delattr(torch, "gru")
    assert GRU(I, H, reset_after=False)(torch.randn(1, B, I))[0].shape == (1, B, H)
