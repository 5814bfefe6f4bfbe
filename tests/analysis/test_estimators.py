"""Which estimator belongs to a weighting, and what it predicts."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from gatescope.analysis.estimators import decision_values, estimator_of

X = np.random.default_rng(0).normal(size=(300, 4))
VALUE = X @ [[1.0], [2.0], [0.0], [-1.0]] + np.random.default_rng(1).normal(size=(300, 1))


@pytest.mark.parametrize("weighting", ["plain", "balanced"])
def test_a_boolean_hypothesis_is_predicted_by_logits(weighting):
    Y = VALUE > 1.5
    oracle = LogisticRegression(C=0.1, class_weight="balanced" if weighting == "balanced" else None, tol=1e-10)
    expected = oracle.fit(X, Y[:, 0]).decision_function(X)
    found = decision_values(estimator_of(weighting, 0.1).fit(X, Y), X)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-4)


def test_a_continuous_hypothesis_is_predicted_by_values():
    expected = Ridge(alpha=10).fit(X, VALUE).predict(X)
    found = decision_values(estimator_of("none", 0.1).fit(X, VALUE), X)
    np.testing.assert_allclose(found[:, 0], expected.ravel(), atol=1e-9)
