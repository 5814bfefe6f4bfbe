"""What counts as rows of states, and conversions of their precision, against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatescope.engine.arrays import as_rows, computing_dtype, convert
from gatescope.engine.errors import InputError


@pytest.mark.parametrize("width", [1, 3, 513, 40_000])
def test_conversion_of_every_16_bit_number(width):
    codes = np.arange(2**16, dtype=np.uint16)
    values = codes.view(np.float16)
    values = np.resize(values[np.isfinite(values)], (63488 // width + 2, width))
    for source in (values, values[::2], values[:, ::2], values[::-1]):
        out = np.full(source.shape, np.nan, np.float32)
        convert(source, out)
        np.testing.assert_array_equal(out, source.astype(np.float32))
    source = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    out = np.empty(values.shape, np.float64)
    convert(source, out)
    np.testing.assert_array_equal(out, source.to(torch.float64).numpy())


def test_precision_of_the_computation():
    assert computing_dtype(np.zeros(1, np.float16)) is np.float32
    assert computing_dtype(np.zeros(1, np.float32)) is np.float32
    assert computing_dtype(torch.zeros(1, dtype=torch.bfloat16)) is np.float32
    assert computing_dtype(np.zeros(1, np.float64)) is np.float64
    assert computing_dtype(np.zeros(1, np.int64)) is np.float64


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), "Reshape your data"),
        (np.zeros((2, 3, 4)), r"expected two dimensions.*X.reshape\(-1, 4\)"),
        (np.zeros((0, 2)), "0 sample"),
        (np.zeros((2, 0)), "0 feature"),
        (np.zeros((2, 2), complex), "complex"),
        ([["a", "b"]], "not numbers"),
        (np.zeros((2, 2), "datetime64[s]"), "expected real numbers"),
    ],
)
def test_what_is_not_a_matrix_of_numbers_is_refused(X, message):
    with pytest.raises(InputError, match=message):
        as_rows(X)
