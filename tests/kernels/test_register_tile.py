"""Panels of every width and height against exact sums of whole numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.kernels.host import compiled
from gatescope.kernels.register_tile import PAIRS, PART_BYTES, ROWS, VECTOR_BYTES, add_panel


def _add(left, row, step, right, height, out, width, n_rows, n_columns, depth):
    add_panel(n_rows, n_columns, depth, left, 2, row, step, right, 3, height, out, 5, width)


add = compiled(_add)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("across", [False, True], ids=["rows", "columns"])
def test_panels_are_added_to_the_output_and_touch_nothing_else(dtype, across):
    generator = np.random.default_rng(0)
    part, widest, depth = (n // np.dtype(dtype).itemsize for n in (PART_BYTES, 4 * VECTOR_BYTES, 10 * 8))
    # Integers, whose sums are exact in any order.
    a, b, c = (generator.integers(-9, 10, shape).astype(dtype) for shape in ((60, depth), (depth, 300), (60, 300)))
    for n_columns in range(part, widest + 1, part):
        for n_rows in (1, max(ROWS.values()) - 1, 2 * max(ROWS.values()) + 1):
            out = c.copy()
            left, row, step = (a.T.copy(), 1, 60) if across else (a, depth, 1)
            left, right, flat = (np.append(np.zeros(n, dtype), each) for n, each in ((2, left), (3, b), (5, out)))
            add(left, row, step, right, 300, flat, 300, n_rows, n_columns, depth)
            out[:n_rows, :n_columns] += a[:n_rows] @ b[:, :n_columns]
            np.testing.assert_array_equal(flat[5:].reshape(out.shape), out)
            assert not flat[:5].any()


@pytest.mark.skipif(not PAIRS, reason="this processor does not multiply bfloat16")
def test_pairs_of_bfloat16():
    generator = np.random.default_rng(0)
    # Eight-bit integers are exact in bfloat16, the upper half of float32.
    values = generator.integers(-128, 129, (2, 7, 16)).astype(np.float32)
    bits = values.view(np.uint32)
    pairs = (bits[0] >> 16 | bits[1]).view(np.int32)
    left, right, out = np.append([0, 0], pairs), np.append([0, 0, 0], pairs), np.zeros(5 + 256, np.float32)
    add(left.astype(np.int32), 1, 16, right.astype(np.int32), 16, out, 16, 16, 16, 7)
    rows = values.reshape(14, 16)
    np.testing.assert_array_equal(out[5:].reshape(16, 16), rows.T @ rows)
