"""The probe of the last characters against scikit-learn's on one-hot codes made character by character."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from gatescope.analysis import last_characters
from gatescope.analysis.last_characters import CharacterProbe

STARTS = np.arange(0, 3001, 30)
N = STARTS[-1]


def one_hot(tokens, rows, alignment, kept):
    """Codes of the last five characters: a column for each of some characters, one for all others."""
    X = np.zeros((len(rows), 5, len(kept) + 1))
    for i, row in enumerate(rows):
        for back in range(5):
            place = row - back - (alignment == "pre")
            read = tokens[place] + 1 if place >= row // 30 * 30 else 0
            X[i, back, kept.index(read) + 1 if read in kept else 0] = 1
    return X.reshape(len(rows), -1)


@pytest.mark.parametrize("alignment", ["post", "pre"])
@pytest.mark.parametrize("weighting", ["plain", "balanced", "none"])
def test_predictions_are_those_of_scikit_learn(weighting, alignment, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(last_characters, "MOST_CHARACTERS", 4)
    monkeypatch.setattr(last_characters, "_BLOCK_ROWS", 100)
    tokens = rng.choice(8, N, p=[0.3, 0.02, 0.2, 0.03, 0.2, 0.02, 0.2, 0.03]).astype(np.uint8)
    rows = rng.permutation(N)
    train, test = rows[:2200], rows[2200:]
    value = rng.normal(size=(N, 2)) + np.stack([tokens == 2, np.roll(tokens, 2) == 4], axis=1)
    Y = value if weighting == "none" else value > 0.8
    weight = rng.random((N, 2)) < 0.8
    probe = CharacterProbe(weighting, alignment).fit(tokens, STARTS, train, Y[train], weight[train])
    found = probe.predict_proba(tokens, STARTS, test)
    X = one_hot(tokens, np.arange(N), alignment, [1, 3, 5, 7])
    for k in range(2):
        own = train[weight[train, k]]
        if weighting == "none":
            expected = Ridge(alpha=1.0).fit(X[own], Y[own, k]).predict(X[test])
        else:
            classes = "balanced" if weighting == "balanced" else None
            model = LogisticRegression(class_weight=classes, solver="newton-cholesky", tol=1e-10).fit(X[own], Y[own, k])
            expected = model.predict_proba(X[test])[:, 1]
        np.testing.assert_allclose(found[:, k], expected, atol=2e-3)


def test_many_rows_are_fitted_by_some_of_them_evenly_spaced(monkeypatch):
    rng = np.random.default_rng(1)
    tokens, y, rows = rng.integers(5, size=N).astype(np.uint8), rng.random((N, 1)) < 0.3, np.arange(N)
    everywhere = np.ones((N, 1))
    expected = CharacterProbe("plain").fit(tokens, STARTS, rows[::3], y[::3], everywhere[::3])
    # Of 5 places with 6 columns of 2 bytes each, 1,000 rows.
    monkeypatch.setattr(last_characters, "MOST_BYTES", 60_000)
    found = CharacterProbe("plain").fit(tokens, STARTS, rows, y, everywhere)
    of_all, of_some = (each.predict_proba(tokens, STARTS, rows) for each in (expected, found))
    np.testing.assert_array_equal(of_all, of_some)


def test_one_class_and_no_label_predict_without_telling_rows_apart():
    tokens, rows = np.zeros(N, np.uint8), np.arange(N)
    Y, weight = np.stack([rows >= 0, rows % 2 == 0], axis=1), np.stack([rows >= 0, rows < 0], axis=1)
    found = CharacterProbe("plain").fit(tokens, STARTS, rows, Y, weight).predict_proba(tokens, STARTS, rows)
    np.testing.assert_array_equal(found, np.broadcast_to(found[0], (N, 2)))
