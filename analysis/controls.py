"""Controls for the hypotheses of one kind on one state set: other explanations of a score than knowledge.

They are an untrained network, a split by characters, shifted labels, and description length; the control task is in
`gatescope.analysis.control_task`. Each costs several fits, so they are computed only on request.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from gatescope.analysis.description_length import cut_points, online_description_length
from gatescope.analysis.estimators import decision_values
from gatescope.analysis.labels import Labels
from gatescope.analysis.significance import shift_test
from gatescope.analysis.split import Fold, rows_of
from gatescope.analysis.study import Study
from gatescope.analysis.units_alone import UNITS_AT_ONCE, column_sd, rank_differences, ranks_of
from gatescope.engine.arrays import to_host

N_SHIFTS = 200


def untrained_model(study: Study, fold: Fold, model: Any, name: str, labels: Labels) -> Any:
    """Return the same probes, fitted to the states of a network of random weights.

    Small random weights give small states. So that the penalty does not hold their coefficients down, C is divided by
    the mean variance of the units. On 80,000 states of 256 units that raised the AUROC of 11 of 12 hypotheses, by up to
    .05, and lowered one by .005; ten times that C adds at most .02.

    Args:
        study: states of an untrained network.
        fold: the training and test rows.
        model: an estimator with the settings of the probe; it is not changed.
        name: the state set.
        labels: K hypotheses.
    """
    X = study.states(name, fold.train, study.untrained)
    # If no unit ever changes, C does not matter.
    variance = float((column_sd(X) ** 2).mean()) or 1.0
    weight = labels.defined[fold.train_rows].astype(np.float32)
    return clone(model).set_params(C=model.C / variance).fit(X, labels.values[fold.train_rows], sample_weight=weight)


def character_split(study: Study, model: Any, name: str, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Predict with a probe whose test characters are drawn at random from all, so that their neighbours train it.

    Neighbouring characters share most of their state and most labels. How much better this probe is than the probe of
    whole sequences, at characters that neither was fitted on, is how much a split by characters would leak.

    Args:
        study: the rows and states.
        model: an estimator with the settings of the probe; it is not changed.
        name: the state set.
        labels: K hypotheses.

    Returns:
        The predictions for the n rows of the test sequences, [n, K] logits or values, and which rows it was not fitted
        on, bool [n].
    """
    X, (n_rows, _) = study.states(name, np.arange(len(study.group_of))), labels.values.shape
    share = len(study.test) / len(study.group_of)
    tested = np.less(np.random.default_rng(study.seed).random(n_rows), share)
    weight = (labels.defined & ~tested[:, None]).astype(np.float32)
    predicted = decision_values(clone(model).fit(X, labels.values, sample_weight=weight), X)
    return predicted[study.tested_rows], tested[study.tested_rows]


def best_unit_p(study: Study, labels: Labels, X_train: Any) -> np.ndarray:
    """How often uninformative labels have a unit that separates them as well as the best one does, [K].

    The statistic is the largest |AUROC - 1/2| over all units (with undefined rows, from ranks among all rows). The
    uninformative labels are the hypothesis's own, shifted circularly within their sequences.

    Args:
        study: the rows.
        labels: K boolean hypotheses.
        X_train: [n, H], states of the training rows, in memory or read in pieces.
    """

    def statistics() -> Iterator[Callable[[np.ndarray, np.ndarray], np.ndarray]]:
        for left in range(0, X_train.shape[1], UNITS_AT_ONCE):
            ranks = ranks_of(to_host(X_train[:, left : left + UNITS_AT_ONCE]))
            yield functools.partial(_largest_difference, ranks)

    rows, starts = study.train_rows, study.dump.sequence_starts
    return shift_test(statistics(), labels.values[rows], labels.defined[rows], rows, starts, N_SHIFTS, study.seed)


def _largest_difference(ranks: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The largest difference of mean ranks over all units, [K]."""
    return rank_differences(ranks, Y, weight).max(axis=1)


def compression(study: Study, model: Any, name: str, labels: Labels) -> np.ndarray:
    """How many times shorter the online code of the training labels is than the code from their prevalence alone, [K].

    Args:
        study: the rows and states.
        model: an estimator with the settings of the plain probe; it is not changed.
        name: the state set.
        labels: K boolean hypotheses.
    """
    all_starts = study.dump.sequence_starts
    # In the order of the file, the first texts may differ in kind from the others.
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
