"""Mid-ranks against SciPy's and against counting pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from gatescope.engine.arrays import RowBlocks
from gatescope.engine.ranks import mid_ranks, rank_sums


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


@pytest.mark.parametrize("dtype", [np.float16, np.float64, "bfloat16"])
@pytest.mark.parametrize("weighted", [None, "mask", "real"])
def test_rank_sums(monkeypatch, dtype, weighted):
    monkeypatch.setattr("gatescope.engine.ranks.TILE_TARGETS", 2)
    generator = np.random.default_rng(2)
    X = generator.integers(-20, 20, (300, 37)) / 8
    X = torch.from_numpy(X).to(torch.bfloat16) if dtype == "bfloat16" else X.astype(dtype)
    Y = generator.random((300, 6)) < 0.3
    weight = {None: None, "mask": generator.random(300) < 0.5, "real": generator.uniform(0, 2, 300)}[weighted]
    group = np.array([5, 0, 3])
    with RowBlocks(X, np.float32) as rows:
        sums = rank_sums(rows, Y, weight, group)
    share = np.ones(300) if weight is None else weight.astype(np.float64)
    values = np.asarray(X.to(torch.float64) if dtype == "bfloat16" else X, dtype=np.float64)
    for unit in (0, 31, 32, 36):
        column = values[:, unit]
        ranks = (column[None, :] < column[:, None]) @ share + (column[None, :] == column[:, None]) @ share / 2
        np.testing.assert_allclose(sums[:, unit], (ranks * share) @ Y[:, group], rtol=1e-12)
