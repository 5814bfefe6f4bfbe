"""How many of the first units come first again, against resamples written out row by row."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from gatescope.analysis import unit_overlap
from gatescope.analysis.labels import Labels
from gatescope.analysis.unit_overlap import N_RESAMPLES, top_units_overlap
from gatescope.engine.irls import LogisticProbes

S, T, H = 30, 40, 12
TRAINED = np.flatnonzero(np.arange(S) % 5 > 0)


@pytest.fixture
def case():
    """Units 0 to 3 predict the first label, each less well than the one before, and none the second."""
    rng = np.random.default_rng(0)
    states, planted = rng.normal(size=(S * T, H)).astype(np.float16), np.repeat(rng.random(S * T // 5) < 0.3, 5)
    states[:, :4] += (planted[:, None] * np.linspace(1.0, 0.6, 4)).astype(np.float16)
    values = np.stack([planted, np.repeat(rng.random(S * T // 5) < 0.3, 5), planted], axis=1)
    defined = np.stack([np.arange(S * T) % 3 > k for k in (-1, 0, -1)], axis=1)
    rows = (TRAINED[:, None] * T + np.arange(T)).ravel()
    dump = SimpleNamespace(sequence_starts=np.arange(S + 1) * T)
    study = SimpleNamespace(train_rows=rows, dump=dump, group_of=np.arange(S), seed=3)
    return study, Labels((), values, defined), states[rows]


@pytest.mark.parametrize("kind", ["auroc", "correlation", "weight"])
def test_the_share_is_the_mean_over_resamples_of_sequences(case, kind, monkeypatch):
    study, labels, states = case
    if kind == "correlation":
        labels = Labels((), 3 * labels.values + 0.5, labels.defined)
    monkeypatch.setattr(unit_overlap, "UNITS_AT_ONCE", 5)
    X, Y, defined = states.astype(float), labels.values[study.train_rows], labels.defined[study.train_rows]
    n, ranks = len(TRAINED), rankdata(states, axis=0)

    def first(sequences, k):
        rows = (np.asarray(sequences)[:, None] * T + np.arange(T)).ravel()
        rows = rows[defined[rows, k]]
        if kind == "weight":
            importance = np.abs(LogisticRegression(tol=1e-8).fit(X[rows], Y[rows, k]).coef_[0])
        elif kind == "auroc":
            holds = Y[rows, k]
            importance = np.abs(ranks[rows][holds].mean(axis=0) - ranks[rows][~holds].mean(axis=0))
        else:
            importance = np.abs([np.corrcoef(Y[rows, k], unit)[0, 1] for unit in X[rows].T])
        return np.argsort(-importance)[:4]

    order = np.stack([first(range(n), k) for k in range(3)])
    order[2] = -1
    found = top_units_overlap(study, LogisticProbes(), labels, states, kind, order)
    drawn = np.random.default_rng(3).integers(n, size=(N_RESAMPLES, n))
    for k in range(2):
        expected = [len(set(first(sequences, k)) & set(order[k])) / 4 for sequences in drawn]
        assert found[k] == pytest.approx(np.mean(expected), abs=1e-12)
    # A chance label does not have the same first units again and again, and one that was not fitted has none.
    assert found[1] < 0.8 < 0.95 < found[0] and np.isnan(found[2])


def test_resamples_without_a_positive_are_left_out(case):
    study, labels, states = case
    # It holds in one training sequence, which a third of the resamples lack; then it holds nowhere.
    values = labels.values & (np.arange(S * T) // T == TRAINED[0])[:, None]
    values[:, 1] = False
    order = np.tile(np.arange(4), (3, 1))
    found = top_units_overlap(study, None, Labels((), values, labels.defined), states, "auroc", order)
    assert 0 < found[0] <= 1 and np.isnan(found[1])


def test_one_document_cannot_be_resampled(case):
    study, labels, states = case
    study.group_of = np.zeros(S, int)
    assert np.isnan(top_units_overlap(study, None, labels, states, "auroc", np.zeros((3, 2), int))).all()


def test_correlations_equal_numpy_on_resampled_rows():
    rng = np.random.default_rng(1)
    # Far from zero, with few rows in each resample, so that means differ from those of all rows.
    x, Y = rng.normal(50, 1, size=(60, 3)), rng.normal(7, 2, size=(60, 2))
    defined, times = rng.random((60, 2)) < 0.8, rng.integers(0, 3, (4, 60)).astype(np.float32)
    times[0, 9:] = 0
    times[0, :9] += 1
    found = unit_overlap._correlations(x, Y, defined, times)
    for draw, k, unit in np.ndindex(found.shape):
        rows = np.repeat(np.arange(60), (times[draw] * defined[:, k]).astype(int))
        expected = abs(np.corrcoef(Y[rows, k], x[rows, unit])[0, 1])
        assert found[draw, k, unit] == pytest.approx(expected, abs=1e-5)
