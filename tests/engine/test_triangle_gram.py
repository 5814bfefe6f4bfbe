"""Triangles of Gram matrices, against whole products in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gatescope.engine import rounded_gram
from gatescope.engine.triangle_gram import add_gram, gram_adder


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ends", [[0, 9], [0, 4, 9], [0, 1, 8, 9]])
def test_parts_of_the_triangle_add_up_to_the_gram_matrix(dtype, ends):
    rows = np.random.default_rng(0).standard_normal((20, 9)).astype(dtype)
    total = np.ones((9, 9), dtype)
    for top, bottom in itertools.pairwise(ends):
        before = total.copy()
        add_gram(total, rows, top, bottom)
        others = np.delete(np.arange(9), slice(top, bottom))
        np.testing.assert_array_equal(total[others], before[others])
    exact = 1 + rows.T.astype(np.float64) @ rows.astype(np.float64)
    np.testing.assert_allclose(np.triu(total), np.triu(exact), atol=60 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(np.tril(total, -1), np.tril(np.ones((9, 9)), -1))


def test_rows_are_rounded_only_if_allowed_and_profitable(monkeypatch):
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    for pairs in (False, True):
        monkeypatch.setattr(rounded_gram, "PAIRS", pairs)
        expected = rounded_gram.add_rounded_gram if pairs else add_gram
        assert gram_adder(512, single, coarse=True) is expected
        assert gram_adder(512, single, coarse=False) is add_gram
        assert gram_adder(512, double, coarse=True) is add_gram
        assert gram_adder(9, single, coarse=True) is add_gram
