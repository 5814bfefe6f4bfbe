"""The influence of each sequence on a score, from which two results on the same text are compared.

The influence of a sequence is the derivative of the score with respect to the weight of its characters, at 1 (the
infinitesimal jackknife of Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982; for AUROC it is what
Obuchowski, Nonparametric Analysis of Clustered ROC Curve Data, Biometrics 53, 1997, sums over clusters). The influences
of all sequences sum to 0, and the squares of those of a difference sum to its variance. So one number for each sequence
and hypothesis is enough, where a bootstrap would need every prediction of both probes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatescope.analysis.metrics import MOMENTS, WHOLE, moment_metrics
from gatescope.analysis.ordering import pairs_won


def auroc_influence(
    Y: np.ndarray,
    score: np.ndarray,
    defined: np.ndarray,
    sequence_ids: np.ndarray,
    parts: Sequence[slice] = WHOLE,
) -> np.ndarray:
    """Influence of each sequence on AUROC; its weight counts in every pair that has one of its characters.

    Args:
        Y: [n, K] bool labels.
        score: [n, K], the higher, the likelier.
        defined: [n, K] bool.
        sequence_ids: [n] integers, the sequence of each row.
        parts: parts of the rows, each with scores of one probe; rows of different parts never form a pair.

    Returns:
        float64 [S, K], S distinct ids, sorted; NaN where there is no AUROC.
    """
    distinct, sequence = np.unique(sequence_ids, return_inverse=True)
    found = np.full((len(distinct), Y.shape[1]), np.nan)
    for k in range(Y.shape[1]):
        won, pairs = np.zeros((2, len(distinct)))
        for part in parts:
            rows = defined[part, k]
            y, s, ids = Y[part, k][rows], score[part, k][rows], sequence[part][rows]
            if np.isnan(s).any():
                pairs[:] = 0
                break
            n_positive = int(y.sum())
            won += np.bincount(ids, pairs_won(y, s), len(distinct))
            pairs += np.bincount(ids, np.where(y, len(y) - n_positive, n_positive), len(distinct))
        # Each pair is counted twice, once at each of its rows.
        total = pairs.sum() / 2
        if total > 0:
            found[:, k] = (won - won.sum() / pairs.sum() * pairs) / total
    return found


def r2_influence(moments: np.ndarray) -> np.ndarray:
    """Influence of each sequence on R2.

    Args:
        moments: [S, K, 7], as `metrics.moments_by_sequence` returns them.

    Returns:
        float64 [S, K]; NaN where there is no R2.
    """
    # The targets are centred at their mean; to first order, a change of the mean does not change R2.
    square, residual_square = (moments[..., MOMENTS.index(name)] for name in ("tt", "residual_square"))
    r2 = moment_metrics(moments.sum(axis=0))["r2"]
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((1 - r2) * square - residual_square) / square.sum(axis=0)
