"""Intervals against a bootstrap written out row by row, and against how often they cover the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scored_cases import boolean_case, continuous_case
from sklearn import metrics as sk

from gatescope.analysis.influence import auroc_influence
from gatescope.analysis.intervals import (
    SHARE,
    UNBOUNDED,
    bootstrap_difference,
    bootstrap_interval,
    effective_sequences,
    mean_interval,
    paired_interval,
    resampled_metric,
    t_interval,
)
from gatescope.analysis.metrics import confusion_by_sequence, moments_by_sequence

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

RTOL = 1e-10


def naive_bootstrap(Y, predicted, sequence_ids, score, n_bootstrap, seed):
    """Gather the rows of the drawn sequences and score them, one resample after another."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(sequence_ids == s) for s in np.unique(sequence_ids)]
    drawn = rng.integers(len(rows), size=(n_bootstrap, len(rows)))
    gathered = (np.concatenate([rows[s] for s in draw]) for draw in drawn)
    return np.array([score(Y[r], predicted[r]) for r in gathered])


def student(found, replicates, n_sequences):
    """The score -+ t times the standard error, by SciPy's own interval of Student's distribution."""
    se = np.subtract(*np.percentile(replicates, [95, 5])) / np.subtract(*stats.norm.interval(0.9)[::-1])
    se *= np.sqrt(n_sequences / (n_sequences - 1))
    return np.array(stats.t.interval(0.95, n_sequences - 1, loc=found, scale=se))


def effective(y, sequence_ids):
    """The equivalent number of equal-sized sequences: of all rows, or of the class that is in fewer sequences."""
    sizes = [np.unique(sequence_ids[y == value], return_counts=True)[1] for value in np.unique(y)]
    return min(np.sum(n) ** 2 / np.sum(n**2) for n in sizes)


@pytest.mark.parametrize(("metric", "score", "least"), [("f1", sk.f1_score, 0.0), ("mcc", sk.matthews_corrcoef, -1.0)])
def test_interval_equals_an_explicit_bootstrap(metric, score, least):
    Y, predicted, _, sequence_ids = boolean_case(3, n=120, n_hypotheses=2)
    counts = confusion_by_sequence(Y, predicted, np.ones_like(Y), sequence_ids)
    low, high = bootstrap_interval(counts, metric, n_bootstrap=200, seed=5)
    for k in range(2):
        replicates = naive_bootstrap(Y[:, k], predicted[:, k], sequence_ids, score, 200, 5)
        odds = [np.log((value - least) / (1 - value)) for value in (score(Y[:, k], predicted[:, k]), replicates)]
        places = 1 / (1 + np.exp(-student(*odds, effective(Y[:, k], sequence_ids))))
        np.testing.assert_allclose([low[k], high[k]], least + (1 - least) * places, rtol=RTOL)


def test_difference_is_paired():
    """The interval of a difference between predictors comes from the differences, resample by resample."""
    Y, predicted, _, sequence_ids = boolean_case(4, n=120, n_hypotheses=1)
    other = predicted ^ (np.random.default_rng(0).random(Y.shape) < 0.05)
    defined = np.ones_like(Y)
    counts, other_counts = (confusion_by_sequence(Y, p, defined, sequence_ids) for p in (predicted, other))
    low, high = bootstrap_difference(counts, other_counts, "accuracy", n_bootstrap=200, seed=6)
    replicates = [
        naive_bootstrap(Y[:, 0], p[:, 0], sequence_ids, sk.accuracy_score, 200, 6) for p in (predicted, other)
    ]
    found = sk.accuracy_score(Y[:, 0], predicted[:, 0]) - sk.accuracy_score(Y[:, 0], other[:, 0])
    n = effective(Y[:, 0], sequence_ids)
    np.testing.assert_allclose([low[0], high[0]], student(found, replicates[0] - replicates[1], n), rtol=RTOL)
    same_low, same_high = bootstrap_difference(counts, counts, "f1", 200, 6)
    assert same_low.tolist() == same_high.tolist() == [0.0]


def test_blocks_of_resamples_draw_each_combination_equally_often(monkeypatch):
    """Three sequences have 27 equally likely resamples; the tercile of their accuracies is read off the sorted list."""
    monkeypatch.setattr("gatescope.analysis.intervals._BLOCK_ELEMENTS", 2100)
    counts = np.array([[[1, 0, 9, 0]], [[5, 0, 5, 0]], [[9, 0, 1, 0]]])
    every = [np.mean(draw) for draw in itertools.product([0.1, 0.5, 0.9], repeat=3)]
    resampled = resampled_metric(counts, "accuracy", 20_000, 0)[:, 0]
    values = np.unique(np.round(every, 9))
    expected = np.array([np.isclose(every, value).sum() for value in values]) / 27 * 20_000
    observed = np.array([np.isclose(resampled, value).sum() for value in values])
    assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_no_interval_is_given_if_resamples_do_not_support_one():
    perfect, rare = [10, 0, 0, 0], [0, 0, 0, 10]
    # Positives in all 6 sequences, in half of them, in one (absent from a third of the resamples), in none.
    columns = [[perfect] * 6, [perfect, rare] * 3, [perfect] + [rare] * 5, [rare] * 6]
    low, high = bootstrap_interval(np.array(columns).transpose(1, 0, 2), "f1", 1000, 0)
    assert low[:2].tolist() == high[:2].tolist() == [1.0, 1.0]
    assert np.isnan([low[2:], high[2:]]).all()


def test_an_interval_needs_two_sequences():
    two = np.array([[[3, 1, 2, 4]], [[5, 1, 0, 4]]])
    low, high = bootstrap_interval(two, "f1", 1000, 0)
    found = 16 / 20
    assert 0 < low[0] < found < high[0] < 1
    assert np.isnan(bootstrap_interval(two[:1], "f1", 1000, 0)).all()


def test_interval_of_r2_equals_an_explicit_bootstrap():
    target, predicted, _, sequence_ids = continuous_case(3)
    # Sequences have different levels, so that a resample's means differ from the whole's.
    heights = sequence_ids[:, None] * [1.0, 5.0, 0.1]
    target, predicted = np.nan_to_num(target) + heights, predicted + heights
    moments = moments_by_sequence(target, predicted, np.ones_like(target), sequence_ids)
    low, high = bootstrap_interval(moments, "r2", n_bootstrap=100, seed=1)
    for k in range(3):
        replicates = naive_bootstrap(target[:, k], predicted[:, k], sequence_ids, sk.r2_score, 100, 1)
        n = effective(np.ones(len(target)), sequence_ids)
        ends = student(sk.r2_score(target[:, k], predicted[:, k]), replicates, n)
        np.testing.assert_allclose([low[k], high[k]], np.minimum(ends, 1), rtol=RTOL)


def test_interval_of_a_mean_equals_an_explicit_bootstrap():
    _, _, _, sequence_ids = boolean_case(3, n=120, n_hypotheses=2)
    values = np.random.default_rng(1).normal(size=120) + sequence_ids
    number = np.unique(sequence_ids, return_inverse=True)[1]
    sums, counts = (np.bincount(number, each) for each in (values, np.ones(120)))
    assert len(set(counts)) > 2
    replicates = naive_bootstrap(values, values, sequence_ids, lambda of, _: of.mean(), 1000, 5)
    expected = student(values.mean(), replicates, counts.sum() ** 2 / (counts**2).sum())
    np.testing.assert_allclose(mean_interval(sums, counts, 5), expected, rtol=RTOL)
    assert np.isnan(mean_interval(np.zeros(8), np.zeros(8), 5)).all()
    assert np.isnan(mean_interval(sums[:1], counts[:1], 5)).all()


def test_intervals_stay_within_bounds_and_scores_at_a_bound_keep_it():
    rng = np.random.default_rng(0)
    found = np.array([1.0, 0.0, 0.999, 0.5])  # a probe without a hit has none in any resample either
    resampled = np.clip(found + [[0.0, 0.0, 0.02, 0.4]] * rng.normal(size=(400, 4)), 0, 1)
    low, high = t_interval(found, resampled, np.full(4, 12), SHARE)
    assert low[0] == high[0] == 1 and np.isnan([low[1], high[1]]).all()
    assert (low[2:] >= 0).all() and (low < found)[2:].all() and (found < high)[2:].all() and (high[2:] <= 1).all()


def test_a_few_resamples_at_a_bound_do_not_widen_the_interval():
    resampled = np.random.default_rng(0).normal(0.5, 0.05, size=(1000, 2))
    resampled[:40, 1] = 0
    low, high = t_interval(np.full(2, 0.5), resampled, np.full(2, 20), SHARE)
    assert high[1] - low[1] == pytest.approx(high[0] - low[0], rel=0.15)


def test_many_resamples_at_a_bound_widen_the_interval_by_a_bounded_factor():
    odds = np.random.default_rng(0).normal(-4, 0.3, size=1000)
    odds[:200] = -np.inf
    resampled = 1 / (1 + np.exp(-odds))[:, None]
    inner = np.subtract(*np.percentile(odds, [95, 50]))
    spread = 3 * inner / np.subtract(*stats.norm.interval(0.9)[::-1]) * np.sqrt(20 / 19)
    expected = 1 / (1 + np.exp(-np.array(stats.t.interval(0.95, 19, loc=-4, scale=spread))))
    found = 1 / (1 + np.exp(np.array([4.0])))
    np.testing.assert_allclose(np.ravel(t_interval(found, resampled, np.array([20]), SHARE)), expected, rtol=1e-9)
    mirrored = np.ravel(t_interval(1 - found, 1 - resampled, np.array([20]), SHARE))
    np.testing.assert_allclose(mirrored, 1 - expected[::-1], rtol=1e-9)


def test_an_undefined_score_has_no_interval():
    low, high = t_interval(np.array([np.nan, 0.5]), np.full((100, 2), 0.5), np.full(2, 12), SHARE)
    assert np.isnan([low[0], high[0]]).all() and low[1] == high[1] == 0.5


def test_intervals_have_their_nominal_coverage():
    """12 sequences of different accuracy; plain quantiles of the resamples would cover in about nine of ten cases."""
    rng = np.random.default_rng(4)
    n_cases, n_sequences, n_rows, truth = 600, 12, 400, 0.8
    hits = rng.binomial(n_rows, rng.beta(20 * truth, 20 * (1 - truth), size=(n_sequences, n_cases)))
    counts = np.stack([hits, 0 * hits, n_rows - hits, 0 * hits], axis=-1)
    low, high = bootstrap_interval(counts, "recall", 1000, 0)
    narrow, wide = np.quantile(resampled_metric(counts, "recall", 1000, 0), [0.025, 0.975], axis=0)
    assert 0.93 < ((low < truth) & (truth < high)).mean() < 0.97
    assert ((narrow < truth) & (truth < wide)).mean() < 0.91


def test_intervals_of_rare_labels_have_at_least_nominal_coverage():
    """Five of 20 sequences have positives, in different numbers: they do not carry as much information as 20."""
    rng = np.random.default_rng(6)
    n_cases, n_sequences, truth = 600, 20, 0.8
    n_rows = (100 + rng.exponential(100, (n_sequences, n_cases))).astype(int)
    n_rows[5:] = 0
    hits = rng.binomial(n_rows, rng.beta(20 * truth, 20 * (1 - truth), size=(n_sequences, n_cases)))
    counts = np.stack([hits, 0 * hits, n_rows - hits, np.full_like(hits, 500)], axis=-1)
    low, high = bootstrap_interval(counts, "recall", 1000, 0)
    assert 0.93 < ((low < truth) & (truth < high)).mean() < 0.98
    found = hits.sum(axis=0) / n_rows.sum(axis=0)
    narrow, wide = t_interval(found, resampled_metric(counts, "recall", 1000, 0), np.full(n_cases, n_sequences), SHARE)
    assert ((narrow < truth) & (truth < wide)).mean() < 0.91


def test_effective_sequences_count_the_class_found_in_fewer_sequences():
    everywhere, nowhere = [3, 1, 3, 1], [0, 0, 0, 0]
    # Equal numbers of positives in each of 4 sequences, in two of them; half of all in one; in none; and no row at all.
    columns = [[everywhere] * 4, [everywhere, [0, 1, 0, 1]] * 2]
    columns += [[[2, 0, 1, 9], [1, 1, 0, 9], [1, 0, 0, 9], [1, 0, 0, 9]], [[0, 4, 0, 1]] * 4, [nowhere] * 4]
    found = effective_sequences(np.array(columns).transpose(1, 0, 2))
    np.testing.assert_allclose(found, [4, 2, 36 / 12, 0, 0])
    # For a hypothesis that holds everywhere, the sequences in which it holds count.
    np.testing.assert_allclose(effective_sequences(np.array([[[4, 0, 1, 0]], [[2, 0, 3, 0]]])), [2])
    weights = np.zeros((3, 2, 7))
    weights[:, :, 0] = [[5, 0], [5, 2], [5, 1]]
    np.testing.assert_allclose(effective_sequences(weights), [3, 9 / 5])


def test_intervals_of_differences_have_nominal_coverage():
    rng = np.random.default_rng(5)
    differences = rng.normal(0.03, 0.1, size=(12, 600))
    drawn = np.stack([differences[rng.integers(12, size=12)].mean(axis=0) for _ in range(500)])
    low, high = t_interval(differences.mean(axis=0), drawn, np.full(600, 12), UNBOUNDED)
    assert 0.93 < ((low < 0.03) & (high > 0.03)).mean() < 0.97


def test_paired_interval_and_p_follow_students_t():
    influence = np.array([0.02, -0.01, 0.005, -0.015])
    se = np.sqrt(np.sum(influence**2) * 3.5 / 2.5)
    low, high, p = paired_interval(0.03, influence, 3.5)
    np.testing.assert_allclose([low, high], stats.t.interval(0.95, 2.5, loc=0.03, scale=se))
    assert p == pytest.approx(2 * stats.t.sf(0.03 / se, 2.5))


@pytest.mark.parametrize("n_sequences", [0.0, 1.9, np.nan])
def test_fewer_than_two_sequences_have_no_interval(n_sequences):
    assert np.isnan(paired_interval(0.1, np.array([0.1, -0.1]), n_sequences)).all()


def test_identical_results_have_zero_interval_and_p_one():
    assert paired_interval(0.0, np.zeros(5), 5.0) == (0.0, 0.0, 1.0)


def test_intervals_of_paired_scores_cover_the_true_difference():
    """300 draws of 20 sequences, in which two predictors share most of their noise."""
    rng = np.random.default_rng(5)

    def draw(n_sequences):
        ids = np.repeat(np.arange(n_sequences), 30)
        Y = rng.random((len(ids), 1)) < 0.3
        shared = rng.normal(size=(n_sequences, 1))[ids] + rng.normal(size=Y.shape)
        return Y, [slope * Y + shared + 0.7 * rng.normal(size=(n_sequences, 1))[ids] for slope in (1.0, 1.3)], ids

    def difference(Y, scores):
        return sk.roc_auc_score(Y, scores[1]) - sk.roc_auc_score(Y, scores[0])

    Y, scores, _ = draw(4_000)
    truth, hits = difference(Y, scores), 0
    for _ in range(300):
        Y, scores, ids = draw(20)
        of_each = [auroc_influence(Y, each, np.ones_like(Y), ids)[:, 0] for each in scores]
        low, high, _ = paired_interval(difference(Y, scores), of_each[1] - of_each[0], 20.0)
        hits += low <= truth <= high
    # Binomial: within three standard errors of 95%.
    assert abs(hits / 300 - 0.95) < 3 * np.sqrt(0.05 * 0.95 / 300)
