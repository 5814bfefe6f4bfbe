"""What stands behind a score: how much of it is memory, whether chance finds such units, how cheaply labels are sent.

Five controls for the hypotheses of one kind on one state set: labels at random, random weights, a split by characters,
shifted labels, and description length. They cost several fits each, so they are made when they are asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from gatescope.analysis.control_task import control_labels, ngram_types
from gatescope.analysis.description_length import cut_points, online_description_length
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import CONTROL_DRAWS
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.significance import shift_test
from gatescope.analysis.split import Fold, rows_of
from gatescope.analysis.study import Study
from gatescope.analysis.units_alone import UNITS_AT_ONCE, column_sd, ranks_of
from gatescope.engine.irls import LogisticProbes

N_SHIFTS = 200
CONTEXT = 3  # characters that make a type of the control task; of more, few types would recur


def says(model: Any, X: Any) -> np.ndarray:
    """Return the logits of the positive class, or values of continuous hypotheses, [n, K]."""
    return np.asarray(model.decision_function(X) if isinstance(model, LogisticProbes) else model.predict(X))


def control_task(
    study: Study, fold: Fold, model: Any, labels: Labels, X_train: Any, X_test: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ask a probe of the control task of each hypothesis: labels that the last three characters decide, at random.

    `CONTROL_DRAWS` draws of such labels, all fitted at once: one would tell little.

    Args:
        study: the labels' text; it is known what was read.
        fold: the rows.
        model: an estimator with the settings of the probe; it is left as it is.
        labels: K hypotheses.
        X_train, X_test: states of the fold's rows.

    Returns:
        The labels of the n test rows and what is said of them, [n, draws * K]: logits, or values of continuous
        hypotheses.
    """
    rows, n_train, tokens = np.concatenate([fold.train_rows, fold.test_rows]), len(fold.train_rows), study.dump.tokens
    assert tokens is not None
    types = ngram_types(tokens, study.dump.document_starts, rows, CONTEXT, study.config.alignment)
    values, defined = labels.values[rows], labels.defined[rows]
    draws = [
        control_labels(types, values, defined, np.arange(n_train), (study.seed, draw)) for draw in range(CONTROL_DRAWS)
    ]
    control, weight = np.concatenate(draws, axis=1), np.tile(defined[:n_train].astype(np.float32), CONTROL_DRAWS)
    penalty = np.tile(np.broadcast_to(model.C, labels.values.shape[1]), CONTROL_DRAWS)
    fitted = clone(model).set_params(C=penalty).fit(X_train, control[:n_train], sample_weight=weight)
    return control[n_train:], says(fitted, X_test)


def control_score(scorer: Scorer, control: np.ndarray, said: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Return the mean AUROC, or R2 of continuous hypotheses, of the draws of `control_task`, [K]; NaN where none has.

    By F1 it would be a matter of luck how often random labels hold: a frequent type has them all.

    Args:
        scorer: of the n rows.
        control, said: [n, draws * K], labels and what is said of them.
        defined: [n, K] bool.
    """
    scores = scorer.score(control, said, np.tile(defined, CONTROL_DRAWS)).reshape(CONTROL_DRAWS, -1)
    return np.asarray(np.ma.masked_invalid(scores).mean(axis=0).filled(np.nan))


def untrained_model(study: Study, fold: Fold, model: Any, name: str, labels: Labels) -> Any:
    """Return the same probes, fitted to states of random weights.

    States of small random weights are small. So that the penalty does not hold down what they tell, C is divided by
    the mean variance of the units: on 80,000 states of 256 units that raised the AUROC of 11 of 12 hypotheses, by up to
    .05, and took .005 from one; ten times that C adds at most .02.

    Args:
        study: states of an untrained network.
        fold: the rows.
        model: an estimator with the settings of the probe; it is left as it is.
        name: the state set.
        labels: K hypotheses.
    """
    X = study.states(name, fold.train, study.untrained)
    # Units that never move tell nothing, whatever the penalty.
    variance = float((column_sd(X) ** 2).mean()) or 1.0
    weight = labels.defined[fold.train_rows].astype(np.float32)
    return clone(model).set_params(C=model.C / variance).fit(X, labels.values[fold.train_rows], sample_weight=weight)


def character_split(study: Study, model: Any, name: str, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Ask a probe whose test characters are drawn at random among those that train it.

    Neighbouring characters share most of their state and most labels: how far it lies above the probe of whole
    sequences, at characters that neither was fitted to, is what a split of characters would make of memory.

    Args:
        study: the rows and states.
        model: an estimator with the settings of the probe; it is left as it is.
        name: the state set.
        labels: K hypotheses.

    Returns:
        What it says of the n tested rows, [n, K] logits or values, and at which of them it is tested, bool [n].
    """
    X, (n_rows, _) = study.states(name, np.arange(len(study.group_of))), labels.values.shape
    share = len(study.test) / len(study.group_of)
    tested = np.less(np.random.default_rng(study.seed).random(n_rows), share)
    weight = (labels.defined & ~tested[:, None]).astype(np.float32)
    said = says(clone(model).fit(X, labels.values, sample_weight=weight), X)
    return said[study.tested_rows], tested[study.tested_rows]


def best_unit_p(study: Study, labels: Labels, X_train: Any) -> np.ndarray:
    """How often labels that say nothing have a unit as telling as the best one, [K].

    The statistic is the largest |AUROC - 1/2| of all units (with undefined rows, of ranks among all); labels are
    shifted in circles within their sequences.

    Args:
        study: the rows.
        labels: K boolean hypotheses.
        X_train: [n, H], states of the training rows, in memory or read in pieces.
    """

    def largest_difference(ranks: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
        means = []
        with np.errstate(invalid="ignore"):
            for chosen in (Y & weight, ~Y & weight):
                means.append((chosen.T.astype(np.float32) @ ranks) / chosen.sum(axis=0)[:, None])
        return np.abs(means[0] - means[1]).max(axis=1)

    def of_all() -> Iterator[Callable[[np.ndarray, np.ndarray], np.ndarray]]:
        for left in range(0, X_train.shape[1], UNITS_AT_ONCE):
            ranks = ranks_of(X_train[:, left : left + UNITS_AT_ONCE])
            yield functools.partial(largest_difference, ranks)

    rows, starts = study.train_rows, study.dump.sequence_starts
    return shift_test(of_all(), labels.values[rows], labels.defined[rows], rows, starts, N_SHIFTS, study.seed)[0]


def compression(study: Study, model: Any, name: str, labels: Labels) -> np.ndarray:
    """How many times shorter the online code of the training labels is than the one that knows their prevalence, [K].

    Args:
        study: the rows and states.
        model: an estimator with the settings of the plain probe; it is left as it is.
        name: the state set.
        labels: K boolean hypotheses.
    """
    all_starts = study.dump.sequence_starts
    # In the order of a file the first texts may be of another kind than the others.
    train = np.random.default_rng(study.seed).permutation(study.train)
    rows = rows_of(train, all_starts)
    starts = np.append(0, np.cumsum(all_starts[train + 1] - all_starts[train]))
    Y, defined = labels.values[rows], labels.defined[rows]

    def predict_next(start: int, stop: int) -> np.ndarray:
        first, last = np.searchsorted(starts, [start, stop])
        fitted = clone(model).fit(
            study.states(name, train[:first]), Y[:start], sample_weight=defined[:start].astype(np.float32)
        )
        return np.asarray(fitted.predict_proba(study.states(name, train[first:last])))

    return online_description_length(predict_next, Y, defined, cut_points(starts))["compression_entropy"]
