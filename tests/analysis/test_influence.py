"""Influences against weighted scores of scikit-learn, slightly to both sides."""

from __future__ import annotations

import numpy as np
from scored_cases import boolean_case, continuous_case
from sklearn.metrics import r2_score, roc_auc_score

from gatescope.analysis.influence import auroc_influence, r2_influence
from gatescope.analysis.metrics import moments_by_sequence

STEP = 1e-4


def derivatives(score, sequence_ids):
    """How much a score of weights [n] changes with the weight of each sequence, by central differences."""
    found = []
    for sequence in np.unique(sequence_ids):
        ends = [score(np.where(sequence_ids == sequence, 1 + step, 1.0)) for step in (STEP, -STEP)]
        found.append((ends[0] - ends[1]) / (2 * STEP))
    return np.array(found)


def test_influence_on_auroc_is_the_derivative_of_the_weighted_one():
    Y, _, weight, ids = boolean_case(1)
    # Few distinct values, so that many rows are tied.
    score = np.round(np.random.default_rng(2).normal(size=Y.shape) + Y, 1)
    found = auroc_influence(Y, score, weight, ids)
    assert found.shape == (len(np.unique(ids)), Y.shape[1])
    for k in range(Y.shape[1]):
        area = lambda w, k=k: roc_auc_score(Y[:, k], score[:, k], sample_weight=w * weight[:, k])  # noqa: E731
        np.testing.assert_allclose(found[:, k], derivatives(area, ids), atol=1e-7)


def test_influence_counts_only_pairs_within_a_fold():
    rng = np.random.default_rng(3)
    ids, parts = np.repeat(np.arange(12), 25), [slice(0, 75), slice(75, 300)]
    Y = rng.random((300, 1)) < 0.3
    score = rng.normal(size=(300, 1)) + Y + 5.0 * (np.arange(300) < 75)[:, None]

    def area(weight):
        areas = [roc_auc_score(Y[part], score[part], sample_weight=weight[part]) for part in parts]
        pairs = [(weight[part] @ Y[part, 0]) * (weight[part] @ ~Y[part, 0]) for part in parts]
        return np.average(areas, weights=pairs)

    found = auroc_influence(Y, score, np.ones_like(Y), ids, parts)
    np.testing.assert_allclose(found[:, 0], derivatives(area, ids), atol=1e-7)


def test_influence_on_r2_is_the_derivative_of_the_weighted_one():
    target, predicted, weight, ids = continuous_case(4, offset=3.0)
    found = r2_influence(moments_by_sequence(target, predicted, weight, ids))
    for k in range(target.shape[1]):
        rows = weight[:, k] > 0
        t, p = target[rows, k], predicted[rows, k]
        expected = derivatives(lambda w, t=t, p=p, rows=rows: r2_score(t, p, sample_weight=w[rows]), ids)
        np.testing.assert_allclose(found[:, k], expected, atol=1e-6 * np.abs(expected).max())


def test_undefined_scores_have_nan_influence():
    ids = np.repeat([0, 1], 5)
    Y, score = np.zeros((10, 2), bool), np.zeros((10, 2))
    Y[:, 1] = ids
    found = auroc_influence(Y, score, np.array([[True, False]] * 10), ids)
    assert np.isnan(found).all()
    score[3, 1] = np.nan
    assert np.isnan(auroc_influence(Y, score, np.ones_like(Y), ids)).all()
    constant = np.ones((10, 1))
    with np.errstate(all="raise"):
        assert np.isnan(r2_influence(moments_by_sequence(constant, constant, constant, ids))).all()
