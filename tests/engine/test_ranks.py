"""Mid-ranks against SciPy's and against counting pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from gatescope.engine.ranks import mid_ranks, unit_columns


def finite(dtype):
    width = {np.float16: 16, np.float32: 32, np.float64: 64}[dtype]
    return arrays(dtype, st.integers(1, 40), elements=st.floats(width=width, allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mid_ranks_are_scipys(dtype, data):
    values = data.draw(finite(dtype))
    # SciPy counts from 1; half of a value's own weight is below its middle.
    np.testing.assert_array_equal(mid_ranks(values), rankdata(values.astype(np.float64)) - 0.5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weighted_mid_ranks_count_pairs(dtype):
    generator = np.random.default_rng(0)
    values = generator.integers(-4, 5, 200).astype(dtype) / 4
    weight = generator.integers(0, 3, 200).astype(np.float64)
    below = (values[None, :] < values[:, None]) @ weight
    at = (values[None, :] == values[:, None]) @ weight
    np.testing.assert_array_equal(mid_ranks(values, weight), below + at / 2)


def test_every_half_precision_number_is_in_order():
    codes = np.arange(2**16, dtype=np.uint16).view(np.float16)
    codes = codes[np.isfinite(codes)]
    generator = np.random.default_rng(1)
    values = generator.permutation(codes)
    np.testing.assert_array_equal(mid_ranks(values), rankdata(values.astype(np.float64)) - 0.5)


@pytest.mark.parametrize("kept", [None, np.array([0, 2, 7])])
def test_columns_of_units(kept):
    X = np.arange(80.0).reshape(10, 8)
    rows = slice(None) if kept is None else kept
    np.testing.assert_array_equal(unit_columns(X, 2, 5, kept), X[rows, 2:5].T)
    columns = unit_columns(torch.from_numpy(X).to(torch.bfloat16), 2, 5, kept)
    assert columns.flags.c_contiguous
    np.testing.assert_array_equal(columns, X[rows, 2:5].T)
