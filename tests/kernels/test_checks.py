"""checks.py: what constructors, captures and operators refuse, and with which errors."""

import inspect
import warnings

import pytest
import torch
from stacks import B, H, I, T

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


def test_unsupported_constructor_arguments_are_refused(cell):
    with pytest.raises(ValueError, match="proj_size: expected 0, got 2"):
        cell.module(I, H, proj_size=2)
    with pytest.raises(ValueError, match="backend: expected None or one of reference, loop, triton, got 'cudnn'"):
        cell.module(I, H, backend="cudnn")
    with pytest.warns(UserWarning, match="num_layers=1") as warned:
        cell.module(I, H, dropout=0.5)
    # The warning points here.
    assert [warning.filename for warning in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cell.module(I, H, 2, dropout=0.5)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_dropout_that_is_set_later_is_checked(cell, share):
    """In training, as torch.nn does, in every number of steps."""
    module = cell.module(I, H, 2, **cell.options)
    module.dropout = share
    for steps in (2, 7):
        x = torch.zeros(steps, 3, I)
        with pytest.raises(ValueError, match=rf"dropout should be a number in range \[0, 1\].*; got {share}"):
            module.train()(x)
        module.eval()(x)


def test_constructor_argument_order_matches_torch_nn(peered):
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


def test_captures_that_a_cell_lacks_are_refused(cell):
    known = {*cell.states, "gates", "preactivations"} if cell.gated else set(cell.states)
    module = cell.module(I, H, **cell.options)
    for name in {"h", "c", "gates", "preactivations"} - known:
        with pytest.raises(ValueError, match=f"{module.cell} in a tuple, got"):
            module(torch.zeros(T, B, I), capture=(name,))


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


def test_operators_check_their_arguments(cell):
    """Exported programs call them directly, without the function that checks."""
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
