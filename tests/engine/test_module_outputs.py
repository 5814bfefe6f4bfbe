"""Collecting the outputs of modules, and outputs that are not states."""

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from gatescope.engine.errors import InputError
from gatescope.engine.module_outputs import ModuleOutputs, joined

GRU = nn.GRU(2, 3, batch_first=True)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"h": 1, "c": 2}, r"dict of 'h', 'c', expected floats.*\(module, lambda output: output\['h'\]\)"),
        (OrderedDict(last=torch.zeros(1)), r"OrderedDict of 'last', expected.*lambda output: output\['last'\]\)"),
        (SimpleNamespace(h=1), r"SimpleNamespace, expected floats.*\(module, lambda output: output.hidden\)"),
        (((torch.zeros(1, 2), 3), 4), r"tuple, expected floats.*\(module, lambda output: output\[0\]\[0\]\)"),
        ((), "tuple, expected floats of two or three dimensions"),
        (torch.zeros(3), r"torch.float32 \[3\], expected floats of two or three dimensions$"),
    ],
)
def test_an_output_that_is_not_states_is_described(output, message):
    module = nn.Identity()
    outputs = ModuleOutputs({"layer0/h": (module, None)}, "BTH", np.dtype(np.float16))
    with outputs.collected(), pytest.raises(InputError, match=f"layer0/h: its module returned {message}"):
        module(output)
    assert outputs.take() == {} and not module._forward_hooks


def test_taking_outputs_clears_them():
    module = nn.Identity()
    outputs = ModuleOutputs({"layer0/h": (module, None)}, "BTH", np.dtype(np.float32))
    with outputs.collected():
        module(torch.ones(1, 2, 3))
        assert len(outputs.take()["layer0/h"]) == 1 and outputs.take() == {}
    module(torch.ones(1, 2, 3))
    assert outputs.take() == {}


def test_several_packed_outputs_before_one_add_are_refused():
    outputs = ModuleOutputs({"layer0/h": (GRU, None)}, "BTH", np.dtype(np.float32))
    packed = pack_padded_sequence(torch.randn(2, 4, 2), [4, 3], batch_first=True)
    with outputs.collected():
        GRU(packed)
        GRU(packed)
    with pytest.raises(InputError, match="layer0/h: its module returned 2 packed or nested batches: call add after"):
        joined("layer0/h", outputs.take()["layer0/h"], (2, 8), "BTH")


def test_calls_with_different_numbers_of_sequences_are_refused():
    outputs = ModuleOutputs({"layer0/h": (GRU, None)}, "BTH", np.dtype(np.float32))
    with outputs.collected():
        GRU(torch.randn(2, 4, 2))
        GRU(torch.randn(3, 4, 2))
    with pytest.raises(InputError, match="layer0/h: the calls of its module do not fit together: "):
        joined("layer0/h", outputs.take()["layer0/h"], (2, 8), "BTH")
