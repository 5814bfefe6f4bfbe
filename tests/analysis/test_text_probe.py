"""The probe of characters and place, against scikit-learn's on one-hot codes made character by character."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from gatescope.analysis import text_probe
from gatescope.analysis.text_probe import TextProbe

STARTS = np.arange(0, 3001, 30)
# The places of the first columns, as numbers of characters.
PLACES = [2 ** (i / 2) for i in range(11)]
N = STARTS[-1]


def one_hot(tokens, rows, alignment, kept, k):
    """Codes of the last k characters (a column for each kept one and one for the others), and of the place."""
    X, places = np.zeros((len(rows), k, len(kept) + 1)), np.zeros((len(rows), len(PLACES)))
    for i, row in enumerate(rows):
        places[i] = [np.interp(np.log(row % 30 + 1), np.log(PLACES), hat) for hat in np.eye(len(PLACES))]
        for back in range(k):
            place = row - back - (alignment == "pre")
            read = tokens[place] + 1 if place >= row // 30 * 30 else 0
            X[i, back, kept.index(read) + 1 if read in kept else 0] = 1
    return np.concatenate([X.reshape(len(rows), -1), places], axis=1)


@pytest.mark.parametrize("k", [5, 0])
@pytest.mark.parametrize("alignment", ["post", "pre"])
@pytest.mark.parametrize("weighting", ["plain", "balanced", "none"])
def test_predictions_equal_scikit_learn(weighting, alignment, k, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(text_probe, "MOST_CHARACTERS", 4)
    monkeypatch.setattr(text_probe, "_BLOCK_ROWS", 100)
    tokens = rng.choice(8, N, p=[0.3, 0.02, 0.2, 0.03, 0.2, 0.02, 0.2, 0.03]).astype(np.uint8)
    rows = rng.permutation(N)
    train, test = rows[:2200], rows[2200:]
    value = rng.normal(size=(N, 2)) + np.stack([tokens == 2, np.roll(tokens, 2) == 4], axis=1)
    value += (np.arange(N) % 30 < 4)[:, None]
    Y = value if weighting == "none" else value > 0.8
    weight = rng.random((N, 2)) < 0.8
    probe = TextProbe(STARTS, weighting, alignment, k).fit(tokens, STARTS, train, Y[train], weight[train])
    found = probe.predict_proba(tokens, STARTS, test)
    X = one_hot(tokens, np.arange(N), alignment, [1, 3, 5, 7], k)
    for column in range(2):
        own = train[weight[train, column]]
        if weighting == "none":
            expected = Ridge(alpha=1.0).fit(X[own], Y[own, column]).predict(X[test])
        else:
            classes = "balanced" if weighting == "balanced" else None
            model = LogisticRegression(class_weight=classes, solver="newton-cholesky", tol=1e-10)
            expected = model.fit(X[own], Y[own, column]).predict_proba(X[test])[:, 1]
        np.testing.assert_allclose(found[:, column], expected, atol=1e-5)


def test_subsampled_rows_do_not_align_with_sequence_lengths(monkeypatch):
    tokens, rows = np.zeros(N, np.uint8), np.arange(N)
    y = (rows % 30 >= 15)[:, None]
    # One row in 30 is fitted, and sequences have 30 rows: taking every 30th would always hit the same place.
    monkeypatch.setattr(text_probe, "MOST_ROWS", N // 30)
    shapes, fit = [], text_probe.fit_logistic
    monkeypatch.setattr(
        text_probe, "fit_logistic", lambda X, Y, *more, **named: shapes.append(Y.shape) or fit(X, Y, *more, **named)
    )
    probe = TextProbe(STARTS, "plain", k=0).fit(tokens, STARTS, rows, y, np.ones((N, 1)))
    assert shapes == [(N // 30, 1)]
    assert roc_auc_score(y, probe.predict_proba(tokens, STARTS, rows)) > 0.99


def test_one_class_and_no_label_give_constant_predictions():
    tokens, rows = np.zeros(N, np.uint8), np.arange(N)
    Y, weight = np.stack([rows >= 0, rows % 2 == 0], axis=1), np.stack([rows >= 0, rows < 0], axis=1)
    found = TextProbe(STARTS, "plain").fit(tokens, STARTS, rows, Y, weight).predict_proba(tokens, STARTS, rows)
    np.testing.assert_array_equal(found, np.broadcast_to(found[0], (N, 2)))


def test_position_columns_cover_the_longest_text():
    starts, far = np.array([0, 2**40]), np.array([0, 2**31 - 2, 2**31 - 1, 2**39])
    one = np.ones((2, 1, 1), bool)
    probe = TextProbe(starts, "plain", k=0).fit(np.zeros(1, np.uint8), starts, np.zeros(1, int), *one)
    codes = probe._codes(np.zeros(1, np.uint8), starts, far)
    found = codes.predictions(np.eye(codes.n_columns))[:, :-1]
    assert found.argmax(axis=1).tolist() == [0, 62, 62, 63] and (found.sum(axis=1) == 1).all()


def test_context_crosses_sequences_of_a_document_but_position_does_not():
    tokens, rows = np.random.default_rng(2).integers(7, size=N).astype(np.uint8), np.arange(N)
    value = np.stack([rows % 30, np.roll(tokens, 4)], axis=1).astype(float)
    value[:4, 1] = 0
    probe = TextProbe(STARTS, "none").fit(tokens, np.array([0, N]), rows, value, np.ones((N, 2)))
    found = probe.predict_proba(tokens, np.array([0, N]), rows)
    assert np.abs(found[:, 0] - value[:, 0]).max() < 3 and np.abs(found[4:, 1] - value[4:, 1]).max() < 0.1
    cut = TextProbe(STARTS, "none").fit(tokens, STARTS, rows, value, np.ones((N, 2)))
    assert np.abs(cut.predict_proba(tokens, STARTS, rows)[4:, 1] - value[4:, 1]).max() > 1
