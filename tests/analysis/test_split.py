"""Each sequence is on one side only, and rows are exactly those of their sequences."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis.split import divides_documents, folds_of, groups_of, rows_of, sequence_ids_of, split_sequences
from gatescope.engine.errors import InputError


@settings(deadline=None)
@given(st.integers(2, 300), st.floats(1e-6, 1 - 1e-6), st.integers(0, 2**32))
def test_every_sequence_is_on_exactly_one_side(n_sequences, share, seed):
    train, test = split_sequences(np.arange(n_sequences), share, seed)
    assert sorted([*train, *test]) == list(range(n_sequences))
    assert len(train) >= 1
    assert len(test) >= 1
    assert list(train) == sorted(train)
    assert list(test) == sorted(test)
    nearest = abs(len(test) - share * n_sequences) <= 0.5
    assert nearest or len(test) in (1, n_sequences - 1)


@pytest.mark.parametrize(
    ("n_sequences", "share", "n_test"), [(200, 0.2, 40), (100, 0.07, 7), (3, 0.05, 1), (3, 0.95, 2), (2, 0.5, 1)]
)
def test_the_test_part_has_the_requested_size(n_sequences, share, n_test):
    train, test = split_sequences(np.arange(n_sequences), share, seed=0)
    assert (len(train), len(test)) == (n_sequences - n_test, n_test)


def test_seed_decides_the_split():
    first, again, other = (split_sequences(np.arange(200), 0.2, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_sequence_is_tested_equally_often():
    """Over many seeds the counts are hypergeometric draws: chi-square of 10 cells, five standard deviations."""
    n_splits = 2000
    counts = np.zeros(10)
    for seed in range(n_splits):
        counts[split_sequences(np.arange(10), 0.3, seed)[1]] += 1
    # Drawing without replacement shrinks a count's variance from n p to n p (1 - p) * 10 / 9 of the chi-square's.
    statistic = ((counts - n_splits * 0.3) ** 2 / (n_splits * 0.3 * 0.7 * 10 / 9)).sum()
    assert statistic < 9 + 5 * np.sqrt(2 * 9)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 3), st.integers(0, 2**32))
def test_folds_test_every_group_once_starting_with_the_plain_split(n_groups, n_folds, copies, seed):
    groups = np.tile(np.arange(n_groups), copies)
    starts = 3 * np.arange(len(groups) + 1)
    if n_folds > n_groups:
        with pytest.raises(InputError, match=f"--folds {n_folds}: expected at most {n_groups}"):
            folds_of(groups, starts, 1 / n_folds, n_folds, seed)
        return
    folds = folds_of(groups, starts, 1 / n_folds, n_folds, seed)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(groups)))
    sizes = [len(np.unique(groups[fold.test])) for fold in folds]
    assert sum(sizes) == n_groups and min(sizes) > 0 and max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert sorted([*fold.train, *fold.test]) == list(range(len(groups)))
        np.testing.assert_array_equal(fold.test_rows, rows_of(fold.test, starts))
        np.testing.assert_array_equal(fold.train_rows, rows_of(fold.train, starts))
    np.testing.assert_array_equal(folds[0].test, split_sequences(groups, 1 / n_folds, seed)[1])


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_the_open_interval_is_refused(share):
    with pytest.raises(InputError, match="test share"):
        split_sequences(np.arange(10), share, 0)


@pytest.mark.parametrize("n_sequences", [0, 1])
def test_one_sequence_cannot_be_split(n_sequences):
    with pytest.raises(InputError, match="at least 2"):
        split_sequences(np.arange(n_sequences), 0.2, 0)


lengths_and_choice = st.lists(st.integers(0, 6), min_size=1, max_size=12).flatmap(
    lambda lengths: st.tuples(st.just(lengths), st.lists(st.integers(0, len(lengths) - 1), unique=True))
)


@settings(deadline=None)
@given(lengths_and_choice)
def test_rows_of_sequences_are_the_concatenated_ranges(case):
    lengths, chosen = case
    starts = np.concatenate([[0], np.cumsum(lengths)])
    expected = [row for s in chosen for row in range(starts[s], starts[s + 1])]
    rows = rows_of(chosen, starts)
    assert rows.dtype == np.int64
    assert rows.tolist() == expected
    owner = [s for s in chosen for _ in range(lengths[s])]
    assert sequence_ids_of(rows, starts).tolist() == owner


def test_starts_of_a_small_or_unsigned_type_do_not_wrap():
    starts = np.array([0, 200, 255], dtype=np.uint8)
    assert rows_of([1, 0], starts).tolist() == [*range(200, 255), *range(200)]


def source(starts, documents, tokens, states=None):
    """The fields that a split reads of recorded states."""
    values = np.zeros((starts[-1], 2)) if states is None else states
    return SimpleNamespace(
        sequence_starts=starts, document_starts=documents, tokens=tokens, names=["h"], array=lambda name: values
    )


def test_groups_are_never_divided():
    rng = np.random.default_rng(0)
    for seed in range(200):
        groups = np.unique(rng.integers(9, size=30), return_inverse=True)[1]
        train, test = split_sequences(groups, 0.3, seed)
        assert sorted([*train, *test]) == list(range(30))
        assert not set(groups[train]) & set(groups[test])
        n_groups = groups.max() + 1
        assert len(set(groups[test])) == round(0.3 * n_groups)


def test_sequences_of_a_document_form_a_group_given_enough_documents():
    starts = np.arange(31) * 5
    tokens = np.arange(150, dtype=np.uint16)
    assert groups_of(source(starts, starts, tokens)).tolist() == list(range(30))
    ten = starts[::3]
    assert groups_of(source(starts, ten, tokens)).tolist() == np.repeat(np.arange(10), 3).tolist()
    assert groups_of(source(starts, ten, None)).tolist() == np.repeat(np.arange(10), 3).tolist()
    # With nine documents, one side would have too few.
    nine = np.append(starts[:27:3], 150)
    assert groups_of(source(starts, nine, tokens)).tolist() == list(range(30))
    assert [divides_documents(source(starts, each, tokens)) for each in (starts, ten, nine)] == [False, False, True]
    # If sequences are documents of their own, no document is divided, however few there are.
    assert not divides_documents(source(starts[:4], starts[:4], tokens))


def test_equal_sequences_and_equal_documents_are_one_group():
    tokens = np.array([1, 2, 3, 1, 2, 1, 2, 3, 0, 0, 1, 2], dtype=np.uint8)
    starts = np.array([0, 3, 5, 8, 10, 12])
    assert groups_of(source(starts, starts, tokens)).tolist() == [0, 1, 0, 2, 1]
    assert groups_of(source(starts, starts, None)).tolist() == [0, 1, 2, 3, 4]
    # All tokens may be the same; then the states tell sequences apart.
    assert groups_of(source(starts, starts, 0 * tokens, np.arange(24).reshape(12, 2))).tolist() == [0, 1, 2, 3, 4]
    # It is the last state that counts, after what was read before the sequence.
    states = np.zeros((12, 2))
    states[starts[1:] - 2] = np.arange(5)[:, None]
    assert groups_of(source(starts, starts, 0 * tokens, states)).tolist() == [0, 1, 0, 1, 1]
    states[starts[1:] - 1] = np.arange(5)[:, None]
    assert groups_of(source(starts, starts, 0 * tokens, states)).tolist() == [0, 1, 2, 3, 4]
    documents = np.arange(13) * 4
    tokens = np.repeat(np.arange(12, dtype=np.uint8), 4)
    tokens[8:12] = tokens[40:44] = 7
    # A passage that documents share does not join them.
    tokens[44:46] = tokens[0]
    assert groups_of(source(np.arange(25) * 2, documents, tokens))[::2].tolist() == [0, 1, 2, 3, 4, 5, 6, 2, 7, 8, 2, 9]


def test_copies_of_one_sequence_form_one_group_but_are_still_split():
    starts = np.arange(6) * 3
    groups = groups_of(source(starts, starts, np.tile([1, 2, 3], 5)))
    assert set(groups) == {0}
    train, test = split_sequences(groups, 0.2, 0)
    assert sorted([*train, *test]) == list(range(5)) and len(test) == 1
