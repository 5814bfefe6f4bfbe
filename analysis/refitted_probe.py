"""How well a linear probe that is fitted anew to some states predicts a hypothesis: before erasure, and after it."""

from __future__ import annotations

import numpy as np

from gatescope.analysis.ordering import auroc
from gatescope.analysis.split import split_sequences
from gatescope.engine.ridge import RidgeProbes


def refitted_auroc(X: np.ndarray, holds: np.ndarray, sequence: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Return the AUROC of a linear probe that is fitted to these states themselves.

    The groups of sequences are halved. A least-squares probe of each half predicts the other, and characters are
    compared within the halves.

    Args:
        X: states [n, D].
        holds: [n] bool.
        sequence: [n] the sequence of each.
        groups: [S] of each sequence: what belongs together is not divided.
        seed: of the halves.

    Returns:
        NaN where there is one sequence, a half in which the hypothesis holds everywhere or nowhere, or a state that is
        not finite.
    """
    if len(groups) < 2 or not np.isfinite(X).all():
        return np.nan
    halves = split_sequences(np.unique(groups, return_inverse=True)[1], 0.5, seed)
    labels, predicted = [], []
    for fitted, tested in (halves, halves[::-1]):
        of_fit, of_test = (np.isin(sequence, half) for half in (fitted, tested))
        if len(np.unique(holds[of_fit])) < 2:
            return np.nan
        probe = RidgeProbes().fit(X[of_fit], holds[of_fit].astype(np.float64))
        labels.append(holds[of_test])
        predicted.append(probe.predict(X[of_test]))
    parts = slice(0, len(predicted[0])), slice(len(predicted[0]), None)
    Y, score = np.concatenate(labels)[:, None], np.concatenate(predicted)[:, None]
    return float(auroc(Y, score, np.ones(Y.shape, bool), parts)[0])
