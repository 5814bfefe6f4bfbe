"""stack.py: the modules of every cell against torch.nn's, and their additions to torch."""

import copy

import pytest
import torch
from stacks import TERMS, B, H, I, T, as_state, captured, flat, inputs, pair
from torch.nn.utils.rnn import pack_padded_sequence, unpack_sequence

from gatescope.kernels.dropout import dropout
from gatescope.kernels.rnn import RNN


def compare(check, results, leaves, terms=TERMS):
    """Compare two results on the same leaves: values, and gradients under one weighting."""
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


@pytest.mark.parametrize("backend", [None, "loop", "reference"])
def test_dropout_of_one_leaves_upper_layers_only_their_bias(peered, backend, equal_but_for_rounding):
    mine, theirs = pair(peered, backend, num_layers=2, dropout=1.0)
    x, *states = inputs(peered, mine)
    assert mine.training and theirs.training
    for a, b in zip(*(flat(module(x, as_state(states))) for module in (mine, theirs)), strict=True):
        equal_but_for_rounding("output", a, b, TERMS)


def test_states_default_to_zero_and_unbatched_input_works(peered, form, equal_but_for_rounding):
    mine, theirs = pair(peered, **form)
    x, *states = inputs(peered, mine)
    one = x.select(0 if mine.batch_first else 1, 1)
    for arguments in ((x,), (one,), (one, as_state([s[:, 1] for s in states]))):
        for a, b in zip(flat(mine(*arguments)), flat(theirs(*arguments)), strict=True):
            equal_but_for_rounding("output", a, b, TERMS)


def test_an_empty_batch_has_the_shapes_of_torch_nn(peered, form):
    mine, theirs = pair(peered, None, **form)
    x, *states = inputs(peered, mine, batch=0)
    result = mine(x, as_state(states))
    assert [o.shape for o in flat(result)] == [o.shape for o in flat(theirs(x, as_state(states)))]
    flat(result)[0].sum().backward()
    assert x.grad.shape == x.shape


def test_state_dict_loads_to_and_from_torch_nn(peered, form):
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
def test_packed_sequences_equal_torch_nn(peered, form, backend, enforce_sorted, equal_but_for_rounding):
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
    """Within this padding a growing ReLU network would overflow, and 0 * inf would reach the weights."""
    module = RNN(1, 1, nonlinearity="relu", bias=False, bidirectional=bidirectional)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(10)
    x = torch.tensor([0.0, 1.0]).repeat(60, 1).unsqueeze(2)
    y, _ = module(pack_padded_sequence(x, [60, 2]))
    unpack_sequence(y)[1].sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in module.parameters())


def test_dropout_acts_between_layers_and_only_in_training(cell):
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


def test_forward_argument_names_match_torch_nn(peered):
    """Every argument of torch.nn's forward, by its name."""
    mine, theirs = pair(peered)
    x, *states = inputs(peered, mine)
    for a, b in zip(*(flat(m(input=x, hx=as_state(states))) for m in (mine, theirs)), strict=True):
        torch.testing.assert_close(a, b)


def test_names_of_weights_match_torch_nn(peered, form):
    mine, theirs = pair(peered, **form)
    assert mine._all_weights == theirs._all_weights
    assert mine._flat_weights_names == theirs._flat_weights_names


def test_a_missing_weight_is_named(cell):
    module = cell.module(I, H, **cell.options)
    del module.weight_hh_l0
    with pytest.raises(AttributeError, match="weight_hh_l0"):
        module(torch.zeros(T, B, I))


def test_meta_modules_work_and_autocast_refuses_other_dtypes(cell):
    y, _ = cell.module(I, H, 2, device="meta", **cell.options)(torch.empty(T, B, I, device="meta"))
    assert y.shape == (T, B, H) and y.device.type == "meta"
    module = cell.module(I, H, **cell.options)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (torch.zeros(T, B, I, dtype=torch.float64), torch.zeros(T, B, I, dtype=torch.long)):
            with pytest.raises(ValueError, match=f"input: expected torch.float32 on cpu, .* got {given.dtype}"):
                module(given)
        assert module.double()(torch.zeros(T, B, I, dtype=torch.float64))[0].dtype == torch.float64


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
    # As torch.nn's on a CPU.
    kept = torch.float32 if cell.name.startswith("gru") else torch.bfloat16
    assert {each.dtype for each in flat((y, state))} == {kept}
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())
    low = cell.module(I, H, 2, dtype=torch.bfloat16, **cell.options)
    y, state, captures = captured(cell, low, x.bfloat16())
    tensors = [y, *(state if isinstance(state, tuple) else (state,)), *captures.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_handles_modules_in_the_other_16_bit_dtype(cell, dtype):
    """The reference is the same weights in float32: every input is rounded to each dtype in turn."""
    other = torch.float16 if dtype == torch.bfloat16 else torch.bfloat16
    module = cell.module(I, H, 2, bidirectional=True, dtype=other, **cell.options)
    x, wanted = torch.randn(T, B, I, dtype=other), (*cell.outputs, *(["preactivations"] if cell.gated else []))
    results = []
    for each, given in ((module, x), (copy.deepcopy(module).float(), x.float())):
        with torch.autocast("cpu", dtype=dtype):
            y, state, captures = each(given, capture=wanted)
        results.append([y, *flat((y, state)), *captures.values()])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=4 * torch.finfo(dtype).eps)
    y.float().sum().backward()


@pytest.mark.parametrize("steps", [2, 20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_dtypes_match_torch_nn(peered, dtype, steps):
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


def test_deepcopy_functional_call_and_other_torch_nn_uses_work(cell):
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
