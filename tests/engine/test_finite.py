"""Whether states are finite, on every dtype and wherever the value stands that is not."""

import pytest
import torch

from gatescope.engine.finite import is_finite

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_in_an_array(device, value):
    for dtype in DTYPES:
        array = torch.randn(5, 3, 4, device=device).to(dtype)
        assert is_finite(array)
        array[4, 2, 3] = value
        assert not is_finite(array)
    assert is_finite(torch.empty(0, 3, 4, device=device, dtype=torch.bfloat16))
