"""Whether states are finite, on every dtype and wherever the value stands that is not."""

import pytest
import torch

from gatescope.engine.finite import are_finite, is_finite

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_in_one_of_many_arrays(device, value):
    arrays = [torch.randn(5, 3, 4, device=device).to(dtype) for dtype in DTYPES]
    arrays.append(torch.empty(0, 3, 4, device=device, dtype=torch.bfloat16))
    assert are_finite(arrays) and are_finite([]) and all(map(is_finite, arrays))
    for array in arrays[:-1]:
        kept, array[4, 2, 3] = array[4, 2, 3].clone(), value
        assert not are_finite(arrays) and not is_finite(array)
        array[4, 2, 3] = kept
    assert are_finite(arrays)
