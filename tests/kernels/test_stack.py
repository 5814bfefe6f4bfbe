"""stack.py: the modules of every cell against torch.nn's, and what they do beyond torch."""

import copy
from itertools import pairwise

import pytest
import torch
from stacks import B, H, I, T, as_state, flat, inputs, pair
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, unpack_sequence

from gatescope.kernels.dropout import dropout
from gatescope.kernels.rnn import RNN

TERMS = 2 * T * 3 * H  # of the longest sum: two layers, T steps, inputs of 2 H and states of H
FORMS = {
    "plain": {},
    "3-layers": {"num_layers": 3},
    "no-bias": {"num_layers": 2, "bias": False},
    "batch-first": {"batch_first": True},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def compare(check, results, leaves, terms=TERMS):
    """Two results with the same leaves: values, and gradients under one weighting."""
    outputs = [flat(result) for result in results]
    seeds = [torch.randn(o.shape, generator=torch.Generator().manual_seed(4), dtype=o.dtype) for o in outputs[0]]
    gradients = [torch.autograd.grad(o, own, seeds) for o, own in zip(outputs, leaves, strict=True)]
    for k, (mine, other) in enumerate(zip(outputs[0], outputs[1], strict=True)):
        check(f"output {k}", mine, other, terms)
    for k, (mine, other) in enumerate(zip(*gradients, strict=True)):
        check(f"gradient {k}", mine, other, terms * B)


@pytest.mark.parametrize("backend", [None, "loop", "reference"])
def test_same_as_torch_nn(peered, form, backend, equal_but_for_rounding):
    mine, theirs = pair(peered, backend, **form)
    x, *states = inputs(peered, mine)
    results = [module(x, as_state(states)) for module in (mine, theirs)]
    leaves = [[x, *states, *module.parameters()] for module in (mine, theirs)]
    compare(equal_but_for_rounding, results, leaves)
    assert type(results[0][1]) is type(results[1][1])


def test_states_default_to_zero_and_one_sequence_needs_no_batch(peered, form, equal_but_for_rounding):
    mine, theirs = pair(peered, **form)
    x, *states = inputs(peered, mine)
    one = x.select(0 if mine.batch_first else 1, 1)
    for arguments in ((x,), (one,), (one, as_state([s[:, 1] for s in states]))):
        for a, b in zip(flat(mine(*arguments)), flat(theirs(*arguments)), strict=True):
            equal_but_for_rounding("output", a, b, TERMS)


@pytest.mark.parametrize("packs", [False, True], ids=["tensor", "packed"])
@pytest.mark.parametrize("backend", [None, "loop"])
def test_empty_batch_with_everything(cell, form, backend, packs):
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


@pytest.mark.parametrize("backend", ["loop", "triton"])
def test_captures_of_one_layer_are_what_backward_reads(cell, backend):
    """Not copied: the storage of a capture is among those that autograd keeps."""
    if backend == "triton":
        pytest.importorskip("triton")
    kept = set()
    module = cell.module(I, H, backend=backend, **cell.options)
    x = torch.randn(T, B, I, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.add(t.untyped_storage().data_ptr()) or t, lambda t: t):
        y, _, states = captured(cell, module, x)
    for name in cell.outputs:
        assert states[name].untyped_storage().data_ptr() in kept, name
    assert states["h"].data_ptr() == y.data_ptr()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("backend", ["loop", "triton"])
def test_an_input_is_kept_only_for_a_weight_that_is_trained(cell, backend, layers):
    if backend == "triton":
        pytest.importorskip("triton")
    module = cell.module(I, H, layers, backend=backend, **cell.options)
    # Steps enough for a compiled walk on the CPU.
    x = torch.randn(20, 2, I)

    def run():
        kept = set()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.add(t.untyped_storage().data_ptr()) or t, lambda t: t
        ):
            y, _ = module(x)
        gradients = torch.autograd.grad(y.square().sum(), [module.weight_hh_l0, module.bias_ih_l0])
        return x.data_ptr() in kept, gradients

    trained, expected = run()
    module.weight_ih_l0.requires_grad_(False)
    frozen, gradients = run()
    assert trained and not frozen
    assert all(map(torch.equal, gradients, expected))


def test_empty_batch(peered, form):
    mine, theirs = pair(peered, None, **form)
    x, *states = inputs(peered, mine, batch=0)
    result = mine(x, as_state(states))
    assert [o.shape for o in flat(result)] == [o.shape for o in flat(theirs(x, as_state(states)))]
    flat(result)[0].sum().backward()
    assert x.grad.shape == x.shape


def test_state_dict_moves_both_ways(peered, form):
    mine, theirs = pair(peered, **form)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict())
    assert [p.shape for p in mine.parameters()] == [p.shape for p in theirs.parameters()]
    assert [[p.shape for p in ps] for ps in mine.all_weights] == [[p.shape for p in ps] for ps in theirs.all_weights]


def test_same_initial_weights_from_the_same_seed(peered, form):
    torch.manual_seed(5)
    mine = peered.module(I, H, **peered.options, **form)
    torch.manual_seed(5)
    theirs = peered.peer(I, H, **peered.options, **form)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("backend", [None, "loop"])
def test_packed_sequence(peered, form, backend, enforce_sorted, equal_but_for_rounding):
    mine, theirs = pair(peered, backend, **form)
    x, *states = inputs(peered, mine)
    lengths = torch.tensor([11, 7, 2] if enforce_sorted else [2, 11, 7])

    def run(module):
        packed = pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted)
        return module(packed, as_state(states))

    results = [run(module) for module in (mine, theirs)]
    compare(equal_but_for_rounding, results, [[x, *states, *module.parameters()] for module in (mine, theirs)])
    for a, b in zip(results[0][0][1:], results[1][0][1:], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
def test_padding_cannot_overflow_into_gradients(bidirectional):
    """A growing ReLU network would pass the largest number within this padding, and 0 * inf reach the weights."""
    module = RNN(1, 1, nonlinearity="relu", bias=False, bidirectional=bidirectional)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(10)
    x = torch.tensor([0.0, 1.0]).repeat(60, 1).unsqueeze(2)
    y, _ = module(pack_padded_sequence(x, [60, 2]))
    unpack_sequence(y)[1].sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())


def test_dropout_acts_between_layers_and_rests_in_eval(cell):
    module = cell.module(I, H, 3, dropout=0.4, **cell.options).double()
    alone = [cell.module(I if layer == 0 else H, H, backend="loop", **cell.options).double() for layer in range(3)]
    for one, names in zip(alone, module._all_weights, strict=True):
        one.load_state_dict(
            {own: module.get_parameter(name) for name, own in zip(names, one._all_weights[0], strict=True)}
        )
    x = torch.randn(T, B, I, dtype=torch.float64)
    for training in (True, False):
        module.train(training)
        torch.manual_seed(6)
        y, _ = module(x)
        torch.manual_seed(6)
        expected = x
        for layer, one in enumerate(alone):
            expected = dropout(one(expected)[0], 0.4, training and layer < 2, layer)
        torch.testing.assert_close(y, expected)


def captured(cell, module, x, state=None, reset=None):
    return module(x, state, capture=cell.outputs, reset=reset)


def test_captures_are_the_layers_themselves(cell):
    """Every layer's captures are those of a module of that layer alone, fed with the layer below."""
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


def test_captures_are_those_of_the_reference(cell, form, resets, equal_but_for_rounding):
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


def test_preactivations_are_what_gates_are_activations_of(gated, resets, equal_but_for_rounding):
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
    """Another part of the weight at each reading, which it counts."""

    def __init__(self):
        super().__init__()
        self.readings = 0

    def forward(self, weight):
        self.readings += 1
        return torch.nn.functional.dropout(weight, 0.5)


@pytest.mark.parametrize("backend", [None, "loop", "triton"])
def test_weights_are_read_once(cell, backend):
    """What is parametrised is the same for all that a call returns; dropout and captures take ways of their own."""
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
        # Of the lowest layer, which reads nothing that was dropped.
        first = torch.sigmoid(states["preactivations"][0, :, :, 0])
        torch.testing.assert_close(first, states["gates"][0, :, :, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "packed"])
def test_preactivations_in_16_bits(gated, padded):
    """One rounding of the sums, where the logits of 16-bit gates lose what lies beyond six."""
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


def test_the_names_of_torch_nn(peered):
    """Every argument of torch.nn's forward, by its name."""
    mine, theirs = pair(peered)
    x, *states = inputs(peered, mine)
    for a, b in zip(*(flat(m(input=x, hx=as_state(states))) for m in (mine, theirs)), strict=True):
        torch.testing.assert_close(a, b)


def test_names_of_weights_are_where_torch_nn_has_them(peered, form):
    mine, theirs = pair(peered, **form)
    assert mine._all_weights == theirs._all_weights


def test_a_weight_that_is_gone_is_named(cell):
    module = cell.module(I, H, **cell.options)
    del module.weight_hh_l0
    with pytest.raises(AttributeError, match="weight_hh_l0"):
        module(torch.zeros(T, B, I))


def test_meta_modules_and_autocast_take_what_they_can(cell):
    y, _ = cell.module(I, H, 2, device="meta", **cell.options)(torch.empty(T, B, I, device="meta"))
    assert y.shape == (T, B, H) and y.device.type == "meta"
    module = cell.module(I, H, **cell.options)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (torch.zeros(T, B, I, dtype=torch.float64), torch.zeros(T, B, I, dtype=torch.long)):
            with pytest.raises(ValueError, match=f"input: expected torch.float32 on cpu, .* got {given.dtype}"):
                module(given)
        assert module.double()(torch.zeros(T, B, I, dtype=torch.float64))[0].dtype == torch.float64


def test_captures_of_other_forms_of_input(cell, equal_but_for_rounding):
    """One sequence without a batch, batch_first, and packed sequences give the same captures, padding zero."""
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


def test_run_in_two_parts(cell, equal_but_for_rounding):
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
def test_reset_cuts_a_sequence_in_two(cell, bidirectional, equal_but_for_rounding):
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


def test_permuting_units_permutes_states(cell, equal_but_for_rounding):
    torch.manual_seed(0)
    module = cell.module(I, H, **cell.options).double()
    order = torch.randperm(H)
    permuted = copy.deepcopy(module)
    rows = torch.cat([order + gate * H for gate in range(cell.n_gates)])
    with torch.no_grad():
        for name, parameter in permuted.named_parameters():
            parameter.copy_(parameter[rows])
            if name.startswith("weight_hh"):
                parameter.copy_(parameter[:, order])
    x, *_ = inputs(cell, module)
    for name, states in captured(cell, permuted, x)[2].items():
        equal_but_for_rounding(name, states, captured(cell, module, x)[2][name][..., order], TERMS)


def test_autocast_and_16_bit_modules(cell):
    module = cell.module(I, H, 2, **cell.options)
    x = torch.randn(T, B, I)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = module(x)
    # What torch.nn's has on a CPU.
    kept = torch.float32 if cell.name.startswith("gru") else torch.bfloat16
    assert {each.dtype for each in flat((y, state))} == {kept}
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())
    low = cell.module(I, H, 2, dtype=torch.bfloat16, **cell.options)
    y, state, captures = captured(cell, low, x.bfloat16())
    tensors = [y, *(state if isinstance(state, tuple) else (state,)), *captures.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}


@pytest.mark.parametrize("steps", [2, 20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_gives_the_dtypes_of_torch_nn(peered, dtype, steps):
    theirs = peered.peer(I, H, 2, **peered.options)
    mine = peered.module(I, H, 2, **peered.options)
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(steps, B, I)
    with torch.autocast("cpu", dtype=dtype):
        found = flat(mine(x))
        try:
            expected = flat(theirs(x))
        except RuntimeError:
            pytest.skip("torch's operator does not multiply this dtype on this processor")
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == other.dtype
        torch.testing.assert_close(own.float(), other.float(), rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("steps", [2, 20])
def test_what_backward_does_not_read_may_change(peered, steps):
    if peered.name == "lstm":
        pytest.skip("torch.nn's refuses it, too")
    theirs, x = peered.peer(I, H, **peered.options), torch.randn(steps, B, I)
    mine = peered.module(I, H, **peered.options)
    mine.load_state_dict(theirs.state_dict())
    for module in (mine, theirs):
        y = module(x)[0]
        with torch.no_grad():
            module.weight_ih_l0.mul_(0.9)
        y.sum().backward()
    for module in (mine, theirs):
        given = x.clone()
        module.weight_ih_l0.requires_grad_(False)
        y = module(given)[0]
        given.zero_()
        y.sum().backward()
    for name, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(theirs, name).grad)
    x.requires_grad_()
    y = mine(x)[0]
    with torch.no_grad():
        mine.weight_ih_l0.mul_(0.9)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_same_seed_gives_the_same_bits(cell):
    module = cell.module(I, H, 2, dropout=0.5, **cell.options)
    x = torch.randn(T, B, I)
    results = []
    for _ in range(2):
        torch.manual_seed(8)
        module.zero_grad()
        module(x)[0].sum().backward()
        results.append([p.grad.clone() for p in module.parameters()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_nothing_is_captured_of_none(cell):
    module, x = cell.module(I, H, **cell.options), torch.randn(T, B, I)
    y, _ = module(x, capture=None)
    assert torch.equal(y, module(x)[0])


def test_outputs_may_be_changed_in_place(peered):
    """As torch.nn's: detached, and by what comes next, where backward does not read them."""
    module, x = peered.module(I, H, backend="loop", **peered.options), torch.randn(T, B, I)
    module(x)[0].detach_()
    with torch.no_grad():
        y = module(x)[0]
        assert torch.equal(y.clone().neg_(), y.neg_())


def test_deepcopy_functional_call_and_habits_of_torch_nn(cell):
    module = cell.module(I, H, 2, device="cpu", dtype=torch.float64, **cell.options)
    module.flatten_parameters()
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert torch.equal(copy.deepcopy(module)(x)[0], module(x)[0])
    zeros = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    assert not torch.func.functional_call(module, zeros, (x,))[0].any()
    if cell.peer is not None:
        assert module.mode == cell.peer(I, H, **cell.options).mode
    assert repr(cell.module(I, H, 2, bias=False, batch_first=True)).endswith(
        "(5, 6, num_layers=2, bias=False, batch_first=True)"
    )
