"""checks.py: what constructors and modules refuse, and what they say."""

import inspect
import re
import warnings

import pytest
import torch
from stacks import B, H, I, T, as_state, inputs, pair

CONSTRUCTOR = {
    "dropout too large": {"dropout": 1.5},
    "dropout a bool": {"dropout": True},
    "bias no bool": {"bias": 1},
    "batch_first no bool": {"batch_first": "yes"},
    "hidden_size no int": {"hidden_size": 4.0},
    "hidden_size zero": {"hidden_size": 0},
    "input_size zero": {"input_size": 0},
    "no layers": {"num_layers": 0},
}


@pytest.mark.parametrize("name", CONSTRUCTOR)
def test_constructor_refuses_what_torch_nn_refuses(peered, name):
    arguments = {"input_size": I, "hidden_size": H, "num_layers": 2} | CONSTRUCTOR[name]
    with pytest.raises((ValueError, TypeError)) as theirs:
        peered.peer(**arguments)
    with pytest.raises(theirs.type):
        peered.module(**arguments, **peered.options)


def test_constructor_beyond_torch_nn(cell):
    with pytest.raises(ValueError, match="proj_size: expected 0, got 2"):
        cell.module(I, H, proj_size=2)
    with pytest.raises(ValueError, match="backend: expected None or one of reference, loop, triton, got 'cudnn'"):
        cell.module(I, H, backend="cudnn")
    with pytest.warns(UserWarning, match="num_layers=1") as warned:
        cell.module(I, H, dropout=0.5)
    # It points here.
    assert [warning.filename for warning in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cell.module(I, H, 2, dropout=0.5)


def test_constructors_take_arguments_in_the_order_of_torch_nn(peered):
    options = {"num_layers": 2, **({"nonlinearity": "relu"} if peered.name == "rnn" else {})}
    options |= {"bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True, "proj_size": 0}
    places = {"device": "meta", "dtype": torch.float64}
    theirs = peered.peer(I, H, *options.values(), *places.values())
    mine = peered.module(I, H, *options.values(), *places.values())
    made = [[(p.shape, p.device, p.dtype) for p in module.parameters()] for module in (mine, theirs)]
    assert made[0] == made[1]
    for name in ("mode", "batch_first", "dropout"):
        assert getattr(mine, name) == getattr(theirs, name), name
    arguments = inspect.signature(peered.module).parameters.values()
    positional = [each.name for each in arguments if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == ["input_size", "hidden_size", *options, *places]


BAD = {
    "4 dimensions": lambda x, s: ((x[None],), {}),
    "another input size": lambda x, s: ((x[..., 1:],), {}),
    "another dtype": lambda x, s: ((x.float(),), {}),
    "no steps": lambda x, s: ((x[:0],), {}),
    "state of another batch": lambda x, s: ((x, as_state([a[:, 1:] for a in s])), {}),
    "state of another width": lambda x, s: ((x, as_state([a[..., 1:] for a in s])), {}),
    "state without a batch": lambda x, s: ((x, as_state([a[:, 0] for a in s])), {}),
    "batched state of one sequence": lambda x, s: ((x[:, 0], as_state(s)), {}),
}
BAD_BEYOND = {
    "another device": (lambda x, s: ((x.to("meta"),), {}), "expected torch.float64 on cpu, as the weights, got"),
    "numbers": (
        lambda x, s: ((x.long(),), {}),
        "input: expected torch.float64 on cpu, as the weights, got torch.int64",
    ),
    "a list": (lambda x, s: ((x.tolist(),), {}), "input: expected a tensor, got list"),
    "a number for a state": (
        lambda x, s: ((x, 3), {}),
        "expected .*h.*, got int 3|state h: expected a tensor, got int 3",
    ),
    "numbers for states": (lambda x, s: ((x, (3,) * len(s)), {}), "state h: expected a tensor, got int 3"),
    "a list of resets": (lambda x, s: ((x,), {"reset": [True] * T}), "reset: expected a tensor, got list"),
    "names of names": (lambda x, s: ((x,), {"capture": [["h"]]}), r"capture: expected names .* got \[\['h'\]\]"),
    "states too many": (lambda x, s: ((x, (*s, *s, *s)), {}), "state: expected h"),
    "state of another dtype": (
        lambda x, s: ((x, as_state([a.float() for a in s])), {}),
        "state h: expected torch.float64 on cpu, as the input, got torch.float32",
    ),
    "unknown capture": (lambda x, s: ((x,), {"capture": ("h", "hidden")}), r"capture: expected names out of \('h'"),
    "capture in a string": (lambda x, s: ((x,), {"capture": "gates"}), "in a tuple, got 'gates'"),
    "reset on another device": (
        lambda x, s: ((x,), {"reset": torch.zeros(T, B, dtype=torch.bool, device="meta")}),
        "reset: expected bool .* on cpu, .* on meta",
    ),
    "reset batch first": (lambda x, s: ((x,), {"reset": torch.zeros(B, T, dtype=torch.bool)}), r"bool \[11, 3\]"),
    "reset of numbers": (lambda x, s: ((x,), {"reset": torch.zeros(T, B)}), "got torch.float32"),
}


@pytest.mark.parametrize("name", [*BAD, *BAD_BEYOND])
def test_bad_input_is_named(peered, name):
    mine, theirs = pair(peered, None)
    make, message = BAD_BEYOND.get(name, (BAD.get(name), "xpected|hx should also be"))
    args, kwargs = make(*(lambda x, *s: (x, s))(*inputs(peered, mine)))
    if name in BAD:
        with pytest.raises((ValueError, RuntimeError)) as raised:
            theirs(*args)
        # Torch words what an LSTM has two of otherwise.
        same = str(raised.value) if "hx should" in str(raised.value) and "cx" not in str(raised.value) else None
        with pytest.raises(raised.type, match=same):
            mine(*args)
    with pytest.raises(ValueError, match=message):
        mine(*args, **kwargs)


def test_no_gates_to_capture(cell):
    known = {*cell.states, "gates", "preactivations"} if cell.gated else set(cell.states)
    module = cell.module(I, H, **cell.options)
    for name in {"h", "c", "gates", "preactivations"} - known:
        with pytest.raises(ValueError, match=f"{module.cell} in a tuple, got"):
            module(torch.zeros(T, B, I), capture=(name,))


@pytest.mark.parametrize("capture", [(), ("h",)], ids=["plain", "captured"])
@pytest.mark.parametrize("steps", [2, T])
@pytest.mark.parametrize("name", ["weight_ih_l1", "weight_hh_l0", "weight_hh_l1_reverse", "bias_hh_l0"])
def test_what_is_put_in_the_place_of_a_parameter_is_checked(cell, name, steps, capture):
    """Compiled loops, torch's own among them, read beyond a weight that is too small."""
    module, x = cell.module(I, H, 2, bidirectional=True, **cell.options), torch.zeros(steps, B, I)
    whole = getattr(module, name)
    for other in (whole[1:], torch.cat((whole, whole)), whole.unsqueeze(0)):
        setattr(module, name, torch.nn.Parameter(other.detach()))
        expected, got = re.escape(str(list(whole.shape))), re.escape(str(list(other.shape)))
        with pytest.raises(ValueError, match=rf"{name}: expected shape {expected}, got {got}"):
            module(x, capture=capture)
    setattr(module, name, torch.nn.Parameter(whole.detach().double()))
    with pytest.raises(ValueError, match=f"{name}: expected torch.float32 on cpu, as weight_ih_l.*got torch.float64"):
        module(x, capture=capture)
    setattr(module, name, whole)
    assert module(x, capture=capture)[0].isfinite().all()


def wrong_operands(x, states, weights):
    w_ih, w_hh, b_ih, b_hh = weights
    wide = [state.new_zeros(len(state), 900) for state in states]
    yield x[:, 0], states, weights
    yield x[:0], states, weights
    yield x, wide, weights
    yield x, [state[1:] for state in states], weights
    yield x[..., 1:], states, weights
    yield x, states, (w_ih[1:], w_hh, b_ih, b_hh)
    yield x, states, (w_ih, w_hh[1:], b_ih, b_hh)
    yield x, states, (w_ih, w_hh.sum(), b_ih, b_hh)
    yield x, states, (w_ih, w_hh, b_ih[1:], b_hh)
    yield x, states, (w_ih, w_hh, b_ih, None)


def test_operators_check_what_they_are_called_with(cell):
    """They stand in exported programs, past the function that checks."""
    options = {"lstm": (False,), "gru": (cell.options.get("reset_after", True), False)}
    tail = *options.get(cell.name, (cell.options.get("nonlinearity", "tanh"),)), "loop"
    x, *rest = (each.detach() for each in cell.layer(B, 20, I, H))
    states, weights = rest[:-4], rest[-4:]
    assert cell.operator(x, *states, *weights, None, *tail) is not None
    for given, of_states, of_weights in wrong_operands(x, states, weights):
        with pytest.raises(ValueError, match="expected"):
            cell.operator(given, *of_states, *of_weights, None, *tail)
    for reset in (torch.zeros(1, 1, dtype=torch.bool), torch.zeros(*x.shape[:2])):
        with pytest.raises(ValueError, match="reset: expected bool"):
            cell.operator(x, *states, *weights, reset, *tail)
