"""Metrics of predictions, for all K hypotheses at once.

All metrics are computed from sums per sequence: confusion counts for boolean hypotheses, moments for continuous ones.
Sums over sequences give the metrics, and resampled sums their intervals (`intervals`), without reading the rows again.

A metric whose denominator is empty is NaN, never 0: recall without positives is unknown, and 0 would mean "bad".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

# Order of the last axis of regression moments: weight, then weighted sums of target t, prediction p and their products.
MOMENTS = ("weight", "t", "p", "tt", "pp", "tp", "residual_square")

# All rows in one part.
WHOLE = (slice(None),)

# A centred sum of squares below this share of the uncentred one is rounding error: the values are constant.
_CONSTANT = 1e-12


def confusion_by_sequence(
    Y: np.ndarray, predicted: np.ndarray, weight: np.ndarray, sequence_ids: np.ndarray
) -> np.ndarray:
    """Count true and false positives and negatives of each hypothesis in each sequence.

    Args:
        Y: [n, K] bool labels; of any value where undefined.
        predicted: [n, K] bool predictions.
        weight: [n, K], nonzero where the label is defined; undefined positions are not counted.
        sequence_ids: [n] integers, the sequence of each row.

    Returns:
        [S, K, 4] int64 counts in the order tp, fp, fn, tn. S is the number of distinct ids, sorted.
    """
    n_hypotheses = Y.shape[1]
    distinct, sequence = np.unique(sequence_ids, return_inverse=True)
    counts = np.empty((len(distinct), n_hypotheses, 4), dtype=np.int64)
    # Five cells per sequence; the fifth takes the undefined positions and is dropped.
    first_cell = 5 * sequence
    for k in range(n_hypotheses):
        y, p, defined = (column[:, k].astype(bool) for column in (Y, predicted, weight))
        # (y, p): tp = (1, 1) -> 0, fp = (0, 1) -> 1, fn = (1, 0) -> 2, tn = (0, 0) -> 3.
        cell = np.where(defined, 3 - y.view(np.int8) - 2 * p.view(np.int8), 4)
        filled = np.bincount(first_cell + cell, minlength=5 * len(distinct))
        counts[:, k] = filled.reshape(-1, 5)[:, :4]
    return counts


def classification_metrics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The usual metrics of a boolean prediction, from its confusion counts.

    Definitions are scikit-learn's wherever the metric is defined:
    `precision = tp / (tp + fp)`, `recall = tp / (tp + fn)`, `f1 = 2 tp / (2 tp + fp + fn)`,
    `balanced_accuracy = (tp / (tp + fn) + tn / (tn + fp)) / 2`,
    `mcc = (tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn))` (Matthews, 1975). A metric with an empty
    denominator is NaN, where scikit-learn returns 0 or another substitute. F1 needs only one positive, labelled or
    predicted, so it is 0 if every positive is missed, although the precision is undefined.

    Args:
        counts: [..., 4] tp, fp, fn, tn, integers or floats.

    Returns:
        `accuracy`, `precision`, `recall`, `f1`, `balanced_accuracy`, `mcc`, `prevalence`: float64 [...] each.
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    recall = _ratio(tp, tp + fn)
    return {
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": (recall + _ratio(tn, tn + fp)) / 2,
        "mcc": _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))),
        "prevalence": _ratio(tp + fn, tp + fp + fn + tn),
    }


def moments_by_sequence(
    target: np.ndarray,
    predicted: np.ndarray,
    weight: np.ndarray,
    sequence_ids: np.ndarray,
    parts: Sequence[slice] = WHOLE,
) -> np.ndarray:
    """Sums per sequence from which R2 and Pearson's r of a continuous prediction follow.

    Args:
        target: [n, K] values; anything, even NaN, where undefined.
        predicted: [n, K] values.
        weight: [n, K] >= 0, zero where the target is undefined.
        sequence_ids: [n] integers, the sequence of each row.
        parts: parts of the rows, each with predictions of one probe.

    Returns:
        [S, K, 7] float64 weighted sums in the order of `MOMENTS`; target and prediction are each centred at their mean
        over the rows of the part. S is the number of distinct ids, sorted.
    """
    n_hypotheses = target.shape[1]
    distinct, sequence = np.unique(sequence_ids, return_inverse=True)
    moments = np.zeros((len(distinct), n_hypotheses, len(MOMENTS)))
    for k, part in product(range(n_hypotheses), parts):
        defined = weight[part, k] > 0
        w, ids = np.asarray(weight[part, k][defined], dtype=np.float64), sequence[part][defined]
        t, p = (np.asarray(column[part, k][defined], dtype=np.float64) for column in (target, predicted))
        residual = t - p
        # Squares of values far from zero would lose precision, so each column is centred first.
        if len(w):
            t, p = t - np.average(t, weights=w), p - np.average(p, weights=w)
        for m, term in enumerate((np.ones_like(w), t, p, t * t, p * p, t * p, residual**2)):
            moments[:, k, m] += np.bincount(ids, weights=w * term, minlength=len(distinct))
    return moments


def moment_metrics(moments: np.ndarray) -> dict[str, np.ndarray]:
    """R2 and Pearson's correlation from regression moments.

    `r2 = 1 - sum w (t - p)^2 / sum w (t - mean t)^2`, as in scikit-learn's `r2_score`; `pearson` is the weighted
    product-moment correlation. R2 is NaN where the target is constant, the correlation where either is.

    Args:
        moments: [..., 7] sums in the order of `MOMENTS`.

    Returns:
        `r2`, `pearson`: float64 [...] each.
    """
    w, t, p, tt, pp, tp, residual_square = np.moveaxis(moments, -1, 0)
    var_t, var_p = (_variance_sum(square, first, w) for square, first in ((tt, t), (pp, p)))
    covariance = tp - _ratio(t * p, w)
    r = _ratio(covariance, np.sqrt(var_t) * np.sqrt(var_p))
    return {"r2": 1.0 - _ratio(residual_square, var_t), "pearson": np.clip(r, -1.0, 1.0)}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, NaN where the denominator is zero."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator > 0)


def _variance_sum(square_sum: np.ndarray, first_sum: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sum of squared deviations from the mean; exactly 0 where it is only rounding error."""
    centred = square_sum - _ratio(first_sum**2, weight)
    return np.where(centred > _CONSTANT * square_sum, centred, 0.0)
