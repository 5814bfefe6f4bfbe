"""Linear predictions, and when they need double precision."""

import numpy as np
import pytest

from gatescope.engine.errors import InputError
from gatescope.engine.predictions import CANCELLING, cancels, linear_predictions
from gatescope.engine.row_blocks import RowBlocks


def test_means_cancel_if_they_outweigh_the_spread():
    """Units are weighed by their coefficient, and the largest mean is compared with the largest spread of any unit."""
    mean, sd = np.array([-2.0 * CANCELLING, 0.0]), np.array([1.0, 1.0])

    def found(coefficients, mean, sd):
        w = np.array(coefficients)
        return cancels(w, -np.nan_to_num(w) @ mean, mean, sd)

    assert found([[1.0, 1.0]], mean, sd)
    # The second unit's spread now outweighs the first one's mean; one hypothesis where it does not decides for all.
    assert not found([[1.0, 3.0]], mean, sd)
    assert found([[1.0, 3.0], [1.0, np.nan]], mean, sd)
    assert not found([[1.0, 1.0]], mean, np.array([1.0, 2.5]))
    assert found([[0.1, 0.1]], mean, np.array([0.1, 0.1]))
    assert not found(np.zeros((1, 2)), mean, sd)


def test_predictions_far_from_zero_also_need_double_precision():
    mean, sd, w = np.zeros(2), np.ones(2), np.array([[1.0, 0.0]])
    assert cancels(w, np.array([1.1 * CANCELLING]), mean, sd)
    assert not cancels(w, np.array([0.9 * CANCELLING]), mean, sd)
    # All weight in one class, or no fit at all.
    assert not cancels(np.vstack([w, w * np.nan]), np.array([np.inf, np.nan]), mean, sd)


def test_predictions_are_products_and_unfitted_hypotheses_give_the_intercept():
    generator = np.random.default_rng(0)
    X, w, b = generator.normal(size=(300, 4)), generator.normal(size=(3, 4)), np.array([1.0, -2.0, 0.5])
    w[1, 2] = np.nan
    with RowBlocks(X, np.float64) as rows:
        found = linear_predictions(rows, w, b)
    expected = X @ np.where(np.isnan(w), 0, w).T + b
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_states_that_are_not_finite_are_named(value):
    X = np.zeros((300, 4))
    X[217, 2] = value
    with RowBlocks(X, np.float64) as rows, pytest.raises(InputError, match=r"217.*2"):
        linear_predictions(rows, np.ones((1, 4)), np.zeros(1))
