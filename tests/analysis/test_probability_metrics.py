"""Metrics of probabilities against scikit-learn, the calibration error against bins filled one row at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from gatescope.analysis.probability_metrics import probability_metrics, restore_prior

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def naive_ece(y, p, n_bins):
    total = 0.0
    for b in range(n_bins):
        inside = [i for i in range(len(y)) if b / n_bins <= p[i] < (b + 1) / n_bins or (b == n_bins - 1 and p[i] == 1)]
        if inside:
            total += len(inside) / len(y) * abs(np.mean(y[inside]) - np.mean(p[inside]))
    return total


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 60), st.sampled_from([1, 4, 16]))
def test_every_metric_equals_its_oracle_with_ties(seed, n, levels):
    rng = np.random.default_rng(seed)
    # Few distinct values give many ties. None lies on the edge of a bin, where rounding would decide the side.
    p = (rng.integers(0, levels, size=(n, 3)) + 0.3) / levels
    Y, weight = rng.random((n, 3)) < 0.4, rng.random((n, 3)) < 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = probability_metrics(Y, logit(p), weight)
    for k in range(3):
        y, q = Y[weight[:, k], k], p[weight[:, k], k]
        both, any_positive = 0 < y.sum() < len(y), y.any()
        expected = {
            "auroc": sk.roc_auc_score(y, q) if both else np.nan,
            "average_precision": sk.average_precision_score(y, q) if any_positive else np.nan,
            "log_loss_bits": sk.log_loss(y, q, labels=[False, True]) / np.log(2) if len(y) else np.nan,
            "brier": sk.brier_score_loss(y, q, labels=[False, True]) if len(y) else np.nan,
            "ece": naive_ece(y, q, 15) if len(y) else np.nan,
        }
        assert set(got) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name][k], value, rtol=1e-12, atol=1e-15, err_msg=name)


def test_an_unfitted_probe_has_no_metrics_and_does_not_affect_others():
    Y = np.array([[True, True], [False, False], [True, True]])
    p = logit([[0.9, 0.9], [np.nan, 0.2], [0.6, 0.6]])
    got = probability_metrics(Y, p, np.ones((3, 2)))
    assert all(np.isnan(value[0]) and np.isfinite(value[1]) for value in got.values())
    # A NaN at an undefined position does not count as a prediction.
    got = probability_metrics(Y, p, np.array([[1, 1], [0, 1], [1, 1]]))
    assert got["brier"][0] == pytest.approx((0.1**2 + 0.4**2) / 2, rel=1e-12)


def test_float32_logits_are_ordered_even_if_probabilities_round_to_one():
    z = np.array([[20.0], [30.0], [40.0], [-3.0]], dtype=np.float32)
    assert (expit(z[:3]) == 1).all()
    got = probability_metrics(np.array([[False], [True], [True], [False]]), z, np.ones((4, 1)))
    assert got["auroc"] == got["average_precision"] == 1
    assert got["log_loss_bits"][0] == pytest.approx((20 + np.log1p(np.exp(-3))) / np.log(2) / 4, rel=1e-6)


def test_restored_prior_is_the_unweighted_saturated_fit():
    """One-hot features fit each group's odds exactly, so weights must shift all odds by the same factor."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 3000)
    y = rng.random(3000) < np.array([0.02, 0.1, 0.3])[group]
    X = np.eye(3)[group]

    def fitted(class_weight):
        model = LogisticRegression(
            C=np.inf, fit_intercept=False, class_weight=class_weight, solver="newton-cholesky", tol=1e-12
        )
        return model.fit(X, y).predict_proba(np.eye(3))[:, 1:]

    ratio = np.array([(~y).sum() / y.sum()])
    np.testing.assert_allclose(expit(restore_prior(logit(fitted("balanced")), ratio)), fitted(None), rtol=1e-6)


def test_restored_certainty_stays_certain():
    assert restore_prior(np.array([[-np.inf], [np.inf]]), np.array([50.0])).tolist() == [[-np.inf], [np.inf]]
