"""Adjusted p-values against values by hand and statsmodels; shifted labels against counting and their own theory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from statsmodels.stats.multitest import multipletests

from gatescope.analysis.significance import benjamini_hochberg, circular_shift, p_value, shift_test

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def test_adjusted_p_values_equal_hand_computed_ones():
    # Sorted: .01 .02 .03 .04 .20, times 5/1 ... 5/5: .05 .05 .05 .05 .20.
    np.testing.assert_allclose(
        benjamini_hochberg(np.array([0.03, 0.2, 0.01, 0.04, 0.02])), [0.05, 0.2, 0.05, 0.05, 0.05]
    )
    # .001 * 4, then the smaller of .03 * 4 / 2 and .04 * 4 / 3, and 1.
    np.testing.assert_allclose(benjamini_hochberg(np.array([1.0, 0.04, 0.03, 0.001])), [1, 0.16 / 3, 0.16 / 3, 0.004])


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float64, st.integers(1, 30), elements=st.floats(0, 1, allow_subnormal=False) | st.sampled_from([0.05, 1, 0])
    )
)
def test_adjusted_p_values_equal_statsmodels(p):
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12)


def test_missing_tests_do_not_count_and_the_shape_is_kept():
    p = np.array([[0.01, np.nan, 0.04], [np.nan, 0.03, 0.5]])
    np.testing.assert_allclose(benjamini_hochberg(p), [[0.04, np.nan, 0.16 / 3], [np.nan, 0.16 / 3, 0.5]])
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
    assert benjamini_hochberg(np.array([])).shape == (0,)


STARTS = np.array([0, 5, 5, 6, 13, 20])


@settings(deadline=None)
@given(st.integers(0, 10**6), st.permutations([0, 2, 3, 4]), st.integers(1, 4))
def test_each_sequence_is_shifted_independently(seed, order, n_chosen):
    rows = np.concatenate([np.arange(STARTS[s], STARTS[s + 1]) for s in order[:n_chosen]])
    moved = rows[circular_shift(rows, STARTS, np.random.default_rng(seed))]
    position = 0
    for s in order[:n_chosen]:
        length = STARTS[s + 1] - STARTS[s]
        before, after = rows[position : position + length].tolist(), moved[position : position + length].tolist()
        turns = [before[d:] + before[:d] for d in range(length)]
        assert after in turns
        position += length


def test_shift_distances_are_uniform_and_independent():
    generator = np.random.default_rng(0)
    rows, starts = np.arange(7), np.array([0, 3, 7])
    drawn = [circular_shift(rows, starts, generator) for _ in range(6000)]
    cells = np.bincount([4 * positions[0] + (positions[3] - 3) for positions in drawn], minlength=12)
    assert stats.chisquare(cells).pvalue > 1e-6


def best_difference(X):
    """The largest |difference of class means| over units, for each hypothesis."""

    def statistic(Y, weight):
        ones, zeros = weight * Y, weight * ~Y
        means = [side.T @ X / side.sum(axis=0)[:, None] for side in (ones, zeros)]
        return np.abs(means[0] - means[1]).max(axis=1)

    return statistic


def text_like_case(seed, n_hypotheses, n_sequences=6, length=60, n_units=5):
    """States and labels that both change slowly within a (circular) sequence, independent of each other."""
    rng = np.random.default_rng(seed)
    kernel = np.exp(-np.minimum(np.arange(length), length - np.arange(length)) / 4)

    def slow(width):
        noise = rng.normal(size=(n_sequences, length, width))
        smooth = np.fft.irfft(np.fft.rfft(noise, axis=1) * np.fft.rfft(kernel)[:, None], length, axis=1)
        return smooth.reshape(-1, width)

    starts = np.arange(n_sequences + 1) * length
    return slow(n_units), slow(n_hypotheses) > 0, np.arange(starts[-1]), starts


def test_p_values_of_unrelated_slow_labels_are_uniform():
    X, Y, rows, starts = text_like_case(0, n_hypotheses=300)
    p = shift_test([best_difference(X)], Y, np.ones(Y.shape), rows, starts, n_shifts=99, seed=1)
    # p takes the values 0.01, 0.02 ... 1 with equal chances; pooled in tens for the chi-square.
    assert stats.chisquare(np.bincount(np.ceil(p * 10 - 1e-9).astype(int), minlength=11)[1:]).pvalue > 1e-6


def test_a_planted_unit_is_found_and_p_counts_the_null():
    X, Y, rows, starts = text_like_case(1, n_hypotheses=3)
    Y[:, 1] = X[:, 2] > 0.5
    statistic = best_difference(X)
    weight = np.ones(Y.shape)
    p = shift_test([statistic], Y, weight, rows, starts, n_shifts=60, seed=2)
    assert p[1] == 1 / 61
    generator, observed = np.random.default_rng(2), statistic(Y, weight)
    null = np.stack([statistic(Y[circular_shift(rows, starts, generator)], weight) for _ in range(60)])
    assert p.tolist() == [(1 + sum(null[:, k] >= observed[k])) / 61 for k in range(3)]
    assert np.array_equal(p, shift_test([statistic], Y, weight, rows, starts, n_shifts=60, seed=2))


def test_weights_shift_with_their_labels():
    Y = np.array([[True], [False], [False], [True], [False]])
    seen = []

    def statistic(labels, weight):
        seen.append(np.column_stack([labels, weight]))
        return np.zeros(1)

    shift_test([statistic], Y, 2.0 * Y, np.arange(5), np.array([0, 5]), n_shifts=20, seed=0)
    assert len({tuple(pair[:, 0]) for pair in seen}) > 1
    assert all(np.array_equal(pair[:, 1], 2 * pair[:, 0]) for pair in seen)


@pytest.mark.parametrize(("observed", "expected"), [(1.0, 1.0), (np.nan, np.nan)])
def test_undefined_shifts_count_against_the_finding(observed, expected):
    answers = iter([observed] + [np.nan] * 9)
    statistics = [lambda y, w: np.array([next(answers)])]
    p = shift_test(statistics, np.eye(4, 1), np.ones((4, 1)), np.arange(4), np.array([0, 4]), 9, 0)
    np.testing.assert_array_equal(p, [expected])


def test_labels_of_whole_sequences_cannot_be_tested_by_shifts():
    X, starts = np.random.default_rng(0).normal(size=(40, 2)), np.arange(0, 41, 10)
    of_sequences = np.repeat([True, False, True, False], 10)
    # The second label changes within one sequence, the third is undefined in a part of one.
    Y, weight = np.stack([of_sequences] * 3, axis=1), np.ones((40, 3))
    Y[3, 1], weight[25, 2] = False, 0
    p = shift_test([best_difference(X)], Y, weight, np.arange(40), starts, 19, 0)
    assert np.isnan(p).tolist() == [True, False, False]


def test_several_statistics_equal_one_over_all_units():
    generator = np.random.default_rng(5)
    X, Y = generator.normal(size=(60, 5)), generator.random((60, 3)) < 0.4
    rows, starts = np.arange(60), np.array([0, 10, 35, 60])
    given = Y, np.ones(Y.shape), rows, starts, 40, 7
    p = shift_test((best_difference(X[:, part]) for part in (slice(0, 2), slice(2, 5))), *given)
    np.testing.assert_array_equal(p, shift_test([best_difference(X)], *given))


def test_p_counts_the_tested_set_among_the_others():
    assert p_value(3.0, np.arange(5.0)) == 3 / 6  # 3 and 4 do as much
    assert p_value(3.0000001, np.arange(5.0)) == 3 / 6 and p_value(3.00001, np.arange(5.0)) == 2 / 6
    assert p_value(9.0, np.arange(19.0)[:9]) == 1 / 10
    assert p_value(-1.0, np.arange(5.0)) == 1.0
    assert np.isnan(p_value(np.nan, np.arange(5.0)))
    # A state that grew without bound counts as the greatest loss.
    assert p_value(9.0, np.array([1.0, np.nan, np.inf])) == 3 / 4
