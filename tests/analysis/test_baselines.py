"""The smoothed table against one made of Python dictionaries, constant predictors against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, r2_score, roc_auc_score

from gatescope.analysis.baselines import PRIOR_ROWS, NgramTable, at_even_odds, majority_f1
from gatescope.engine.errors import InputError

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def naive_contexts(tokens, starts, rows, k, alignment):
    """The k + 1 contexts of each row, longest first, as tuples that end with the newest character."""
    contexts = []
    for row in rows:
        start = max(s for s in starts[:-1] if s <= row)
        end = row + (alignment == "post")
        read = ["before"] * k + [int(token) for token in tokens[start:end]]
        contexts.append([tuple(read[len(read) - n :]) for n in range(k, -1, -1)])
    return contexts


def naive_table(tokens, starts, train, test, Y, weight, k, alignment, prior=PRIOR_ROWS[0]):
    """Dictionaries from context to [weight, weighted sum], one hypothesis after another."""
    train_contexts = naive_contexts(tokens, starts, train, k, alignment)
    test_contexts = naive_contexts(tokens, starts, test, k, alignment)
    predicted = np.full((len(test), Y.shape[1]), np.nan)
    for j in range(Y.shape[1]):
        table: dict[tuple, list[float]] = {}
        for contexts, y, s in zip(train_contexts, Y[:, j], weight[:, j], strict=True):
            for context in contexts:
                if s > 0:
                    entry = table.setdefault(context, [0.0, 0.0])
                    entry[0] += s
                    entry[1] += s * y
        for i, contexts in enumerate(test_contexts):
            for context in reversed(contexts):
                if context in table:
                    mass, total = table[context]
                    shorter = prior * predicted[i, j] if context else 0
                    predicted[i, j] = (total + shorter) / (mass + prior * bool(context))
    return predicted


def text_case(seed, n_characters=3, lengths=(7, 1, 0, 12, 5, 9), n_hypotheses=3, vocabulary=None):
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    vocabulary = np.arange(n_characters) if vocabulary is None else np.asarray(vocabulary)
    tokens = rng.choice(vocabulary, starts[-1])
    rows = rng.permutation(starts[-1])
    train, test = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    Y = rng.random((len(train), n_hypotheses)) < 0.4
    weight = (rng.random(Y.shape) < 0.7).astype(float)
    return tokens, starts, train, test, Y, weight


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.sampled_from(["post", "pre"]), st.booleans())
def test_table_equals_dictionaries(seed, k, alignment, continuous):
    tokens, starts, train, test, Y, weight = text_case(seed)
    if continuous:
        rng = np.random.default_rng(seed)
        Y, weight = rng.normal(size=Y.shape), weight * rng.integers(1, 4, Y.shape)
        Y[weight == 0] = np.nan
    table = NgramTable(k, alignment=alignment).fit(tokens, starts, train, Y, weight)
    got = table.predict_proba(tokens, starts, test)
    expected = naive_table(tokens, starts, train, test, Y, weight, k, alignment)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_balanced_table_multiplies_the_odds(seed):
    tokens, starts, train, test, Y, weight = text_case(seed)
    table = NgramTable(2).fit(tokens, starts, train, Y, weight)
    got = at_even_odds(table.predict_proba(tokens, starts, test), table.means_[0][0])
    expected = naive_table(tokens, starts, train, test, Y, weight, 2, "post")
    for j in range(Y.shape[1]):
        positives, negatives = (np.sum(weight[:, j] * (Y[:, j] == label)) for label in (1, 0))
        if positives and negatives:
            odds = expected[:, j] / (1 - expected[:, j]) * negatives / positives
            expected[:, j] = odds / (1 + odds)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_weights_balance_and_prior_together_equal_a_saturated_logistic_fit():
    """With one character of context, the table equals the unpenalised logistic regression on its one-hot code.

    The prior adds a few rows of each character, with the label as frequent as in all rows.
    """
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 4, 2000)
    y = rng.random(2000) < np.array([0.1, 0.3, 0.5, 0.8])[tokens]
    s = rng.integers(1, 5, 2000).astype(float)
    rows, starts = np.arange(2000), np.array([0, 2000])
    share = np.average(y, weights=s)
    table = NgramTable(1).fit(tokens, starts, rows, y[:, None], s[:, None])
    prior = table.prior_rows_[0]
    fit = LogisticRegression(
        C=np.inf,
        class_weight={True: 1 / s[y].sum(), False: 1 / s[~y].sum()},
        fit_intercept=False,
        tol=1e-12,
        solver="newton-cholesky",
        max_iter=100,
    )
    fit.fit(
        np.eye(4)[np.concatenate([tokens, np.arange(4), np.arange(4)])],
        np.concatenate([y, np.full(4, True), np.full(4, False)]),
        sample_weight=np.concatenate([s, np.full(4, prior * share), np.full(4, prior * (1 - share))]),
    )
    got = at_even_odds(table.predict_proba(np.arange(4), np.arange(5), np.arange(4)), table.means_[0][0])[:, 0]
    np.testing.assert_allclose(got, fit.predict_proba(np.eye(4))[:, 1], rtol=1e-6)


def test_contexts_do_not_cross_the_start_of_a_sequence():
    # Sequences "ab", "b": the last b follows nothing, not an a. A third of the labels are positive.
    tokens, starts = np.array([0, 1, 1]), np.array([0, 2, 3])
    Y = np.array([[False], [True], [False]])
    table = NgramTable(2).fit(tokens, starts, np.arange(3), Y, np.ones((3, 1)))
    a, b = (0 + 3 * 1 / 3) / (1 + 3), (1 + 3 * 1 / 3) / (2 + 3)
    expected = [(0 + 3 * a) / (1 + 3), (1 + 3 * b) / (1 + 3), (0 + 3 * b) / (1 + 3)]
    np.testing.assert_allclose(table.predict_proba(tokens, starts, np.arange(3))[:, 0], expected, rtol=1e-14)


def test_rare_contexts_do_not_make_the_table_worse_than_a_constant():
    """The last character partly decides the labels, in a text whose longest contexts occur once."""
    rng = np.random.default_rng(0)
    tokens, starts, rows = rng.integers(0, 20, 8000), np.array([0, 6000, 8000]), np.arange(8000)
    value = tokens % 2 + rng.normal(size=8000)
    flag = rng.random(8000) < np.where(tokens % 2, 0.4, 0.1)
    train, test = rows[:6000], rows[6000:]
    table = NgramTable().fit(tokens, starts, train, np.stack([value, flag], axis=1)[train], np.ones((6000, 2)))
    predicted = table.predict_proba(tokens, starts, test)
    assert r2_score(value[test], predicted[:, 0]) > 0
    assert log_loss(flag[test], predicted[:, 1]) < log_loss(flag[test], np.full(2000, flag[train].mean()))


def test_prior_depends_on_agreement_within_contexts():
    """Runs of labels begin more often after one character than after others: rows of a run are not independent."""
    rng = np.random.default_rng(0)
    tokens, starts, rows = rng.integers(0, 6, 20_000), np.arange(0, 20_001, 500), np.arange(20_000)
    flag = np.zeros(20_000, dtype=bool)
    for row in np.flatnonzero(rng.random(20_000) < np.where(tokens == 3, 0.1, 0.002)):
        flag[row : row + 8] = True
    # A second label, which the last two characters decide.
    exact = (tokens + np.roll(tokens, 1)) % 2 == 1
    train, test = rows[:16_000], rows[16_000:]
    table = NgramTable().fit(tokens, starts, train, np.stack([flag, exact], axis=1)[train], np.ones((16_000, 2)))
    predicted = table.predict_proba(tokens, starts, test)
    assert table.prior_rows_.tolist() == [PRIOR_ROWS[1], PRIOR_ROWS[0]]
    # With the other label's prior it would be 0.568.
    assert roc_auc_score(flag[test], predicted[:, 0]) > 0.59
    assert log_loss(exact[test], predicted[:, 1]) < 0.05


def test_chosen_prior_minimises_the_error_on_the_held_out_fifth():
    tokens, starts, _, _, _, _ = text_case(4, n_characters=6, lengths=(700, 500, 800))
    rng, rows = np.random.default_rng(4), np.arange(2000)
    Y, weight = rng.normal(size=(2000, 3)) + (tokens % 3)[:, None] * [0, 0.5, 5], rng.random((2000, 3))
    held = (rows // 40) % 5 == 4
    data = tokens, starts, rows[~held], rows[held], Y[~held], weight[~held], 5, "post"
    errors = [((naive_table(*data, prior) - Y[held]) ** 2 * weight[held]).sum(axis=0) for prior in PRIOR_ROWS]
    table = NgramTable().fit(tokens, starts, rows, Y, weight)
    assert table.prior_rows_.tolist() == np.array(PRIOR_ROWS)[np.argmin(errors, axis=0)].tolist()
    assert len(set(table.prior_rows_)) > 1


def test_pre_reads_one_character_less_than_post():
    # The label is the present character: known after reading it, a coin toss before.
    tokens = np.random.default_rng(0).integers(0, 2, 4000)
    starts, rows = np.array([0, 4000]), np.arange(4000)
    Y, weight = tokens[:, None] == 1, np.ones((4000, 1))
    post, pre = (
        NgramTable(3, alignment=alignment).fit(tokens, starts, rows, Y, weight).predict_proba(tokens, starts, rows)
        for alignment in ("post", "pre")
    )
    assert np.array_equal(post > 0.5, Y)
    # Each of the eight full contexts is a mean of coin tosses, so allow five standard deviations.
    _, context, tosses = np.unique(
        np.lib.stride_tricks.sliding_window_view(tokens, 3)[:-1], axis=0, return_inverse=True, return_counts=True
    )
    assert (np.abs(pre[3:, 0] - 0.5) < 5 * 0.5 / np.sqrt(tosses[context])).all()


def test_smoothing_follows_the_mask_of_each_hypothesis():
    tokens, starts = np.array([0, 1, 0, 1, 2, 1]), np.array([0, 6])
    Y = np.array([[1, 1], [1, 1], [0, 0], [0, 0], [1, 1], [0, 0]], dtype=bool)
    weight = np.ones((6, 2))
    # The only row whose last two characters are (2, 1) is undefined for the second hypothesis.
    weight[5, 1] = 0
    shorter, longer = (
        NgramTable(k).fit(tokens, starts, np.arange(6), Y, weight).predict_proba(tokens, starts, np.array([5]))[0]
        for k in (1, 2)
    )
    assert longer[0] < shorter[0]
    assert longer[1] == shorter[1] == (1 + 3 * 3 / 5) / (2 + 3)


def test_undefined_rows_equal_removed_rows():
    tokens, starts, train, test, Y, weight = text_case(11)
    full = NgramTable(3).fit(tokens, starts, train, Y, weight).predict_proba(tokens, starts, test)
    for j in range(Y.shape[1]):
        kept = weight[:, j] > 0
        removed = NgramTable(3).fit(tokens, starts, train[kept], Y[kept, j : j + 1], weight[kept, j : j + 1])
        np.testing.assert_allclose(full[:, j], removed.predict_proba(tokens, starts, test)[:, 0], rtol=1e-14)


def test_order_of_sequences_does_not_matter():
    lengths = [4, 9, 1, 6]
    tokens, starts, _, _, _, _ = text_case(5, lengths=lengths)
    rng = np.random.default_rng(5)
    Y = rng.random((20, 2)) < 0.5
    weight = np.ones(Y.shape)
    moved = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in (2, 0, 3, 1)])
    moved_starts = np.concatenate([[0], np.cumsum([lengths[s] for s in (2, 0, 3, 1)])])
    rows = np.arange(20)
    one = NgramTable(3).fit(tokens, starts, rows, Y, weight).predict_proba(tokens, starts, rows)
    other = NgramTable(3).fit(tokens[moved], moved_starts, rows, Y[moved], weight[moved])
    np.testing.assert_array_equal(other.predict_proba(tokens[moved], moved_starts, rows), one[moved])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_largest_character_ids_neither_wrap_nor_meet(dtype):
    """The largest ids of a type stay distinct from each other and from the filler before a sequence."""
    largest = np.iinfo(np.uint16).max if dtype == np.int64 else np.iinfo(dtype).max
    vocabulary = np.array([0, 1, largest - 1, largest], dtype=dtype)
    tokens, starts, train, test, Y, weight = text_case(3, lengths=(60, 40), vocabulary=vocabulary)
    got = NgramTable(5).fit(tokens, starts, train, Y, weight).predict_proba(tokens, starts, test)
    expected = naive_table(tokens, starts, train, test, Y, weight, 5, "post")
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_characters_unseen_in_training_get_the_mean():
    tokens, starts = np.array([0, 0, 0, 7]), np.array([0, 3, 4])
    Y = np.array([[True], [False], [False]])
    table = NgramTable(3).fit(tokens, starts, np.arange(3), Y, np.ones((3, 1)))
    np.testing.assert_allclose(table.predict_proba(tokens, starts, np.array([3])), [[1 / 3]])


def test_balanced_table_without_context_is_undecided():
    """Rounding must not turn a constant prediction of 1/2 into a vote for either class."""
    tokens, starts, train, _, Y, weight = text_case(2, n_characters=90, lengths=(3000, 3000), n_hypotheses=20)
    mean = NgramTable(3).fit(tokens, starts, train, Y, weight).means_[0]
    assert (at_even_odds(mean, mean[0]) == 0.5).all()


@pytest.mark.parametrize("balanced", [False, True])
def test_one_class_gives_certainty_and_no_class_gives_nan(balanced):
    tokens, starts = np.array([0, 1, 0, 1]), np.array([0, 4])
    Y = np.array([[1, 0, 1]] * 4, dtype=bool)
    weight = np.array([[1, 1, 0]] * 4)
    table = NgramTable(1).fit(tokens, starts, np.arange(4), Y, weight)
    got = table.predict_proba(tokens, starts, np.arange(4))
    got = at_even_odds(got, table.means_[0][0]) if balanced else got
    np.testing.assert_array_equal(got, [[1, 0, np.nan]] * 4)


def test_block_size_does_not_change_predictions(monkeypatch):
    tokens, starts, train, test, Y, weight = text_case(9, n_characters=2, lengths=(300, 200))
    whole = NgramTable(2).fit(tokens, starts, train, Y, weight).predict_proba(tokens, starts, test)
    monkeypatch.setattr("gatescope.analysis.baselines._BLOCK_ROWS", 7)
    blocks = NgramTable(2).fit(tokens, starts, train, Y, weight).predict_proba(tokens, starts, test)
    np.testing.assert_array_equal(whole, blocks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": -1}, "context length"),
        ({"alignment": "mid"}, "alignment"),
    ],
)
def test_invalid_settings_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        NgramTable(**arguments)


@pytest.mark.parametrize(("n_positive", "majority"), [(3, False), (8, True), (5, False), (0, False), (10, True)])
def test_majority_f1_is_the_better_constant_predictor(n_positive, majority):
    y = np.arange(10) < n_positive
    counts = np.array([n_positive, 10 - n_positive, 0, 0])
    constant = [f1_score(y, np.full(10, answer), zero_division=0) for answer in (majority, True)]
    assert majority_f1(counts) == pytest.approx(max(constant), rel=1e-12)


def test_majority_f1_depends_on_labels_only_and_is_nan_without_rows():
    counts = np.array([[3, 1, 2, 4], [0, 4, 5, 1], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(majority_f1(counts), [2 * 0.5 / 1.5, 2 * 0.5 / 1.5, 1, np.nan])
