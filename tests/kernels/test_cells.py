"""cells.py: single steps against torch.nn's cells and against the layers."""

import copy

import pytest
import torch

from gatescope.kernels.cells import GRUCell, LSTMCell, RNNCell
from gatescope.kernels.gru import gru_reference

B, I, H = 3, 5, 6
PAIRS = {
    "lstm": (LSTMCell, torch.nn.LSTMCell, {}),
    "gru": (GRUCell, torch.nn.GRUCell, {}),
    "rnn": (RNNCell, torch.nn.RNNCell, {}),
    "rnn-relu": (RNNCell, torch.nn.RNNCell, {"nonlinearity": "relu"}),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


def states(cell, batch=(B,)):
    drawn = [torch.randn(*batch, H, requires_grad=True) for _ in range(2 if cell is LSTMCell else 1)]
    return tuple(drawn) if len(drawn) > 1 else drawn[0]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_same_as_torch_nn(pair, bias):
    cell, peer, options = pair
    torch.manual_seed(0)
    mine = cell(I, H, bias, **options)
    torch.manual_seed(0)
    theirs = peer(I, H, bias, **options)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert list(mine._parameters) == list(theirs._parameters)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    x = torch.randn(B, I, requires_grad=True)
    for arguments in ((x,), (x, states(cell)), (x[0],), (x[0], states(cell, ()))):
        leaves = [x, *mine.parameters()]
        results = [module(*arguments) for module in (mine, theirs)]
        values = [r if isinstance(r, tuple) else (r,) for r in results]
        for a, b in zip(*values, strict=True):
            assert torch.equal(a, b)
        gradients = torch.autograd.grad(values[0][-1].square().sum(), leaves)
        expected = torch.autograd.grad(values[1][-1].square().sum(), [x, *theirs.parameters()])
        for a, b in zip(gradients, expected, strict=True):
            assert torch.equal(a, b)


def test_gru_with_reset_before_the_product_equals_the_reference(equal_but_for_rounding):
    torch.manual_seed(0)
    cell = GRUCell(I, H, reset_after=False, dtype=torch.float64)
    x, h = torch.randn(B, I, dtype=torch.float64), torch.randn(B, H, dtype=torch.float64)
    expected = gru_reference(x[None], h, *cell.parameters(), reset_after=False)[0][0]
    equal_but_for_rounding("h", cell(x, h), expected, I + H)
    equal_but_for_rounding("h of one row", cell(x[1], h[1]), expected[1], I + H)


def test_error_types_match_torch_nn(pair):
    cell, peer, options = pair
    wrong_states = (states(cell, (B + 1,)), states(cell, (B, 2)))
    bad = [(torch.zeros(B, I - 1), None), (torch.zeros(2, B, I), None), *((torch.zeros(B, I), s) for s in wrong_states)]
    for arguments in bad:
        with pytest.raises((ValueError, RuntimeError)) as theirs:
            peer(I, H, **options)(*arguments)
        with pytest.raises(theirs.type):
            cell(I, H, **options)(*arguments)


@pytest.mark.parametrize("given", [True, False], ids=["states", "zero states"])
@pytest.mark.parametrize("name", [*PAIRS, "gru-before"])
def test_an_empty_batch_works(name, given):
    cell, _, options = PAIRS.get(name, (GRUCell, None, {"reset_after": False}))
    module, x = cell(I, H, **options), torch.zeros(0, I, requires_grad=True)
    results = module(x, states(cell, (0,)) if given else None)
    for h in results if isinstance(results, tuple) else (results,):
        assert h.shape == (0, H)
        h.sum().backward(retain_graph=True)
    assert x.grad.shape == (0, I) and not module.weight_hh.grad.any()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [*PAIRS, "gru-before"])
def test_traced_and_exported_cells_accept_other_batch_sizes(name):
    """Zero states are made in the program, for the rows that it is given."""
    cell, _, options = PAIRS.get(name, (GRUCell, None, {"reset_after": False}))
    module, x, other = cell(I, H, **options), torch.randn(B, I), torch.randn(B + 1, I)
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},), strict=False)
    for program in (torch.jit.trace(module, (x,)), exported.module()):
        torch.testing.assert_close(program(other), module(other))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", [*PAIRS, "gru-before"])
def test_values_on_a_gpu_are_within_rule(name, dtype, within_rule, monkeypatch):
    cell, _, options = PAIRS.get(name, (GRUCell, None, {"reset_after": False}))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    draws = []
    for seed in range(4):
        torch.manual_seed(seed)
        module = cell(20, 33, dtype=dtype, **options)
        x = torch.randn(7, 20).to(dtype)
        hx = [torch.randn(7, 33).to(dtype) for _ in range(2 if cell is LSTMCell else 1)]

        def results(device, to, module=module, x=x, hx=hx):
            mine = copy.deepcopy(module).to(device, to)
            leaves = [t.to(device, to).requires_grad_() for t in (x, *hx)]
            h = mine(leaves[0], tuple(leaves[1:]) if len(hx) > 1 else leaves[1])
            values = h if isinstance(h, tuple) else (h,)
            gradients = torch.autograd.grad(sum(v.square().sum() for v in values), [*leaves, *mine.parameters()])
            return {str(k): v.detach().cpu() for k, v in enumerate((*values, *gradients))}

        draws.append((results("cuda", dtype), results("cpu", dtype), results("cpu", torch.float64)))
    within_rule(draws)


def test_bad_input_is_named(pair):
    cell, _, options = pair
    module = cell(I, H, **options)
    with pytest.raises(ValueError, match="Expected input to be 1D or 2D, got 3D"):
        module(torch.zeros(2, B, I))
    with pytest.raises(ValueError, match="expected input_size 5, got 4"):
        module(torch.zeros(B, I - 1))
    for wrong in (states(cell, (B + 1,)), states(cell, ())):
        with pytest.raises(ValueError, match=r"hidden: expected shape \[3, 6\], got"):
            module(torch.zeros(B, I), wrong)


def test_bad_kind_is_named(pair):
    cell, _, options = pair
    module, x, hx = cell(I, H, **options), torch.zeros(B, I), states(cell)
    one = hx if cell is LSTMCell else (hx,)
    named = {
        "input: expected torch.float32 on cpu, as the weights, got torch.float64": (x.double(), hx),
        "input: expected torch.float32 on cpu, as the weights, got torch.int64": (x.long(), None),
        "input: expected torch.float32 on cpu, as the weights, got torch.float32 on meta": (x.to("meta"), None),
        "input: expected a tensor, got list": (x.tolist(), None),
    }
    wrong = [tuple(s.double() for s in one), tuple(s.to("meta") for s in one), (3,) * len(one)]
    if cell is not LSTMCell:
        wrong = [each[0] for each in wrong]
    messages = ("hidden: expected torch.float32 on cpu, .* got torch.float64", "got torch.float32 on meta", "got int 3")
    for message, hidden in zip(messages, wrong, strict=True):
        named[message] = (x, hidden)
    if cell is LSTMCell:
        named["hidden: expected 2 tensors in a tuple, got torch.float32"] = (x, hx[0])
    for message, arguments in named.items():
        with pytest.raises(ValueError, match=message):
            module(*arguments)


def test_an_unknown_nonlinearity_is_refused():
    with pytest.raises(ValueError, match="expected 'tanh' or 'relu', got 'elu'"):
        RNNCell(I, H, nonlinearity="elu")
    cell = RNNCell(I, H)
    cell.nonlinearity = "elu"
    with pytest.raises(ValueError, match="RNNCell: nonlinearity: expected 'tanh' or 'relu', got 'elu'"):
        cell(torch.zeros(2, I))


def test_repr():
    assert repr(GRUCell(5, 6, bias=False, reset_after=False)) == "GRUCell(5, 6, bias=False, reset_after=False)"
    assert repr(RNNCell(5, 6, nonlinearity="relu")) == "RNNCell(5, 6, nonlinearity=relu)"
