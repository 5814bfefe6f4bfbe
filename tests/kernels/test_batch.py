"""batch.py: which inputs, states and weights modules refuse, and with which errors."""

import re

import pytest
import torch
from stacks import B, H, I, T, as_state, inputs, pair

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
    "an array": (lambda x, s: ((x.detach().numpy(),), {}), r"input: expected a tensor, got ndarray array\(\[\[\[.*"),
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
        # For the LSTM's two states torch words the error differently.
        same = str(raised.value) if "hx should" in str(raised.value) and "cx" not in str(raised.value) else None
        with pytest.raises(raised.type, match=same):
            mine(*args)
    with pytest.raises(ValueError, match=message) as raised:
        mine(*args, **kwargs)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("capture", [(), ("h",)], ids=["plain", "captured"])
@pytest.mark.parametrize("steps", [2, T])
@pytest.mark.parametrize("name", ["weight_ih_l1", "weight_hh_l0", "weight_hh_l1_reverse", "bias_hh_l0"])
def test_a_replaced_parameter_is_checked(cell, name, steps, capture):
    """Compiled loops, torch's own among them, would read beyond a weight that is too small."""
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
    setattr(module, name, None)
    with pytest.raises(ValueError, match=f"{name}: expected a tensor, got NoneType None"):
        module(x, capture=capture)
    setattr(module, name, whole)
    assert module(x, capture=capture)[0].isfinite().all()
