"""The control task: how much of a score is the probe's own power to memorise (Hewitt & Liang, 2019).

Every type, a string of three characters, gets one random label that it keeps everywhere, in the training and in the
test rows. Such labels say nothing about the text, so whatever a probe scores on them it learnt by heart; its
selectivity is the score on the hypothesis minus the score on the hypothesis's control.
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

CONTEXT = 3  # characters that make a type; of more, few types would recur


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
    """Labels that depend on the type alone, drawn from each hypothesis's own labels.

    A type's label is that of a training row drawn at random among those where the hypothesis is defined, so frequent
    labels stay frequent and continuous hypotheses keep their values. A type draws the same row position for every
    hypothesis, so the control of a hypothesis does not depend on which others are tested beside it.

    Args:
        types: [n] ids from 0 of all rows, training and test.
        Y: [n, K] labels, bool or continuous.
        weight: [n, K], zero where a label is undefined. Use it for the control labels too.
        train: [m] positions of the training rows in 0 ... n - 1.
        seed: of the draws.

    Returns:
        [n, K] labels of Y's dtype, everywhere; those of a hypothesis without a defined training row are Y's own zero.
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
    """Fit a probe to the control task of each hypothesis: labels that the last three characters decide, at random.

    There are `CONTROL_DRAWS` draws of such labels, all fitted at once: a single one would tell little.

    Args:
        study: the rows, of a dump whose text is known.
        fold: the rows.
        model: an estimator with the settings of the probe; it is left as it is.
        labels: K hypotheses.
        X_train, X_test: states of the fold's rows.

    Returns:
        The labels of the n test rows and their decision values, [n, draws * K] each.
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
    """Return the mean AUROC, or R2 of continuous hypotheses, of the draws of `control_task`, [K]; NaN where none has.

    F1 would be a matter of luck, of how often random labels hold: a frequent type has them all.

    Args:
        scorer: of the n rows.
        control, predicted: [n, draws * K], labels and decision values.
        defined: [n, K] bool.
    """
    scores = scorer.score(control, predicted, np.tile(defined, CONTROL_DRAWS)).reshape(CONTROL_DRAWS, -1)
    return np.asarray(np.ma.masked_invalid(scores).mean(axis=0).filled(np.nan))
