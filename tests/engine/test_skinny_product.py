"""Products with few columns, against sums in higher precision, for every tile width and every remainder."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from gatescope.engine.skinny_product import add_few_times, add_few_with, column_sums, states_times, states_with
from gatescope.kernels.host import compiled

WIDTHS = [1, 3, 8, 9, 16, 21, 24, 30, 32, 33, 70]


def assert_close(got, left, right, terms):
    """Within the error of a sum of so many terms, added one after another."""
    exact = left.astype(np.longdouble) @ right.astype(np.longdouble)
    size = np.abs(left).astype(np.longdouble) @ np.abs(right).astype(np.longdouble)
    assert got.shape == exact.shape and got.dtype == left.dtype
    assert (np.abs(got - exact) <= (terms + 2) * np.finfo(left.dtype).eps / 2 * size).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "H"), [(1, 1), (2, 40), (23, 7), (50, 129)])
def test_products_of_every_width_are_exact(dtype, n, H):
    generator = np.random.default_rng(n)
    states = generator.standard_normal((n, H)).astype(dtype)
    for width in WIDTHS:
        steps, residuals = (generator.standard_normal((m, width)).astype(dtype) for m in (H, n))
        assert_close(states_times(states, steps), states, steps, H)
        assert_close(states_with(states, residuals), states.T, residuals, n)


def test_columns_may_have_any_memory_layout():
    generator = np.random.default_rng(0)
    states, wide = (generator.standard_normal(shape).astype(np.float32) for shape in ((20, 12), (20, 32)))
    for residuals in (wide[:, ::2], np.asfortranarray(wide[:, :24])):
        assert_close(states_with(states, residuals), states.T, residuals, 20)


def test_nonfinite_values_stay_in_their_row_and_column():
    states, columns = np.ones((9, 5), np.float32), np.ones((5, 12), np.float32)
    states[3, 2], columns[1, 7] = np.nan, np.inf
    got = states_times(states, columns)
    assert np.isnan(got[3]).all() and np.isinf(np.delete(got[:, 7], 3)).all()
    rest = np.delete(np.delete(got, 3, axis=0), 7, axis=1)
    np.testing.assert_array_equal(rest, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("W", [1, 2, 6])
def test_few_transposed_columns_are_multiplied_exactly(dtype, W):
    generator = np.random.default_rng(W)
    states = generator.standard_normal((21, 37)).astype(dtype)
    steps, residuals = (generator.standard_normal((m, W)).astype(dtype) for m in (37, 21))
    times, with_ = np.zeros((21, W), dtype), np.zeros((W, 37), dtype)
    add_few_times(states.reshape(-1), steps.T.copy(), times)
    add_few_with(states.reshape(-1), residuals, with_)
    assert_close(times, states, steps, 37)
    assert_close(with_.T, states.T, residuals, 21)


def test_compiles_where_no_cache_can_be_written(monkeypatch):
    njit = numba.njit

    def without_locator(*arguments, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_locator)
    totals = np.zeros(2)
    compiled(column_sums.py_func)(np.ones((3, 2), np.float32), totals)
    assert totals.tolist() == [3, 3]
