"""The AUROC of a linear probe fitted anew to some states, such as those before and after an erasure."""

from __future__ import annotations

import numpy as np

from gatescope.analysis.ordering import auroc
from gatescope.analysis.split import split_sequences
from gatescope.engine.ridge import RidgeProbes


def refitted_auroc(X: np.ndarray, holds: np.ndarray, sequence: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Return the AUROC of a linear probe fitted to these states.

    The groups of sequences are split in half. A least-squares probe of each half predicts the other, and characters are
    compared within a half.

    Args:
        X: states [n, D].
        holds: [n] bool.
        sequence: [n] the sequence of each state.
        groups: [S] the group of each sequence; a group is not divided.
        seed: of the split into halves.

    Returns:
        The AUROC; NaN if there is only one sequence, if the hypothesis holds everywhere or nowhere in a half, or if a
        state is not finite.
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
