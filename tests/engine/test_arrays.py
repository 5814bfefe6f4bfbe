"""Which arrays count as rows of states, and conversions of their precision, against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatescope.engine.arrays import as_rows, computing_dtype, convert
from gatescope.engine.errors import InputError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 3, 513, 40_000])
def test_conversion_of_every_16_bit_number(width, dtype):
    codes = np.arange(2**16, dtype=np.uint16)
    values = codes.view(np.float16)
    values = np.resize(values[np.isfinite(values)], (63488 // width + 2, width))
    shift = np.random.default_rng(0).normal(size=width).astype(dtype)
    mapped = np.frombuffer(values.tobytes(), np.float16).reshape(values.shape)
    for source in (values, values[::2], values[:, ::2], values[::-1], values[:, 1:], mapped, values[:0]):
        within = shift[: source.shape[1]]
        for given in (source, torch.from_numpy(source.copy())):
            out = np.full(source.shape, np.nan, dtype)
            convert(given, out)
            np.testing.assert_array_equal(out, source.astype(dtype))
            convert(given, out, within)
            np.testing.assert_array_equal(out, source.astype(dtype) - within)
    source = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    out = np.empty(values.shape, np.float64)
    convert(source, out, np.ones(width))
    np.testing.assert_array_equal(out, source.to(torch.float64).numpy() - 1)


def test_infinities_and_nan_are_converted():
    out = np.empty((2, 3), np.float32)
    values = np.array([[np.inf, -np.inf, np.nan], [0, -0.0, 6e-8]], np.float16)
    convert(values, out)
    np.testing.assert_array_equal(out, values.astype(np.float32))
    assert np.signbit(out[1, 1])


def test_computation_is_at_least_float32():
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
def test_input_that_is_not_a_numeric_matrix_is_refused(X, message):
    with pytest.raises(InputError, match=message):
        as_rows(X)
