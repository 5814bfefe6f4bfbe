"""The control task: how much of a score comes from the probe's own capacity to memorise (Hewitt & Liang, 2019).

Every type, a string of three characters, gets one random label that it keeps everywhere, in the training and in the
test rows. Such labels carry no information about the text, so whatever a probe scores on them it has memorised. The
probe's selectivity is its score on the hypothesis minus its score on the control task.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from gatescope.analysis.estimators import decision_values
from gatescope.analysis.labels import Labels
from gatescope.analysis.last_characters import last_characters
from gatescope.analysis.probe_config import CONTROL_DRAWS
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.split import Fold
from gatescope.analysis.study import Study

CONTEXT = 3  # characters of a type; few longer ones would recur


def ngram_types(
    tokens: np.ndarray, sequence_starts: np.ndarray, rows: np.ndarray, alignment: str = "post"
) -> np.ndarray:
    """The last three characters that the state of each row has read, as one id.

    Args:
        tokens, sequence_starts, rows, alignment: as for `last_characters`.

    Returns:
        [n] int64 ids from 0, equal where the three characters are equal.
    """
    types = np.zeros(len(rows), dtype=np.int64)
    for character in last_characters(tokens, sequence_starts, rows, CONTEXT, alignment):
        types = np.unique((types << 32) | character, return_inverse=True)[1]
    return types


def control_labels(
    types: np.ndarray, Y: np.ndarray, weight: np.ndarray, train: np.ndarray, seed: int | tuple[int, ...]
) -> np.ndarray:
    """Draw labels that depend on the type alone from each hypothesis's own labels.

    A type's label is that of a training row drawn at random among those where the hypothesis is defined, so frequent
    labels stay frequent and continuous hypotheses keep their values. A type draws the same row position for every
    hypothesis, so the control of a hypothesis does not depend on which others are tested with it.

    Args:
        types: [n] ids from 0 of all rows, training and test.
        Y: [n, K] labels, bool or continuous.
        weight: [n, K], zero where a label is undefined. Use it for the control labels too.
        train: [m] positions of the training rows in 0 ... n - 1.
        seed: of the draws.

    Returns:
        [n, K] labels of Y's dtype, at all rows; zero for a hypothesis without a defined training row.
    """
    quantile = np.random.default_rng(seed).random(int(types.max(initial=0)) + 1)
    control = np.zeros_like(Y)
    for k in range(Y.shape[1]):
        defined = train[weight[train, k] > 0]
        if len(defined):
            drawn = defined[(quantile * len(defined)).astype(np.int64)]
            control[:, k] = Y[drawn, k][types]
    return control


def control_task(
    study: Study, fold: Fold, model: Any, labels: Labels, X_train: Any, X_test: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a probe to the control task of each hypothesis: random labels of the last three characters.

    There are `CONTROL_DRAWS` draws of such labels, all fitted at once: a single draw would be too noisy.

    Args:
        study: the dump, whose text is known, and the settings.
        fold: the training and test rows.
        model: an estimator with the settings of the probe; it is not changed.
        labels: K hypotheses.
        X_train, X_test: states of the fold's rows.

    Returns:
        The control labels and the decision values of the n test rows, [n, draws * K] each.
    """
    rows, n_train, tokens = np.concatenate([fold.train_rows, fold.test_rows]), len(fold.train_rows), study.dump.tokens
    assert tokens is not None
    types = ngram_types(tokens, study.dump.document_starts, rows, study.config.alignment)
    values, defined = labels.values[rows], labels.defined[rows]
    draws = [
        control_labels(types, values, defined, np.arange(n_train), (study.seed, draw)) for draw in range(CONTROL_DRAWS)
    ]
    control, weight = np.concatenate(draws, axis=1), np.tile(defined[:n_train].astype(np.float32), CONTROL_DRAWS)
    penalty = np.tile(np.broadcast_to(model.C, labels.values.shape[1]), CONTROL_DRAWS)
    fitted = clone(model).set_params(C=penalty).fit(X_train, control[:n_train], sample_weight=weight)
    return control[n_train:], decision_values(fitted, X_test)


def control_score(scorer: Scorer, control: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Return the mean AUROC (R2 if continuous) over the draws of `control_task`, [K]; NaN where no draw has one.

    F1 would depend on how often the random labels happen to be positive: a frequent type decides that.

    Args:
        scorer: of the n rows.
        control, predicted: [n, draws * K], labels and decision values.
        defined: [n, K] bool.
    """
    scores = scorer.score(control, predicted, np.tile(defined, CONTROL_DRAWS)).reshape(CONTROL_DRAWS, -1)
    return np.asarray(np.ma.masked_invalid(scores).mean(axis=0).filled(np.nan))
