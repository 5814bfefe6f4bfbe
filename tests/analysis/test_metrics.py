"""Metrics against scikit-learn, hypothesis by hypothesis."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scored_cases import boolean_case, continuous_case
from sklearn import metrics as sk

from gatescope.analysis.metrics import (
    classification_metrics,
    confusion_by_sequence,
    moment_metrics,
    moments_by_sequence,
)

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

RTOL = 1e-12


def regression_metrics(target, predicted, weight):
    """R2 and Pearson's r of all rows together."""
    moments = moments_by_sequence(target, predicted, weight, np.zeros(len(target), dtype=np.int64))
    return moment_metrics(moments.sum(axis=0))


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
def test_exactly_the_undefined_metrics_are_nan(counts, undefined):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = classification_metrics(np.array(counts))
    assert {name for name, value in got.items() if np.isnan(value)} == undefined


def test_missing_every_positive_gives_an_f1_of_zero():
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


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_regression_metrics_equal_scikit_learn_and_scipy(offset):
    target, predicted, weight, _ = continuous_case(0, offset=offset)
    got = regression_metrics(target, predicted, weight)
    for k in range(3):
        rows = weight[:, k] > 0
        t, p = target[rows, k], predicted[rows, k]
        # Values of 1e6 with deviations of 0.1 leave about 9 of float64's 16 digits, whatever the formula.
        rtol = RTOL if offset == 0 else 1e-8
        np.testing.assert_allclose(got["r2"][k], sk.r2_score(t, p), rtol=rtol)
        np.testing.assert_allclose(got["pearson"][k], stats.pearsonr(t, p).statistic, rtol=rtol)


def test_values_are_centred_on_the_means_of_their_part():
    target, predicted, weight, sequence_ids = continuous_case(3, n=60)
    weight[40:50] = 0
    parts = [slice(0, 25), slice(25, 40), slice(40, 50), slice(50, 60)]
    got = moment_metrics(moments_by_sequence(target, predicted, weight, sequence_ids, parts).sum(axis=0))
    for k in range(3):
        moved, missed = [], 0.0
        for part in parts:
            rows = weight[part, k] > 0
            t, p = target[part, k][rows], predicted[part, k][rows]
            missed += ((t - p) ** 2).sum()
            if rows.any():
                moved.append(np.stack([t - t.mean(), p - p.mean()]))
        t, p = np.concatenate(moved, axis=1)
        np.testing.assert_allclose(got["r2"][k], 1 - missed / (t**2).sum(), rtol=RTOL)
        np.testing.assert_allclose(got["pearson"][k], stats.pearsonr(t, p).statistic, rtol=RTOL)


def test_real_weights_equal_repeated_rows():
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
def test_constants_with_a_rounded_mean_are_constants(n):
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
