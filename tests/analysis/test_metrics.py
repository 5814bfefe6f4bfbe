"""Metrics against scikit-learn hypothesis by hypothesis, intervals against a bootstrap written out row by row."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics as sk

from gatescope.analysis.metrics import (
    _resampled,
    bootstrap_difference,
    bootstrap_interval,
    classification_metrics,
    confusion_by_sequence,
    moment_metrics,
    moments_by_sequence,
)

# NumPy warns where an undefined quotient is computed instead of left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

RTOL = 1e-12


def regression_metrics(target, predicted, weight):
    """R2 and Pearson's r of all rows together."""
    moments = moments_by_sequence(target, predicted, weight, np.zeros(len(target), dtype=np.int64))
    return moment_metrics(moments.sum(axis=0))


def boolean_case(seed: int, n: int = 400, n_hypotheses: int = 5, n_sequences: int = 8):
    """Labels, predictions that often agree with them, masks and sequence ids with gaps between them."""
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_hypotheses)) < np.linspace(0.05, 0.9, n_hypotheses)
    predicted = Y ^ (rng.random(Y.shape) < 0.2)
    weight = rng.random(Y.shape) < 0.8
    sequence_ids = np.sort(rng.choice(np.arange(n_sequences) * 3 + 2, n))
    return Y, predicted, weight, sequence_ids


def totals(Y, predicted, weight, sequence_ids):
    return classification_metrics(confusion_by_sequence(Y, predicted, weight, sequence_ids).sum(axis=0))


@pytest.mark.parametrize("seed", range(3))
def test_classification_metrics_equal_scikit_learn(seed):
    Y, predicted, weight, sequence_ids = boolean_case(seed)
    got = totals(Y, predicted, weight, sequence_ids)
    oracles = {
        "accuracy": sk.accuracy_score,
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "f1": sk.f1_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "mcc": sk.matthews_corrcoef,
        "prevalence": lambda y, p: y.mean(),
    }
    assert set(got) == set(oracles)
    for k in range(Y.shape[1]):
        y, p = Y[weight[:, k], k], predicted[weight[:, k], k]
        for name, oracle in oracles.items():
            np.testing.assert_allclose(got[name][k], oracle(y, p), rtol=RTOL, err_msg=name)


def test_counts_per_sequence_equal_scikit_learn():
    Y, predicted, weight, sequence_ids = boolean_case(7)
    counts = confusion_by_sequence(Y, predicted, weight, sequence_ids)
    for s, sequence in enumerate(np.unique(sequence_ids)):
        for k in range(Y.shape[1]):
            rows = (sequence_ids == sequence) & weight[:, k]
            (tn, fp), (fn, tp) = sk.confusion_matrix(Y[rows, k], predicted[rows, k], labels=[False, True])
            assert counts[s, k].tolist() == [tp, fp, fn, tn]


@pytest.mark.parametrize(
    ("counts", "undefined"),
    [
        ((0, 0, 0, 0), {"accuracy", "precision", "recall", "f1", "balanced_accuracy", "mcc", "prevalence"}),
        ((0, 0, 0, 9), {"precision", "recall", "f1", "balanced_accuracy", "mcc"}),  # no positive, none predicted
        ((0, 2, 0, 7), {"recall", "balanced_accuracy", "mcc"}),  # no positive, some predicted
        ((0, 0, 3, 6), {"precision", "mcc"}),  # every positive missed
        ((4, 0, 0, 0), {"balanced_accuracy", "mcc"}),  # no negative
        ((4, 0, 2, 3), set()),
    ],
)
def test_undefined_metrics_are_nan_and_no_others(counts, undefined):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = classification_metrics(np.array(counts))
    assert {name for name, value in got.items() if np.isnan(value)} == undefined


def test_every_positive_missed_is_an_f1_of_zero():
    assert classification_metrics(np.array([0, 0, 3, 6]))["f1"] == 0


def test_counts_of_billions_neither_overflow_nor_lose_the_correlation():
    billions = classification_metrics(np.array([4, 1, 2, 8]) * 10**9)["mcc"]
    assert billions == pytest.approx(classification_metrics(np.array([4, 1, 2, 8]))["mcc"], rel=RTOL)


bool_tables = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        *(hnp.arrays(bool, (n, 2)) for _ in range(3)),
        hnp.arrays(np.int64, n, elements=st.integers(0, 4)),
        st.permutations(range(n)),
    )
)


@settings(deadline=None)
@given(bool_tables)
def test_order_of_rows_and_names_of_sequences_do_not_matter(case):
    Y, predicted, weight, sequence_ids, order = case
    counts = confusion_by_sequence(Y, predicted, weight, sequence_ids)
    moved = confusion_by_sequence(Y[order], predicted[order], weight[order], sequence_ids[order])
    assert np.array_equal(counts, moved)
    renamed = confusion_by_sequence(Y, predicted, weight, 10 - 2 * sequence_ids)
    assert np.array_equal(counts, renamed[::-1])


@settings(deadline=None)
@given(bool_tables)
def test_undefined_rows_equal_removed_rows(case):
    Y, predicted, weight, sequence_ids, _ = case
    got = totals(Y, predicted, weight, sequence_ids)
    for k in range(2):
        rows = weight[:, k]
        column = np.s_[rows, k : k + 1]
        removed = totals(Y[column], predicted[column], weight[column], sequence_ids[rows])
        for name, value in removed.items():
            np.testing.assert_equal(got[name][k], value[0])


def naive_bootstrap(Y, predicted, sequence_ids, score, n_bootstrap, seed):
    """Gather the rows of the drawn sequences and score them, one resample after another."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(sequence_ids == s) for s in np.unique(sequence_ids)]
    drawn = rng.integers(len(rows), size=(n_bootstrap, len(rows)))
    gathered = (np.concatenate([rows[s] for s in draw]) for draw in drawn)
    return np.array([score(Y[r], predicted[r]) for r in gathered])


@pytest.mark.parametrize(("metric", "score"), [("f1", sk.f1_score), ("mcc", sk.matthews_corrcoef)])
def test_interval_equals_the_bootstrap_written_out(metric, score):
    Y, predicted, _, sequence_ids = boolean_case(3, n=120, n_hypotheses=2)
    counts = confusion_by_sequence(Y, predicted, np.ones_like(Y), sequence_ids)
    low, high = bootstrap_interval(counts, metric, n_bootstrap=200, seed=5, level=0.9)
    for k in range(2):
        replicates = naive_bootstrap(Y[:, k], predicted[:, k], sequence_ids, score, 200, 5)
        np.testing.assert_allclose([low[k], high[k]], np.percentile(replicates, [5, 95]), rtol=RTOL)


def test_difference_is_paired():
    """The interval of a difference between predictors is that of the differences, resample by resample."""
    Y, predicted, _, sequence_ids = boolean_case(4, n=120, n_hypotheses=1)
    other = predicted ^ (np.random.default_rng(0).random(Y.shape) < 0.05)
    defined = np.ones_like(Y)
    counts, other_counts = (confusion_by_sequence(Y, p, defined, sequence_ids) for p in (predicted, other))
    low, high = bootstrap_difference(counts, other_counts, "accuracy", n_bootstrap=200, seed=6)
    replicates = [
        naive_bootstrap(Y[:, 0], p[:, 0], sequence_ids, sk.accuracy_score, 200, 6) for p in (predicted, other)
    ]
    expected = np.percentile(replicates[0] - replicates[1], [2.5, 97.5])
    np.testing.assert_allclose([low[0], high[0]], expected, rtol=RTOL, atol=1e-15)
    same_low, same_high = bootstrap_difference(counts, counts)
    assert same_low.tolist() == same_high.tolist() == [0.0]


def test_blocks_of_resamples_draw_each_combination_equally_often(monkeypatch):
    """Three sequences have 27 equally likely resamples; the tercile of their accuracies is read off the list."""
    monkeypatch.setattr("gatescope.analysis.metrics._BLOCK_ELEMENTS", 2100)
    counts = np.array([[[1, 0, 9, 0]], [[5, 0, 5, 0]], [[9, 0, 1, 0]]])
    every = [np.mean(draw) for draw in itertools.product([0.1, 0.5, 0.9], repeat=3)]
    resampled = _resampled(counts, "accuracy", 20_000, 0)[:, 0]
    values = np.unique(np.round(every, 9))
    expected = np.array([np.isclose(every, value).sum() for value in values]) / 27 * 20_000
    observed = np.array([np.isclose(resampled, value).sum() for value in values])
    assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_no_interval_where_resamples_do_not_support_one():
    perfect, rare = [10, 0, 0, 0], [0, 0, 0, 10]
    # Positives in all 6 sequences, in half of them, in one (absent from a third of the resamples), in none.
    columns = [[perfect] * 6, [perfect, rare] * 3, [perfect] + [rare] * 5, [rare] * 6]
    low, high = bootstrap_interval(np.array(columns).transpose(1, 0, 2))
    assert low[:2].tolist() == high[:2].tolist() == [1.0, 1.0]
    assert np.isnan([low[2:], high[2:]]).all()


def test_two_sequences_have_an_interval_and_one_has_none():
    two = np.array([[[3, 1, 2, 4]], [[5, 1, 0, 4]]])
    # One resample in four repeats either sequence, so the 95% interval reaches from one's F1 to the other's.
    low, high = bootstrap_interval(two)
    np.testing.assert_allclose([low[0], high[0]], [6 / 9, 10 / 11], rtol=RTOL)
    assert np.isnan(bootstrap_interval(two[:1])).all()


def continuous_case(seed: int, n: int = 300, offset: float = 0.0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(n, 3)) * [1, 10, 0.1] + offset
    predicted = target + rng.normal(size=target.shape) * [0.5, 20, 0.01]
    weight = (rng.random(target.shape) < 0.8).astype(float)
    target[weight == 0] = np.nan
    return target, predicted, weight, np.sort(rng.integers(0, 7, n))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_regression_metrics_equal_scikit_learn_and_scipy(offset):
    target, predicted, weight, _ = continuous_case(0, offset=offset)
    got = regression_metrics(target, predicted, weight)
    for k in range(3):
        rows = weight[:, k] > 0
        t, p = target[rows, k], predicted[rows, k]
        # Values of 1e6 with deviations of 0.1 keep about 9 of float64's 16 digits in any formula.
        rtol = RTOL if offset == 0 else 1e-8
        np.testing.assert_allclose(got["r2"][k], sk.r2_score(t, p), rtol=rtol)
        np.testing.assert_allclose(got["pearson"][k], stats.pearsonr(t, p).statistic, rtol=rtol)


def test_real_weights_count_rows_as_often_as_they_say():
    target, predicted, _, sequence_ids = continuous_case(1, n=40)
    target = np.nan_to_num(target)
    times = np.random.default_rng(2).integers(0, 4, size=40)
    weight = np.repeat(times[:, None], 3, axis=1).astype(float)
    repeated = np.repeat(np.arange(40), times)
    got = moment_metrics(moments_by_sequence(target, predicted, weight, sequence_ids).sum(axis=0))
    expected = regression_metrics(target[repeated], predicted[repeated], np.ones((len(repeated), 3)))
    for name in ("r2", "pearson"):
        np.testing.assert_allclose(got[name], expected[name], rtol=RTOL)


def test_constant_columns_have_no_correlation_and_constant_targets_no_r2():
    varying = np.random.default_rng(0).normal(size=(1000, 1))
    constant = np.full((1000, 1), 0.1)
    target = np.hstack([constant, varying, constant, varying])
    predicted = np.hstack([varying, constant, constant, varying])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = regression_metrics(target, predicted, np.ones((1000, 4)))
    assert np.isnan(got["r2"]).tolist() == [True, False, True, False]
    assert np.isnan(got["pearson"]).tolist() == [True, True, True, False]
    assert got["r2"][1] < 0
    assert got["r2"][3] == got["pearson"][3] == 1


@pytest.mark.parametrize("n", [3, 7, 1000, 4097])
def test_constants_whose_mean_is_rounded_are_constants(n):
    constants = np.repeat(np.array([[0.1, 1 / 3, -7.3, 1e6 + 0.1, 1e-200, np.pi]]), n, axis=0)
    varying = np.random.default_rng(0).normal(size=constants.shape)
    weight = np.full(constants.shape, 0.3)
    assert np.isnan(regression_metrics(constants, varying, weight)["r2"]).all()
    assert np.isnan(regression_metrics(varying, constants, weight)["pearson"]).all()


def test_undefined_everywhere_is_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = regression_metrics(np.full((5, 1), np.nan), np.ones((5, 1)), np.zeros((5, 1)))
    assert np.isnan([got["r2"], got["pearson"]]).all()


@pytest.mark.parametrize(("metric", "score"), [("r2", sk.r2_score), ("pearson", lambda t, p: stats.pearsonr(t, p)[0])])
def test_interval_of_a_continuous_metric_equals_the_bootstrap_written_out(metric, score):
    target, predicted, _, sequence_ids = continuous_case(3)
    # Sequences at different heights, so that a resample's means are not the whole's.
    heights = sequence_ids[:, None] * [1.0, 5.0, 0.1]
    target, predicted = np.nan_to_num(target) + heights, predicted + heights
    moments = moments_by_sequence(target, predicted, np.ones_like(target), sequence_ids)
    low, high = bootstrap_interval(moments, metric, n_bootstrap=100, seed=1)
    for k in range(3):
        replicates = naive_bootstrap(target[:, k], predicted[:, k], sequence_ids, score, 100, 1)
        np.testing.assert_allclose([low[k], high[k]], np.percentile(replicates, [2.5, 97.5]), rtol=1e-10)
