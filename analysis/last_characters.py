"""The last characters that a state has read, and a probe of them in the place of the state.

What is linear in single characters, a linear probe finds in every state that tells its last characters apart. A table
of contexts (`gatescope.analysis.baselines`) counts each by itself, and does not find it where they are rare: of one-hot
codes of the last five characters as states, in text that a model of 1.7 nats wrote, 3 of 13 hypotheses lay above the
table with the whole interval.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from gatescope.analysis.split import sequence_ids_of
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.ridge import RidgeProbes

LONGEST_CONTEXT = 5  # characters
# The character that stands before every sequence; real characters are shifted up by one.
BEFORE_START = 0
MOST_CHARACTERS = 128  # that have columns of their own, the most frequent
MOST_BYTES = 256 << 20  # of codes: of training rows, evenly spaced, that tell a few hundred coefficients well
# Test rows that have columns at a time.
_BLOCK_ROWS = 1 << 16


def last_characters(
    tokens: np.ndarray, sequence_starts: np.ndarray, rows: np.ndarray, k: int, alignment: str = "post"
) -> np.ndarray:
    """The last k characters that the state of each row has read, the newest first.

    Args:
        tokens: [N] character ids, non-negative integers below 2^32 - 1.
        sequence_starts: [S + 1] first row of each sequence, then N.
        rows: [n] row indices.
        k: number of characters, 0 or more.
        alignment: "post" where a row's state has read its own character, "pre" where it has not.

    Returns:
        [k, n] uint32 character ids plus 1; 0 stands for everything before the row's sequence.
    """
    rows = np.asarray(rows, dtype=np.int64)
    first = np.asarray(sequence_starts, dtype=np.int64)[sequence_ids_of(rows, sequence_starts)]
    newest = rows if alignment == "post" else rows - 1
    characters = np.empty((k, len(rows)), dtype=np.uint32)
    for back in range(k):
        position = newest - back
        shifted = np.asarray(tokens[np.maximum(position, 0)], dtype=np.int64) + 1
        characters[back] = np.where(position >= first, shifted, BEFORE_START)
    return characters


class CharacterProbe:
    """A linear probe of one-hot codes of the last five characters, with C = 1; a rare character has the code of none.

    Args:
        weighting: "plain", "balanced", or "none" for continuous hypotheses, as the probe's that it stands beside.
        alignment: "post" where a row's state has read its own character, "pre" where it has not.
    """

    def __init__(self, weighting: str, alignment: str = "post") -> None:
        self._model: LogisticProbes | RidgeProbes = RidgeProbes()
        if weighting != "none":
            self._model = LogisticProbes(class_weight="balanced" if weighting == "balanced" else None)
        self._alignment = alignment

    def fit(
        self, tokens: np.ndarray, sequence_starts: np.ndarray, rows: np.ndarray, Y: np.ndarray, weight: np.ndarray
    ) -> CharacterProbe:
        """Fit the training rows; arguments as those of `gatescope.analysis.baselines.NgramTable.fit`."""
        characters, counts = np.unique(last_characters(tokens, sequence_starts, rows, 1), return_counts=True)
        self._characters = np.sort(characters[np.argsort(-counts, kind="stable")[:MOST_CHARACTERS]])
        row_bytes = LONGEST_CONTEXT * (len(self._characters) + 1) * np.dtype(np.float16).itemsize
        some = np.arange(0, len(rows), -(-len(rows) * row_bytes // MOST_BYTES))
        X = self._columns(tokens, sequence_starts, rows[some])
        self._model.fit(X, Y[some], sample_weight=weight[some].astype(np.float32))
        return self

    def predict_proba(self, tokens: np.ndarray, sequence_starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Probability of the positive label at each row, or the expected value of a continuous one, [m, K]."""
        parts, logistic = [], isinstance(self._model, LogisticProbes)
        for start in range(0, len(rows), _BLOCK_ROWS):
            X = self._columns(tokens, sequence_starts, rows[start : start + _BLOCK_ROWS])
            parts.append(expit(self._model.decision_function(X)) if logistic else self._model.predict(X))
        return np.concatenate(parts)

    def _columns(self, tokens: np.ndarray, sequence_starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A column for each character at each place, float16 [n, 5 * (characters + 1)]; the first of a place: none."""
        n = len(self._characters) + 1
        X, each = np.zeros((len(rows), LONGEST_CONTEXT * n), np.float16), np.arange(len(rows))
        found = last_characters(tokens, sequence_starts, rows, LONGEST_CONTEXT, self._alignment)
        for back, characters in enumerate(found):
            place = np.minimum(np.searchsorted(self._characters, characters), n - 2)
            X[each, back * n + np.where(self._characters[place] == characters, place + 1, 0)] = 1
        return X
