"""The choice of each hypothesis's penalty among several: the one with the least loss on held-out sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gatescope.analysis.estimators import Estimator, decision_values
from gatescope.analysis.labels import Labels
from gatescope.analysis.split import Fold, folds_of
from gatescope.analysis.study import Study
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes

N_PARTS = 5


def best_penalty(
    study: Study, fold: Fold, model: Estimator, name: str, labels: Labels, Cs: Sequence[float]
) -> np.ndarray:
    """Choose C for each hypothesis by grouped cross-validation on the training sequences of a fold.

    The sequences are divided into five parts, and probes fitted on four predict the fifth. The loss is the one that the
    fit minimises, without its penalty, summed over all parts: log-loss, with both classes weighing the same if they do
    in the fit, or squared errors for continuous hypotheses.

    Args:
        study: the rows and states.
        fold: the fold whose training sequences are used.
        model: an estimator with the other settings of the probe; it is not changed.
        name: the state set.
        labels: K hypotheses.
        Cs: the values to choose from.

    Returns:
        [K] float64; if losses are equal, the least C.

    Raises:
        InputError: there is only one training sequence, which cannot be divided.
    """
    Cs, (groups, lengths) = sorted(Cs), (study.group_of[fold.train], np.diff(study.dump.sequence_starts)[fold.train])
    if len(groups) < 2:
        raise InputError(
            "several values of --C need at least 2 training sequences, but there is only one: give one value"
        )
    groups = np.unique(groups, return_inverse=True)[1]
    n_parts = min(N_PARTS, int(groups.max()) + 1 if groups.max() else len(groups))
    Y, defined = labels.values[fold.train_rows], labels.defined[fold.train_rows]
    weight, losses = _weights(model, Y, defined), np.zeros((len(Cs), Y.shape[1]))
    for part in folds_of(groups, np.append(0, np.cumsum(lengths)), 1 / n_parts, n_parts, study.seed):
        rows, unseen = part.train_rows, part.test_rows
        X = study.states(name, fold.train[part.train])
        path: Sequence[Any] = model.fit_path(X, Y[rows], Cs, sample_weight=defined[rows].astype(np.float32))
        X = study.states(name, fold.train[part.test])
        for place, fitted in enumerate(path):
            loss = np.where(defined[unseen], _loss(fitted, X, Y[unseen]), 0)
            of_part = (loss * weight[unseen]).sum(axis=0)
            # If the other parts have one class only, there is no probe, whatever C.
            losses[place] += np.where(np.isfinite(of_part), of_part, 0)
    return np.asarray(Cs)[losses.argmin(axis=0)]


def _weights(model: Estimator, Y: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """The weight of each label in the fit, [n, K], up to a factor for each hypothesis."""
    if not (isinstance(model, LogisticProbes) and model.class_weight == "balanced"):
        return np.ones(Y.shape, np.float32)
    positive, negative = ((each & defined).sum(axis=0) for each in (Y, ~Y))
    return np.where(Y, 1 / np.maximum(positive, 1), 1 / np.maximum(negative, 1))


def _loss(fitted: Estimator, X: Any, Y: np.ndarray) -> np.ndarray:
    """The loss of each label, [n, K]."""
    predicted = decision_values(fitted, X)
    if isinstance(fitted, LogisticProbes):
        return np.logaddexp(0, np.where(Y, -1, 1) * predicted)
    return (Y - predicted) ** 2
