"""Control labels depend on the type alone, and are drawn from the training labels."""

from __future__ import annotations

import numpy as np
import pytest
from fold_states import S, T, fold_dump, fold_labels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gatescope.analysis.baselines import NgramTable
from gatescope.analysis.control_task import control_labels, control_score, control_task, ngram_types
from gatescope.analysis.probe_config import CONTROL_DRAWS, ProbeConfig
from gatescope.analysis.study import Study
from gatescope.engine.irls import LogisticProbes

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["post", "pre"]))
def test_ngram_types_are_equal_if_their_characters_are(seed, alignment):
    rng = np.random.default_rng(seed)
    starts = np.array([0, 6, 6, 15])
    tokens, rows = rng.integers(0, 3, 15), rng.permutation(15)
    types = ngram_types(tokens, starts, rows, alignment)
    texts = []
    for row in rows:
        start, end = (0 if row < 6 else 6), row + (alignment == "post")
        texts.append(tuple((["before"] * 3 + tokens[start:end].tolist())[-3:]))
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


def test_control_labels_do_not_depend_on_the_other_hypotheses():
    types, Y, weight, train = control_case()
    together = control_labels(types, Y, weight, train, seed=1)
    alone = control_labels(types, Y[:, 1:2], weight[:, 1:2], train, seed=1)
    assert np.array_equal(together[:, 1:2], alone)


def test_labels_of_types_follow_the_training_distribution():
    """20,000 types draw their labels independently: binomial within five standard deviations, and in no order."""
    rng = np.random.default_rng(0)
    Y = rng.random((1000, 1)) < 0.3
    # Labels in long runs, as in text, must not show in the order of the types.
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


def test_a_table_of_types_has_no_selectivity():
    """A memoriser of types scores perfectly on their control labels: the very case a control task exists to detect."""
    rng = np.random.default_rng(1)
    tokens, starts, rows = rng.integers(0, 5, 2000), np.array([0, 1500, 2000]), np.arange(2000)
    Y, weight = rng.random((2000, 1)) < 0.4, np.ones((2000, 1))
    types = ngram_types(tokens, starts, rows)
    train, test = rows[:1500], rows[1500:]
    control = control_labels(types, Y, weight, train, seed=0)
    table = NgramTable(3).fit(tokens, starts, train, control[train], weight[train])
    # The contexts of the first two test rows occur in training once, at its own start, if at all.
    assert np.array_equal(table.predict_proba(tokens, starts, test[2:]) > 0.5, control[test[2:]])


def test_a_control_score_is_the_mean_over_draws_of_random_labels(tmp_path):
    dump = fold_dump(tmp_path / "states.zarr")
    labels = fold_labels(dump)
    study = Study(dump, ProbeConfig(bootstrap=20), seed=3)
    X_train, X_test = (study.states("layer0/h", part).astype(np.float64) for part in (study.train, study.test))
    asked = control_task(study, study.folds[0], LogisticProbes(), labels, X_train, X_test)
    found = control_score(study.scorer, *asked, labels.defined[study.test_rows])
    # Each character and the two before it in its sequence, 0 where there are none.
    tokens = np.pad(np.array(dump.tokens).reshape(S, T) + 1, ((0, 0), (2, 0)))
    triples = 25 * tokens[:, 2:] + 5 * tokens[:, 1:-1] + tokens[:, :-2]
    scores = []
    for draw in range(CONTROL_DRAWS):
        of_rows = [triples[part].ravel() for part in (study.train, study.test)]
        types = np.unique(np.concatenate(of_rows), return_inverse=True)[1]
        numbers = np.random.default_rng((3, draw)).random(types.max() + 1)
        defined = labels.defined[study.train_rows, 1]
        own = labels.values[study.train_rows, 1][defined]
        control = own[(numbers * len(own)).astype(int)][types]
        fitted = LogisticRegression().fit(X_train[defined], control[: len(X_train)][defined])
        tested = labels.defined[study.test_rows, 1]
        scores.append(roc_auc_score(control[len(X_train) :][tested], fitted.decision_function(X_test)[tested]))
    assert np.std(scores) > 0.01 and found[1] == pytest.approx(np.mean(scores), abs=2e-3)
