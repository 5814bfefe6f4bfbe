"""Products with matrices in panels against exact sums of whole numbers."""

import numpy as np
import pytest

from gatescope.kernels.panels import CHAIN, add_product, add_product_across, pack_rows, packed, padded_width

# Widths around that of a panel, and beyond it.
WIDTHS = [1, 7, 8, 31, 63, 64, 65, 150]
# Longer than the chain of terms that is summed at once.
K = 2 * CHAIN + 5


def whole(*shape, dtype):
    return np.random.default_rng(sum(shape)).integers(-9, 10, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", WIDTHS)
def test_products_are_added_to_the_output(dtype, width):
    a, b = whole(41, K, dtype=dtype), whole(K, width, dtype=dtype)
    out = np.ones((40, padded_width(width, b.itemsize)), dtype)
    add_product(a.reshape(-1)[K:], K, 37, K, packed(b), out)
    np.testing.assert_array_equal(out[:37, :width], 1 + a[1:38] @ b)
    # Only the zero columns were added beside it, and nothing below.
    assert (out[:37, width:] == 1).all() and (out[37:] == 1).all()


def test_the_left_matrix_may_be_transposed():
    a, b = whole(K, 11, dtype=np.float32), whole(K, 70, dtype=np.float32)
    out = np.zeros((11, 72), np.float32)
    add_product_across(a.reshape(-1), 11, 11, K, packed(b), out)
    np.testing.assert_array_equal(out[:, :70], a.T @ b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", WIDTHS)
def test_packing_rows_in_parts_equals_packing_the_matrix(dtype, width):
    matrix = whole(9, width, dtype=dtype)
    out = np.zeros_like(packed(matrix))
    for first, n in ((4, 5), (0, 4)):
        pack_rows(matrix.reshape(-1)[first * width :], n, width, out, 9, first)
    np.testing.assert_array_equal(out, packed(matrix))


def test_a_matrix_without_rows_has_empty_panels():
    assert packed(np.empty((0, 70), np.float32)).size == 0
