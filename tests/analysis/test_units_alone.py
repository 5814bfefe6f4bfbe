"""Single units against NumPy and scikit-learn, on rows where hypotheses are defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gatescope.analysis.units_alone import (
    best_unit_predictions,
    column_sd,
    rank_differences,
    ranks_of,
    unit_correlations,
    units_alone,
)
from gatescope.engine import row_blocks

N, H, K = 900, 5, 3


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(N, H)) * [1, 0.01, 3, 1, 0] + [0, 50, 7, 0, 4]).astype(np.float32)
    Y = X[:, :K] - X[:, :K].mean(axis=0) + rng.normal(size=(N, K)) * [0.3, 0.003, 9]
    return X, Y, rng.random((N, K)) < 0.8


def test_correlations_equal_numpy_over_defined_rows(states, monkeypatch):
    X, Y, defined = states
    Y = np.where(defined, Y, np.nan)
    monkeypatch.setattr(row_blocks, "SCRATCH_BYTES", 100 * H * 8)
    found = unit_correlations(X, Y, defined)
    for k in range(K):
        rows = defined[:, k]
        expected = [np.corrcoef(X[rows, h].astype(float), Y[rows, k])[0, 1] for h in range(4)]
        np.testing.assert_allclose(found[k, :4], expected, rtol=1e-6, atol=1e-9)
    # A constant unit has no correlation, and neither has a constant hypothesis.
    assert np.isnan(found[:, 4]).all()
    assert np.isnan(unit_correlations(X, np.ones((N, 1)), np.ones((N, 1), bool))).all()


def test_boolean_labels_use_auroc_and_continuous_ones_correlation(states):
    X, Y, defined = states
    (name, auroc), *_ = units_alone(X, Y > 0, defined, None).items()
    rows = defined[:, 0]
    assert name == "auroc" and auroc[0, 0] == pytest.approx(roc_auc_score(Y[rows, 0] > 0, X[rows, 0]))
    assert list(units_alone(X, Y, defined, None)) == ["correlation"]


def test_rank_differences_equal_auroc_distance_from_one_half(states):
    X, Y, _ = states
    found = rank_differences(ranks_of(X), Y > 0, np.ones((N, K), bool))
    expected = [[abs(roc_auc_score(Y[:, k] > 0, X[:, h]) - 0.5) for h in range(H)] for k in range(K)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # A row of weight two equals two rows; with one class only, there is no difference.
    times = np.random.default_rng(1).integers(0, 3, N)
    twice, ranks = np.repeat(np.arange(N), times), ranks_of(X)
    weighted = rank_differences(ranks, Y > 0, np.tile(times[:, None], K).astype(np.float32))
    repeated = rank_differences(ranks[twice], Y[twice] > 0, np.ones((len(twice), K), bool))
    np.testing.assert_allclose(weighted, repeated, atol=1e-6)
    assert np.isnan(rank_differences(ranks, np.ones((N, 1), bool), np.ones((N, 1), bool))).all()


def test_column_sd_equals_numpy():
    X = (np.random.default_rng(0).normal(size=(20_000, 3)) * [1, 0.01, 0] + [0, 50, 7]).astype(np.float32)
    np.testing.assert_allclose(column_sd(X), X.astype(np.float64).std(axis=0), rtol=1e-9, atol=1e-12)


def test_the_threshold_is_chosen_on_training_rows_only(states, f1_above):
    X, Y, defined = states
    Y = np.quantile(Y, 0.9, axis=0) < Y
    train, test = slice(0, 600), slice(600, N)
    chosen, sign, alone = np.array([0, -1, 2]), (1, 1, -1), {"auroc": np.tile([0.8, 0.1, 0.2], (3, 1))}
    given = [(X[rows], Y[rows], defined[rows]) for rows in (train, test)]
    found = best_unit_predictions(chosen, alone, *given)
    for k in (0, 2):
        rows = defined[:600, k]
        values = sign[k] * X[:, chosen[k]]
        f1, seen = f1_above(Y[:600, k][rows], values[:600][rows])
        first = 1 + f1[1:].argmax()
        best = (seen[first - 1] + seen[first]) / 2
        unseen = values[600:][defined[600:, k]]
        unit, above = (found[name][defined[600:, k], k] for name in ("unit", "unit_above"))
        np.testing.assert_array_equal(unit, unseen)
        np.testing.assert_array_equal(above, unseen > best)
    assert np.isnan([found["unit"][:, 1], found["unit_above"][:, 1]]).all()


def test_units_are_signed_by_their_correlation_with_continuous_labels(states):
    X, Y, defined = states
    given = [(X[rows], Y[rows], defined[rows]) for rows in (slice(0, 600), slice(600, N))]
    alone = {"correlation": np.tile([-0.2, 0.1, 0.0], (3, 1))}
    found = best_unit_predictions(np.array([0, 1, -1]), alone, *given)
    assert list(found) == ["unit"]
    np.testing.assert_array_equal(found["unit"][:, :2], X[600:, :2] * [-1.0, 1.0])
    assert np.isnan(found["unit"][:, 2]).all()


def test_ranks_of_many_rows_do_not_depend_on_the_precision_of_the_values():
    """Ranks above 65,504 are beyond float16, and odd ones above 2,048 are not among its values."""
    X = np.random.default_rng(0).normal(size=(70_001, 1)).astype(np.float16)
    np.testing.assert_array_equal(ranks_of(X), ranks_of(X.astype(np.float64)))
