"""Which product is chosen, and that all give the same result; sums of columns."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.engine import products, skinny_product
from gatescope.engine.products import FEWEST_COLUMNS, column_sums, states_times, states_with


@pytest.fixture
def taken(monkeypatch):
    """The widths asked of the compiled product."""
    widths = []
    for name in ("states_times", "states_with"):
        real = getattr(skinny_product, name)
        monkeypatch.setattr(skinny_product, name, lambda X, V, real=real: widths.append(V.shape[1]) or real(X, V))
    return widths


def test_few_columns_are_left_to_numpy(taken):
    states = np.random.default_rng(0).standard_normal((30, 20))
    for width in (1, FEWEST_COLUMNS - 1, FEWEST_COLUMNS, 40):
        columns = np.random.default_rng(1).standard_normal((30, width))
        np.testing.assert_allclose(states_with(states, columns), states.T @ columns, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(states_times(states.T.copy(), columns), states.T @ columns, rtol=1e-12, atol=1e-12)
    assert taken == [FEWEST_COLUMNS] * 2 + [40] * 2


@pytest.mark.parametrize("states", [np.ones((30, 40))[:, ::2], np.asfortranarray(np.ones((30, 20)))])
def test_noncontiguous_rows_are_left_to_numpy(states, taken):
    np.testing.assert_array_equal(states_times(states, np.ones((20, 8))), 20)
    assert not taken and products.FEWEST_COLUMNS <= 8


def test_device_arrays_are_multiplied_on_the_device(device, taken):
    states, columns = device(np.ones((30, 20), np.float32)), device(np.ones((20, 8), np.float32))
    np.testing.assert_array_equal(states_times(states, columns).get(), 20)
    np.testing.assert_array_equal(states_with(states, device(np.ones((30, 8), np.float32))).get(), 30)
    assert not taken


def test_columns_are_summed_in_float64():
    values = np.full((100_000, 3), [0.1, 1.0, -3.0], np.float32)
    np.testing.assert_allclose(column_sums(values), 100_000 * values[0].astype(np.float64), rtol=1e-12)
    np.testing.assert_allclose(column_sums(values[:, :2]), 100_000 * values[0, :2].astype(np.float64), rtol=1e-12)


def test_device_columns_are_summed_in_float64(device):
    values = np.full((100_000, 3), [0.1, 1.0, -3.0], np.float32)
    exact = 100_000 * values[0].astype(np.float64)
    for moved, expected in ((device(values), exact), (device(values)[:, ::2], exact[::2])):
        sums = column_sums(moved)
        assert sums.dtype == np.float64
        np.testing.assert_allclose(sums.get(), expected, rtol=1e-12)
