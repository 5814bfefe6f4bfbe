"""Mid-ranks against SciPy's, and against counting pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from gatescope.engine import ranks
from gatescope.engine.ranks import DistinctValues, as_codes, code_values, mid_ranks


def finite(dtype):
    width = {np.float16: 16, np.float32: 32, np.float64: 64}[dtype]
    return arrays(dtype, st.integers(1, 40), elements=st.floats(width=width, allow_nan=False, allow_infinity=False))


def distinct(values):
    return DistinctValues(as_codes(values), code_values(values.dtype))


def ranks_of(values):
    """The mid-rank at each position."""
    unit = distinct(values)
    return mid_ranks(unit.counts[:, None].astype(np.float64))[unit.places, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_values_equal_numpy_and_mid_ranks_equal_scipy(dtype, data):
    values = data.draw(finite(dtype))
    unit = distinct(values)
    np.testing.assert_array_equal(unit.values, np.unique(values.astype(np.float64)))
    np.testing.assert_array_equal(unit.values[unit.places], values)
    # SciPy counts from 1; our mid-ranks have half of a value's own weight below them.
    np.testing.assert_array_equal(ranks_of(values), rankdata(values.astype(np.float64)) - 0.5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weighted_mid_ranks_count_pairs(dtype):
    generator = np.random.default_rng(0)
    values = generator.integers(-4, 5, 200).astype(dtype) / 4
    weight = generator.integers(0, 3, (200, 2)).astype(np.float64)
    unit = distinct(values)
    below = (values[None, :] < values[:, None]) @ weight
    at = (values[None, :] == values[:, None]) @ weight
    np.testing.assert_array_equal(mid_ranks(unit.sums(weight))[unit.places], below + at / 2)


def test_every_half_precision_number_is_in_order():
    codes = np.arange(2**16, dtype=np.uint16).view(np.float16)
    codes = codes[np.isfinite(codes)]
    generator = np.random.default_rng(1)
    values = generator.permutation(codes)
    np.testing.assert_array_equal(ranks_of(values), rankdata(values.astype(np.float64)) - 0.5)


def test_every_bfloat16_number_is_in_order():
    tensor = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    tensor = tensor[torch.isfinite(tensor)][torch.randperm(2**16 - 2**9, generator=torch.Generator().manual_seed(0))]
    unit = distinct(tensor)
    np.testing.assert_array_equal(unit.values, np.unique(tensor.double().numpy()))
    np.testing.assert_array_equal(unit.values[unit.places], tensor.double().numpy())


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, torch.bfloat16])
def test_a_nonfinite_value_gives_no_distinct_values(dtype, bad):
    values = np.array([1.0, bad, -2.0, 0.5], np.float32)
    values = torch.from_numpy(values).to(dtype) if isinstance(dtype, torch.dtype) else values.astype(dtype)
    assert len(distinct(values).values) == 0


@pytest.mark.parametrize("dtype", [np.uint16, np.float64])
def test_sums_over_rows_of_values_and_groups_are_exact(monkeypatch, dtype):
    # With so few rows countable at once, sums are formed in parts.
    monkeypatch.setattr(ranks, "COUNTABLE", 30)
    generator = np.random.default_rng(2)
    values = generator.integers(0, 7, 200).astype(np.float16)
    columns = (generator.random((200, 3)) < 0.4).astype(dtype)
    unit = distinct(values)
    expected = np.stack([columns[values == value].sum(axis=0) for value in range(7)])
    np.testing.assert_array_equal(unit.sums(columns), expected)
    np.testing.assert_array_equal(unit.sum_of(columns, 1), expected[:, 1])
    groups = np.array([0, 0, 1, 1, 1, 3, 3])
    parts = np.stack([expected[groups == group].sum(axis=0) for group in range(4)])
    np.testing.assert_array_equal(unit.sums(columns, groups), parts)


def test_counts_of_one_value_may_exceed_16_bits():
    unit = distinct(np.zeros(70_000, np.float16))
    assert unit.sums(np.ones((70_000, 1), np.uint16)).tolist() == [[70_000.0]]
