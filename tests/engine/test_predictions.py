"""When linear predictions need double precision."""

import numpy as np

from gatescope.engine.predictions import CANCELLING, cancels


def test_means_cancel_where_they_outweigh_what_varies():
    """Compared in a prediction: each unit by its coefficient, the largest mean with the largest spread of any unit."""
    mean, sd = np.array([-2.0 * CANCELLING, 0.0]), np.array([1.0, 1.0])
    assert cancels(np.array([[1.0, 1.0]]), mean, sd)
    # The second unit varies more than the first one's mean counts; one such hypothesis among others decides.
    varied = np.array([[1.0, 3.0]])
    assert not cancels(varied, mean, sd)
    assert cancels(np.array([[1.0, 3.0], [1.0, np.nan]]), mean, sd)
    assert not cancels(np.array([[1.0, 1.0]]), mean, np.array([1.0, 2.5]))
    assert cancels(np.array([[0.1, 0.1]]), mean, np.array([0.1, 0.1]))
    assert not cancels(np.zeros((1, 2)), mean, sd)
