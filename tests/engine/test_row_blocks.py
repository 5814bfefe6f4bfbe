"""Passes over blocks of rows, against plain NumPy on the whole array."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from gatescope.engine import row_blocks
from gatescope.engine.arrays import as_rows
from gatescope.engine.errors import InputError
from gatescope.engine.row_blocks import RowBlocks, check_finite


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, bool, "bfloat16"])
@pytest.mark.parametrize("computing", [np.float32, np.float64])
@pytest.mark.parametrize("shifted", [False, True])
def test_totals_see_every_row_once(monkeypatch, dtype, computing, shifted):
    monkeypatch.setattr(row_blocks, "BLOCK_VALUES", 1)
    monkeypatch.setattr(row_blocks, "thread_count", lambda: 3)
    values = np.random.default_rng(0).integers(-9, 9, (1000, 7))
    X = torch.from_numpy(values).to(torch.bfloat16) if dtype == "bfloat16" else values.astype(dtype)
    expected = values.astype(bool) if dtype is bool else values
    shift = np.arange(7).astype(computing) if shifted else None
    seen = np.zeros(1000, int)

    def function(block, start, stop):
        assert block.dtype == computing and len(block) == stop - start <= 64
        seen[start:stop] += 1
        return block.sum(axis=0), block.T @ block, len(block)

    with RowBlocks(as_rows(X), computing) as rows:
        sums, products, count = rows.totals(function, shift)
    expected = expected.astype(float) - (np.arange(7) if shifted else 0)
    assert (seen == 1).all() and count == 1000
    np.testing.assert_array_equal(sums, expected.sum(axis=0))
    np.testing.assert_array_equal(products, expected.T @ expected)


def test_sums_are_accumulated_in_float64():
    X = np.full((600_000, 3), 0.1, np.float32)
    with RowBlocks(X, np.float32) as rows:
        (total,) = rows.totals(lambda block, start, stop: (block[:1].sum(axis=0) * 0 + np.float32(1e8) + (start == 0),))
    blocks = -(-600_000 // rows.block_rows)
    assert blocks > 2
    np.testing.assert_array_equal(total, np.full(3, float(np.float32(1e8)) * blocks))
    tiny = np.array([[1e8], [1.0], [1.0], [1.0]], np.float32)
    rows = RowBlocks(tiny, np.float32)
    rows.block_rows = 1
    with rows:
        assert rows.totals(lambda block, start, stop: (block.sum(),))[0] == 100_000_003


def test_float64_and_float32_blocks_are_views():
    X = np.ones((300, 4), np.float32)
    owners = []
    with RowBlocks(X, np.float32) as rows:
        rows.totals(lambda block, start, stop: owners.append(np.shares_memory(block, X)) or (0,))
    assert all(owners)


def test_blas_has_one_thread_inside_and_is_restored_after():
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        inside = []
        with RowBlocks(np.ones((10, 2)), np.float64) as rows:
            assert rows.n_threads <= 2
            rows.totals(lambda block, start, stop: inside.append(blas_threads()) or (0,))
        assert inside and all(set(threads) == {1} for threads in inside)
        assert blas_threads() == before
    with threadpool_limits(1, "blas"):
        assert RowBlocks(np.ones((10, 2)), np.float64).n_threads == 1


def test_an_error_in_a_block_is_raised_and_the_pool_closed():
    def fail(block, start, stop):
        raise KeyError(start)

    before = threading.active_count()
    with pytest.raises(KeyError), RowBlocks(np.ones((1000, 9)), np.float64) as rows:
        rows.totals(fail)
    assert threading.active_count() == before


def test_each_visits_every_item():
    with RowBlocks(np.ones((5, 1)), np.float64) as rows:
        seen = []
        rows.each(seen.append, range(20))
        assert sorted(seen) == list(range(20))
        with pytest.raises(ZeroDivisionError):
            rows.each(lambda item: 1 / item, [1, 0])


def test_gather_copies_rows():
    X = np.arange(12, dtype=np.float16).reshape(4, 3)
    rows = RowBlocks(X, np.float64)
    np.testing.assert_array_equal(rows.gather(np.array([2, 0])), [[6, 7, 8], [0, 1, 2]])
    np.testing.assert_array_equal(rows.gather(np.array([1]), np.array([3.0, 3, 3])), [[0, 1, 2]])
    nothing = rows.gather(np.empty(0, np.int64))
    assert nothing.shape == (0, 3) and nothing.dtype == rows.dtype
    same = RowBlocks(X.astype(np.float64), np.float64)
    same.gather(slice(None))[:] = 7
    assert same.source[0, 0] == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_the_first_value_that_is_not_finite_is_named(dtype, value, word):
    X = np.zeros((5000, 3))
    X[4321, 2], X[4400, 0] = value, np.nan
    X = torch.from_numpy(X).to(torch.bfloat16) if dtype == "bfloat16" else X.astype(dtype)
    with pytest.raises(InputError, match=f"X contains {word} at row 4321, column 2:"):
        check_finite(RowBlocks(X, np.float32))
    check_finite(RowBlocks(X[:4000], np.float32))
