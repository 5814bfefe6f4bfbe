"""How much the choice of the first units depends on the training sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from gatescope.analysis.intervals import resamples
from gatescope.analysis.labels import Labels
from gatescope.analysis.ranking import unit_importance
from gatescope.analysis.split import sequence_ids_of
from gatescope.analysis.study import Study
from gatescope.analysis.units_alone import UNITS_AT_ONCE, column_sd, rank_differences, ranks_of
from gatescope.engine.arrays import to_host

N_RESAMPLES = 20


def top_units_overlap(study: Study, model: Any, labels: Labels, X_train: Any, by: str, order: np.ndarray) -> np.ndarray:
    """The share of the first units that come first again if the training sequences are resampled, [K].

    It is the mean over bootstrap resamples of the training sequences (documents). n units drawn at random from H would
    share n / H. For `auroc`, resamples are compared by mean ranks among all training rows.

    Args:
        study: the dump and its training rows.
        model: an estimator with the settings of the probe; it is not changed.
        labels: K hypotheses.
        X_train: [n, H], states of the training rows, in memory or read in pieces.
        by: the ranking.
        order: [K, n], the first units by that ranking; -1 where there are none.

    Returns:
        [K] float64; NaN where there are no first units, or only one sequence (document).
    """
    rows, sequences = study.train_rows, sequence_ids_of(study.train_rows, study.dump.sequence_starts)
    groups, group = np.unique(study.group_of[sequences], return_inverse=True)
    if len(groups) < 2:
        return np.full(len(order), np.nan)
    times_drawn = np.concatenate(list(resamples(len(groups), N_RESAMPLES, study.seed)))[:, group].astype(np.float32)
    given = X_train, labels.values[rows], labels.defined[rows], times_drawn
    importance = _by_fits(model, by, *given) if by.startswith("weight") else _by_units(*given)
    found = []
    for of_draw in importance:
        again = np.argsort(-of_draw, axis=1, kind="stable")[:, : order.shape[1]]
        shared = (order[:, :, None] == again[:, None, :]).any(axis=2).mean(axis=1)
        # With one class only, there are no first units.
        found.append(np.where(np.isfinite(of_draw).any(axis=1) & (order[:, 0] >= 0), shared, np.nan))
    return np.asarray(np.ma.masked_invalid(found).mean(axis=0).filled(np.nan))


def _by_units(X: Any, Y: np.ndarray, defined: np.ndarray, times_drawn: np.ndarray) -> np.ndarray:
    """The score of each unit alone in each resample, [resamples, K, H]: difference of mean ranks, or |r|."""
    of_columns = _rank_differences if Y.dtype == bool else _correlations
    importance = np.empty((len(times_drawn), Y.shape[1], X.shape[1]), np.float32)
    for left in range(0, X.shape[1], UNITS_AT_ONCE):
        columns = slice(left, left + UNITS_AT_ONCE)
        with np.errstate(invalid="ignore", divide="ignore"):
            importance[:, :, columns] = of_columns(to_host(X[:, columns]), Y, defined, times_drawn)
    return importance


def _rank_differences(x: np.ndarray, Y: np.ndarray, defined: np.ndarray, times_drawn: np.ndarray) -> np.ndarray:
    ranks = ranks_of(x)
    return np.stack([rank_differences(ranks, Y, defined * times[:, None]) for times in times_drawn])


def _correlations(x: np.ndarray, Y: np.ndarray, defined: np.ndarray, times_drawn: np.ndarray) -> np.ndarray:
    # Scaled to moderate values, so that single precision is enough.
    x, y = (_standardised(each, known) for each, known in ((x, True), (Y, defined)))
    found = []
    for times in times_drawn:
        weight = (defined * times[:, None]).T
        of_y, total = weight * y.T, weight.sum(axis=1, keepdims=True)
        mean_x, mean_y = weight @ x / total, of_y.sum(axis=1, keepdims=True) / total
        variance_x = weight @ (x * x) / total - mean_x**2
        variance_y = (of_y * y.T).sum(axis=1, keepdims=True) / total - mean_y**2
        covariance = of_y @ x / total - mean_x * mean_y
        found.append(np.abs(covariance) / np.sqrt(variance_x * variance_y))
    return np.stack(found)


def _standardised(values: np.ndarray, known: Any) -> np.ndarray:
    """Columns minus their mean, divided by their standard deviation, 0 where unknown, float32."""
    values = np.ma.masked_array(values.astype(np.float64), np.broadcast_to(~np.asarray(known), values.shape))
    sd = values.std(axis=0)
    return ((values - values.mean(axis=0)) / np.where(sd > 0, sd, 1)).filled(0).astype(np.float32)


def _by_fits(
    model: Any, by: str, X: Any, Y: np.ndarray, defined: np.ndarray, times_drawn: np.ndarray
) -> list[np.ndarray]:
    """The importance of each unit in a probe of each resample, [K, H] each."""
    sd = column_sd(X)
    fits = (clone(model).fit(X, Y, sample_weight=defined * times[:, None]) for times in times_drawn)
    return [unit_importance(by, coefficients=fit.coef_, sd=sd) for fit in fits]
