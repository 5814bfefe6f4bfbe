"""Control labels: fixed by the type, drawn from the training labels, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gatescope.analysis.baselines import NgramTable
from gatescope.analysis.control_task import control_labels, ngram_types

# NumPy warns where an undefined quotient is computed instead of left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3), st.sampled_from(["post", "pre"]))
def test_ngram_types_are_equal_where_the_characters_are(seed, k, alignment):
    rng = np.random.default_rng(seed)
    starts = np.array([0, 6, 6, 15])
    tokens, rows = rng.integers(0, 3, 15), rng.permutation(15)
    types = ngram_types(tokens, starts, rows, k, alignment)
    texts = []
    for row in rows:
        start, end = (0 if row < 6 else 6), row + (alignment == "post")
        read = ["before"] * k + tokens[start:end].tolist()
        texts.append(tuple(read[len(read) - k :]))
    assert len(set(zip(texts, types.tolist(), strict=True))) == len(set(texts)) == len(set(types.tolist()))


def control_case(seed: int = 0, n: int = 600, n_types: int = 40):
    rng = np.random.default_rng(seed)
    types = rng.integers(0, n_types, n)
    Y = np.stack([rng.random(n) < 0.3, rng.random(n) < 0.9, rng.random(n) < 0.5], axis=1)
    weight = rng.random(Y.shape) < 0.7
    train = np.sort(rng.permutation(n)[: n // 2])
    return types, Y, weight, train


def test_a_type_keeps_its_label_in_training_and_test_rows():
    types, Y, weight, train = control_case()
    control = control_labels(types, Y, weight, train, seed=3)
    assert control.dtype == Y.dtype
    for t in np.unique(types):
        assert (control[types == t] == control[types == t][0]).all()
    assert np.array_equal(control, control_labels(types, Y, weight, train, seed=3))
    assert not np.array_equal(control, control_labels(types, Y, weight, train, seed=4))


def test_only_defined_training_labels_are_drawn():
    types, Y, weight, train = control_case()
    values = np.arange(Y.size, dtype=float).reshape(Y.shape)
    values[weight == 0] = np.nan
    control = control_labels(types, values, weight, train, seed=0)
    for k in range(Y.shape[1]):
        assert set(control[:, k]) <= set(values[train[weight[train, k]], k])


def test_a_hypothesis_gets_the_same_control_alone_and_in_company():
    types, Y, weight, train = control_case()
    together = control_labels(types, Y, weight, train, seed=1)
    alone = control_labels(types, Y[:, 1:2], weight[:, 1:2], train, seed=1)
    assert np.array_equal(together[:, 1:2], alone)


def test_labels_of_types_follow_the_training_distribution():
    """20,000 types draw their labels independently: binomial within five standard deviations, and no order in them."""
    rng = np.random.default_rng(0)
    Y = rng.random((1000, 1)) < 0.3
    # Labels in long runs, as in text, must not show in the types' order.
    Y.sort(axis=0)
    types, train = np.arange(20_000), np.arange(1000)
    labels = np.zeros((20_000, 1), dtype=bool)
    labels[:1000] = Y
    control = control_labels(types, labels, np.ones_like(labels), train, seed=2)[:, 0]
    share = Y.mean()
    assert abs(control.mean() - share) < 5 * np.sqrt(share * (1 - share) / 20_000)
    pairs = np.bincount(2 * control[:-1:2] + control[1::2], minlength=4)
    chances = np.array([1 - share, share])
    assert stats.chisquare(pairs, 10_000 * np.outer(chances, chances).ravel()).pvalue > 1e-6


def test_hypothesis_without_a_defined_training_row_gets_zeros():
    types, Y, weight, train = control_case()
    weight[train, 1] = False
    control = control_labels(types, Y, weight, train, seed=0)
    assert not control[:, 1].any()
    assert control[:, 0].any()
    assert control_labels(types[:0], Y[:0], weight[:0], train[:0], seed=0).shape == (0, 3)


def test_a_table_of_the_type_itself_has_no_selectivity():
    """What memorises types scores perfectly on their control: the check that a control task exists for."""
    rng = np.random.default_rng(1)
    tokens, starts, rows = rng.integers(0, 5, 2000), np.array([0, 1500, 2000]), np.arange(2000)
    Y, weight = rng.random((2000, 1)) < 0.4, np.ones((2000, 1))
    types = ngram_types(tokens, starts, rows, 2)
    train, test = rows[:1500], rows[1500:]
    control = control_labels(types, Y, weight, train, seed=0)
    table = NgramTable(2).fit(tokens, starts, train, control[train], weight[train])
    # The first row of the test sequence has a context that training saw once, at its own start, if at all.
    assert np.array_equal(table.predict_proba(tokens, starts, test[1:]) > 0.5, control[test[1:]])
