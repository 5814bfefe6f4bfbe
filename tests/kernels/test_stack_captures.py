"""stack.py: captured states and gates in every form of input, and sequences that begin anew."""

from itertools import pairwise

import pytest
import torch
from stacks import TERMS, B, H, I, T, as_state, captured, flat, inputs
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


@pytest.mark.parametrize("packs", [False, True], ids=["tensor", "packed"])
@pytest.mark.parametrize("backend", [None, "loop"])
def test_empty_batch_with_every_capture(cell, form, backend, packs):
    """Captures and resets of no rows in every cell; a PackedSequence has at least one row of one step."""
    module = cell.module(I, H, backend=backend, **cell.options, **form).double()
    n_states = module.num_layers * (2 if module.bidirectional else 1)
    rows = 1 if packs else 0
    x = torch.randn(rows, T, I, dtype=torch.float64)
    x = (x if module.batch_first else x.transpose(0, 1)).requires_grad_()
    given = pack_padded_sequence(x, [1], module.batch_first) if packs else x
    steps = 1 if packs else T
    y, _, states = captured(cell, module, given, reset=torch.zeros(steps, rows, dtype=torch.bool))
    for name, values in states.items():
        gates = (cell.n_gates,) if name == "gates" else ()
        assert values.shape == (n_states, steps, rows, *gates, H)
    (y.data if packs else y).sum().backward()
    assert x.grad.shape == x.shape and all(p.grad is not None for p in module.parameters())


def test_captures_equal_those_of_single_layers(cell):
    """Every layer's captures are those of a module with only that layer, on the output of the layer below."""
    torch.manual_seed(0)
    module = cell.module(I, H, 3, **cell.options).double()
    x, *states = inputs(cell, module)
    y, state, captures = captured(cell, module, x, as_state(states))
    below = x
    for layer in range(3):
        alone = cell.module(I if layer == 0 else H, H, **cell.options).double()
        with torch.no_grad():
            for mine, weight in zip(alone.parameters(), module.all_weights[layer], strict=True):
                mine.copy_(weight)
        below, _, single = captured(cell, alone, below, as_state([s[layer : layer + 1] for s in states]))
        for name in cell.outputs:
            assert torch.equal(captures[name][layer], single[name][0]), name
    assert torch.equal(below, y)
    for name, final in zip(cell.states, state if isinstance(state, tuple) else (state,), strict=True):
        assert captures[name].shape == (3, T, B, H)
        assert torch.equal(captures[name][:, -1], final)
    if cell.gated:
        assert captures["gates"].shape == (3, T, B, cell.n_gates, H)


def test_captures_equal_the_reference(cell, form, resets, equal_but_for_rounding):
    torch.manual_seed(0)
    mine = cell.module(I, H, **cell.options, **form, backend="loop").double()
    oracle = cell.module(I, H, **cell.options, **form, backend="reference").double()
    oracle.load_state_dict(mine.state_dict())
    x, *states = inputs(cell, mine)
    results = [captured(cell, module, x, as_state(states), resets(T, B).t()) for module in (mine, oracle)]
    leaves = [[x, *states, *module.parameters()] for module in (mine, oracle)]
    values = [[*flat(result), *result[2].values()] for result in results]
    seeds = [torch.randn(v.shape, generator=torch.Generator().manual_seed(7), dtype=v.dtype) for v in values[0]]
    gradients = [torch.autograd.grad(v, own, seeds) for v, own in zip(values, leaves, strict=True)]
    for k, (a, b) in enumerate(zip((*values[0], *gradients[0]), (*values[1], *gradients[1]), strict=True)):
        equal_but_for_rounding(f"value {k}", a, b, TERMS * B)


def test_gates_are_the_activations_of_the_preactivations(gated, resets, equal_but_for_rounding):
    """Against the logits of the reference's gates in float64: values of every layer, and gradients."""
    torch.manual_seed(0)
    mine = gated.module(I, H, 2, bidirectional=True, **gated.options).double()
    oracle = gated.module(I, H, 2, bidirectional=True, backend="reference", **gated.options).double()
    oracle.load_state_dict(mine.state_dict())
    x, *states = inputs(gated, oracle)
    mask = resets(T, B).t()
    gates = captured(gated, oracle, x, as_state(states), mask)[2]["gates"]
    parts = [torch.atanh(gate) if k == 2 else torch.logit(gate) for k, gate in enumerate(gates.unbind(3))]
    expected = torch.stack(parts, dim=3)
    found = mine(x, as_state(states), ("preactivations",), mask)[2]["preactivations"]
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    wanted = torch.autograd.grad(expected, [x, *states, *oracle.parameters()], weight)
    gradients = torch.autograd.grad(found, [x, *states, *mine.parameters()], weight)
    for k, (a, b) in enumerate(zip((found, *gradients), (expected, *wanted), strict=True)):
        equal_but_for_rounding(f"value {k}", a, b, TERMS * B)


class Thinned(torch.nn.Module):
    """Keeps another part of the weight at each reading, and counts the readings."""

    def __init__(self):
        super().__init__()
        self.readings = 0

    def forward(self, weight):
        self.readings += 1
        return torch.nn.functional.dropout(weight, 0.5)


@pytest.mark.parametrize("backend", [None, "loop", "triton"])
def test_weights_are_read_once(cell, backend):
    """Parametrised weights are the same for all results of a call; dropout and captures take separate paths."""
    if backend == "triton":
        pytest.importorskip("triton")
    module = cell.module(I, H, 3, dropout=0.4, backend=backend, **cell.options)
    drawn = [Thinned() for _ in module.all_weights]
    for names, each in zip(module._all_weights, drawn, strict=True):
        parametrize.register_parametrization(module, names[1], each)
    wanted = ("gates", "preactivations") if cell.gated else ("h",)
    for n, capture in enumerate(((), wanted), sum(each.readings for each in drawn) // 3 + 1):
        states = module(torch.randn(T, B, I), capture=capture)[-1]
        assert {each.readings for each in drawn} == {n}
    if cell.gated:
        # Those of the lowest layer, whose input has no dropout.
        first = torch.sigmoid(states["preactivations"][0, :, :, 0])
        torch.testing.assert_close(first, states["gates"][0, :, :, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "packed"])
def test_preactivations_in_16_bits_are_rounded_once(gated, padded):
    """The sums are rounded once; logits computed from 16-bit gates would lose whatever exceeds six."""
    module = gated.module(I, H, dtype=torch.bfloat16, **gated.options)
    x = 3 * torch.randn(T, B, I, generator=torch.Generator().manual_seed(1)).bfloat16()
    given = pack_padded_sequence(x, [T, 5, 2]) if padded else x
    states = module(given, capture=("h", "preactivations"))[2]
    oracle = gated.module(I, H, dtype=torch.float64, **gated.options)
    oracle.load_state_dict(module.state_dict())
    before = torch.cat((torch.zeros(1, B, H), states["h"][0, :-1])).double()
    expected = oracle.preactivations(x.double(), before, oracle.all_weights[0]).bfloat16()
    lengths = torch.tensor([T, 5, 2]) if padded else torch.full((3,), T)
    inside = torch.arange(T).unsqueeze(1) < lengths
    assert not states["preactivations"][0][~inside].any()
    torch.testing.assert_close(states["preactivations"][0][inside], expected[inside], rtol=2**-6, atol=2**-6)


def test_captures_work_for_other_forms_of_input(cell, equal_but_for_rounding):
    """One sequence without a batch, batch_first, and packed sequences give the same captures, with zero padding."""
    torch.manual_seed(0)
    module = cell.module(I, H, 2, bidirectional=True, **cell.options).double()
    turned = cell.module(I, H, 2, bidirectional=True, batch_first=True, **cell.options).double()
    turned.load_state_dict(module.state_dict())
    x, *_ = inputs(cell, module)
    lengths = [4, 11, 7]
    _, _, batch_first = captured(cell, turned, x.transpose(0, 1))
    packed_y, _, packed = captured(cell, module, pack_padded_sequence(x, lengths, enforce_sorted=False))
    whole = captured(cell, module, x)[2]
    padded, _ = pad_packed_sequence(packed_y)
    for name in cell.outputs:
        equal_but_for_rounding(name, batch_first[name], whole[name], TERMS)
        for b, n in enumerate(lengths):
            _, _, single = captured(cell, module, x[:n, b])
            equal_but_for_rounding(name, packed[name][:, :n, b], single[name], TERMS)
            assert not packed[name][:, n:, b].any()
    top = packed["h"][-2:].permute(1, 2, 0, 3).flatten(2)
    assert torch.equal(padded, top)


def test_running_in_two_parts_changes_nothing(cell, equal_but_for_rounding):
    torch.manual_seed(0)
    module = cell.module(I, H, 2, **cell.options).double()
    x, *states = inputs(cell, module)
    whole = captured(cell, module, x, as_state(states))
    for cut in (1, 4, T - 1):
        first = captured(cell, module, x[:cut], as_state(states))
        second = captured(cell, module, x[cut:], first[1])
        equal_but_for_rounding("y", torch.cat((first[0], second[0])), whole[0], TERMS)
        for name in cell.outputs:
            equal_but_for_rounding(name, torch.cat((first[2][name], second[2][name]), dim=1), whole[2][name], TERMS)
        for a, b in zip(flat(second)[1:], flat(whole)[1:], strict=True):
            equal_but_for_rounding("state", a, b, TERMS)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
def test_a_reset_splits_a_sequence_in_two(cell, bidirectional, equal_but_for_rounding):
    """With resets, one long sequence is several short ones: values, and no gradient across."""
    torch.manual_seed(0)
    module = cell.module(I, H, 2, bidirectional=bidirectional, **cell.options).double()
    x, *_ = inputs(cell, module, batch=1)
    cuts = [0, 4, 5, T]
    reset = torch.zeros(T, 1, dtype=torch.bool)
    reset[cuts[1:-1]] = True
    long = captured(cell, module, x, reset=reset)
    for start, stop in pairwise(cuts):
        short = captured(cell, module, x[start:stop])
        equal_but_for_rounding("y", long[0][start:stop], short[0], TERMS)
        for name in cell.outputs:
            equal_but_for_rounding(name, long[2][name][:, start:stop], short[2][name], TERMS)
        (gradient,) = torch.autograd.grad(long[0][start:stop].sum(), x, retain_graph=True)
        assert gradient[start:stop].any()
        assert not gradient[:start].any()
        assert not gradient[stop:].any()


def test_reset_of_packed_and_single_sequences(cell, resets, equal_but_for_rounding):
    torch.manual_seed(0)
    module = cell.module(I, H, 2, bidirectional=True, **cell.options).double()
    x, *_ = inputs(cell, module)
    lengths, mask = [4, 11, 7], resets(B, T)
    packed = captured(cell, module, pack_padded_sequence(x, lengths, enforce_sorted=False), reset=mask)[2]
    for b, n in enumerate(lengths):
        single = captured(cell, module, x[:n, b], reset=mask[:n, b])[2]
        for name in cell.outputs:
            equal_but_for_rounding(name, packed[name][:, :n, b], single[name], TERMS)


def test_capture_none_captures_nothing(cell):
    module, x = cell.module(I, H, **cell.options), torch.randn(T, B, I)
    y, _ = module(x, capture=None)
    assert torch.equal(y, module(x)[0])
