"""How much states tell of a hypothesis to a linear probe that is fitted on them, however they came about."""

from __future__ import annotations

import numpy as np

from gatescope.analysis.ordering import auroc
from gatescope.analysis.split import split_sequences
from gatescope.engine.ridge import RidgeProbes


def told_anew(X: np.ndarray, holds: np.ndarray, sequence: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """Return how well a linear probe that is fitted on these states themselves tells a hypothesis: AUROC.

    The groups of sequences are halved. A least-squares probe of each half says something of the other, and characters
    are compared within the halves.

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
    labels, said = [], []
    for fitted, tested in (halves, halves[::-1]):
        of_fit, of_test = (np.isin(sequence, half) for half in (fitted, tested))
        if len(np.unique(holds[of_fit])) < 2:
            return np.nan
        probe = RidgeProbes().fit(X[of_fit], holds[of_fit].astype(np.float64))
        labels.append(holds[of_test])
        said.append(probe.predict(X[of_test]))
    parts = slice(0, len(said[0])), slice(len(said[0]), None)
    Y, score = np.concatenate(labels)[:, None], np.concatenate(said)[:, None]
    return float(auroc(Y, score, np.ones(Y.shape, bool), parts)[0])
