"""Whether states are finite, for every dtype and wherever the value that is not finite stands."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gatescope.engine.finite import first_not_finite, is_finite

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_nonfinite_value_in_an_array_is_found(device, value):
    for dtype in DTYPES:
        array = torch.randn(5, 3, 4, device=device).to(dtype)
        assert is_finite(array)
        array[4, 2, 3] = value
        assert not is_finite(array)
    assert is_finite(torch.empty(0, 3, 4, device=device, dtype=torch.bfloat16))


@given(st.lists(st.floats(width=16), min_size=1, max_size=40), st.sampled_from([np.float16, np.float32, np.float64]))
def test_first_not_finite_finds_the_first_place(numbers, dtype):
    values = np.array(numbers, dtype=dtype).reshape(-1, 1)
    expected = next(((row, 0) for row, finite in enumerate(np.isfinite(values)) if not finite), None)
    assert first_not_finite(values) == expected


def test_integers_are_finite():
    assert first_not_finite(np.array([0xFFFF], dtype=np.uint16)) is None
    assert first_not_finite(np.empty((0, 3), dtype=np.float16)) is None
