"""Metrics of predicted probabilities: how well they rank the rows, and whether they are calibrated.

They take logits: the probability of a float32 logit above 17 is 1, so that rows beyond it could not be ranked.

A probe that was fitted with balanced class weights predicts as if both classes were equally frequent. Unless
`restore_prior` corrects its logits, only AUROC and average precision are meaningful.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from gatescope.analysis.metrics import WHOLE
from gatescope.analysis.ordering import ordering_within

# Bins of equal width for the calibration error.
CALIBRATION_BINS = 15


def restore_prior(logit: np.ndarray, weight_ratio: np.ndarray) -> np.ndarray:
    """Logits at the class frequencies of the data, from a probe fitted with class weights.

    Weights w1, w0 multiply the odds by w1 / w0, so the logit is shifted back by `log(w1 / w0)` (King & Zeng, 2001).

    Args:
        logit: [n, K] of the positive class, with class weights.
        weight_ratio: [K], w1 / w0 > 0; for balanced weights the negatives per positive among the training rows.

    Returns:
        [n, K] float64.
    """
    return logit - np.log(weight_ratio)


def probability_metrics(
    Y: np.ndarray, logit: np.ndarray, weight: np.ndarray, parts: Sequence[slice] = WHOLE
) -> dict[str, np.ndarray]:
    """Metrics of probabilities for all hypotheses, as defined by scikit-learn where it has them.

    - `auroc`: chance that a positive row has a higher probability than a negative one; ties count half.
    - `average_precision`: `sum_i (R_i - R_(i-1)) P_i` over the distinct probabilities from the highest.
    - `log_loss_bits`: mean `-log2` of the probability given to the true label; infinite if one certain prediction is
      wrong.
    - `brier`: mean squared difference between probability and label.
    - `ece`: expected calibration error, `sum_b n_b / n |positives_b / n_b - mean probability_b|` over bins of equal
      width (Guo et al., 2017, for the positive class).

    Args:
        Y: [n, K] bool labels; of any value where undefined.
        logit: [n, K] of the positive class.
        weight: [n, K], nonzero where the label is defined.
        parts: parts of the rows, each with logits of one probe; AUROC and average precision compare rows within a part.

    Returns:
        float64 [K] each. `auroc` is NaN without both classes, `average_precision` without a positive, and all are NaN
        without a defined row, or if a defined logit is NaN (a probe without a fit).
    """
    names = ("log_loss_bits", "brier", "ece")
    metrics = {name: np.full(Y.shape[1], np.nan) for name in names}
    orders = ordering_within(Y, logit, weight != 0, parts)
    for k in range(Y.shape[1]):
        defined = weight[:, k] != 0
        y, z = Y[defined, k].astype(bool), np.asarray(logit[defined, k], dtype=np.float64)
        if len(y) == 0 or np.isnan(z).any():
            continue
        metrics["log_loss_bits"][k] = np.logaddexp(0, np.where(y, -z, z)).mean() / np.log(2)
        p = expit(z)
        metrics["brier"][k] = ((p - y) ** 2).mean()
        bins = np.minimum((p * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        metrics["ece"][k] = np.abs(np.bincount(bins, weights=y - p)).sum() / len(y)
    return {"auroc": orders[0], "average_precision": orders[1], **metrics}
