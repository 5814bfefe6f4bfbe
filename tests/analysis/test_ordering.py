"""AUROC against scikit-learn, its resamples against the same drawn rows, thresholds against every other threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from traced import traced

from gatescope.analysis import ordering
from gatescope.analysis.intervals import resamples
from gatescope.analysis.ordering import auroc, f1_threshold, pairs_won, resampled_auroc

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def case(seed=0, n_groups=12, n=600, levels=None):
    rng = np.random.default_rng(seed)
    Y, defined = rng.random((n, 3)) < [0.4, 0.05, 0.4], rng.random((n, 3)) < 0.9
    score = rng.normal(size=(n, 3)) + Y * [1, 2, 0]
    score = score if levels is None else np.round(score * levels) / levels
    return Y, score, defined, rng.integers(0, n_groups, n)


@pytest.fixture(params=[ordering.MOST_PAIRED, 0], ids=["sequences paired", "resamples ordered"])
def either_way(request, monkeypatch):
    monkeypatch.setattr(ordering, "MOST_PAIRED", request.param)


def test_ordering_without_rows_is_nan():
    assert np.isnan(ordering.ordering(np.zeros(0, bool), np.zeros(0))).all()
    Y, score, defined, _ = case()
    defined[:, 1] = False
    assert np.isnan(auroc(Y, score, defined)[1])


def test_auroc_equals_scikit_learn_on_defined_labels():
    Y, score, defined, _ = case(levels=4)
    Y[:, 2] = False
    found = auroc(Y, score, defined)
    for k in range(2):
        rows = defined[:, k]
        assert found[k] == pytest.approx(roc_auc_score(Y[rows, k], score[rows, k]), rel=1e-12)
    assert np.isnan(found[2])
    score[np.flatnonzero(defined[:, 0])[0], 0] = np.nan
    score[np.flatnonzero(~defined[:, 1])[0], 1] = np.nan
    again = auroc(Y, score, defined)
    assert np.isnan(again[0]) and again[1] == found[1]


@pytest.mark.parametrize("levels", [4, None])
def test_pairs_won_are_counted_one_by_one(levels):
    Y, score, _, _ = case(seed=3, n=80, levels=levels)
    for y, s in zip(Y.T, score.T, strict=True):
        side = np.sign(s[:, None] - s[None, :]) * np.where(y, 1, -1)[:, None]
        expected = ((1 + side) / 2 * (y[:, None] != y[None, :])).sum(axis=1)
        np.testing.assert_array_equal(pairs_won(y, s), expected)
    assert len(pairs_won(np.zeros(0, bool), np.zeros(0))) == 0


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("levels", [4, None])
def test_resamples_equal_repeated_rows(levels):
    """With 600 rows, every distinct score has a bin of its own."""
    Y, score, defined, groups = case(levels=levels)
    found = resampled_auroc(Y, score, defined, groups, 20, 5)
    (times_drawn,) = resamples(12, 20, 5)
    for k in range(3):
        rows = defined[:, k]
        for b in range(20):
            weight = times_drawn[b][groups[rows]]
            expected = roc_auc_score(Y[rows, k], score[rows, k], sample_weight=weight)
            assert found[b, k] == pytest.approx(expected, rel=1e-12)


@pytest.mark.usefixtures("either_way")
def test_rows_are_compared_only_within_their_part():
    """Each part has a scale of its own, and one part has no positive."""
    Y, score, defined, groups = case(levels=4)
    parts = [slice(0, 250), slice(250, 300), slice(300, 600)]
    Y[250:300, 1] = False
    score[:250] = 5 * score[:250] - 7
    areas, precisions = ordering.ordering_within(Y, score, defined, parts)
    resampled = resampled_auroc(Y, score, defined, groups, 20, 5, parts)
    (times_drawn,) = resamples(12, 20, 5)
    for k in range(3):
        y, rows, s, drawn = Y[:, k], defined[:, k], score[:, k], times_drawn[:, groups]
        found, counts, ordered, of_all = [], [], np.zeros(20), np.zeros(20)
        for part in parts:
            chosen = np.arange(600)[part][rows[part]]
            one, other = chosen[y[chosen]], chosen[~y[chosen]]
            if len(one):
                found.append(roc_auc_score(y[chosen], s[chosen]))
                counts.append(len(one) * len(other))
            right = (s[one][:, None] > s[other]) + 0.5 * (s[one][:, None] == s[other])
            # A sequence drawn m times meets another one m times for each of its draws, and itself m times.
            same = groups[one][:, None] == groups[other]
            for b in range(20):
                weight = np.where(same, drawn[b, one][:, None], np.outer(drawn[b, one], drawn[b, other]))
                ordered[b] += (weight * right).sum()
                of_all[b] += weight.sum()
        np.testing.assert_allclose(resampled[:, k], ordered / of_all, rtol=1e-12)
        assert areas[k] == pytest.approx(np.average(found, weights=counts), rel=1e-12)
        chosen = [np.arange(600)[part][rows[part]] for part in parts]
        each = [average_precision_score(y[rows], s[rows]) if y[rows].any() else 0 for rows in chosen]
        expected = np.average(each, weights=[y[rows].sum() for rows in chosen])
        assert precisions[k] == pytest.approx(expected, rel=1e-12)
    score[np.flatnonzero(defined[:, 0])[0], 0] = np.nan
    assert np.isnan(auroc(Y, score, defined, parts)).tolist() == [True, False, False]
    assert np.isnan(resampled_auroc(Y, score, defined, groups, 3, 0, parts)).all(axis=0).tolist() == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("certain", [-np.inf, np.inf, 0.0])
def test_certain_scores_count_as_ties(certain):
    """Scores like those of a probe that had one class to learn from."""
    y, score = np.arange(40) % 3 == 0, np.full(40, certain)
    assert ordering.ordering(y, score) == pytest.approx((0.5, y.mean()))
    assert resampled_auroc(
        y[:, None], score[:, None], np.ones((40, 1), bool), np.arange(40) // 8, 5, 0
    ) == pytest.approx(0.5)


def test_coarse_bins_change_auroc_by_less_than_a_bin(monkeypatch):
    Y, score, defined, groups = case(n=5000)
    exact = resampled_auroc(Y, score, defined, groups, 50, 0)
    monkeypatch.setattr(ordering, "BINS", 64)
    coarse = resampled_auroc(Y, score, defined, groups, 50, 0)
    assert 0 < np.abs(coarse - exact).max() < 1 / 64


def test_draws_of_many_sequences_are_not_copied_for_each_hypothesis():
    """All cores work on a hypothesis each, and the draws are a byte for each sequence and resample."""
    n, draws = 5000, np.ones((5000, 50), np.uint8)
    given = np.arange(n) % 2 == 0, np.random.default_rng(0).normal(size=n), np.arange(n)
    _, memory = traced(lambda: ordering._resampled_pairs(*given, [draws] * 40, several=False))
    assert memory < 40 * draws.nbytes


@pytest.mark.usefixtures("either_way")
def test_a_resample_without_one_class_has_no_auroc():
    Y = np.zeros((40, 1), bool)
    Y[0] = True
    found = resampled_auroc(Y, np.arange(40.0)[:, None], np.ones((40, 1), bool), np.arange(40) // 10, 200, 0)
    # Three of four groups are never drawn with probability (3/4)^4.
    assert 0.2 < np.isnan(found).mean() < 0.45
    assert set(found[np.isfinite(found)]) <= {0.0}


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([2, 5, 100]))
@pytest.mark.filterwarnings("ignore:No positive class found")
def test_no_other_threshold_gives_a_larger_f1(f1_above, seed, n, levels):
    rng = np.random.default_rng(seed)
    y, score = rng.random(n) < 0.3, rng.integers(0, levels, n) / levels
    threshold = f1_threshold(y, score)
    assert threshold not in score
    assert f1_score(y, score > threshold, zero_division=0) == pytest.approx(max(f1_above(y, score)[0]))
