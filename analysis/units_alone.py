"""What single units tell on their own: on the training rows, which chooses them, and on the test rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.analysis.ordering import auroc, f1_threshold
from gatescope.analysis.scorer import Scorer
from gatescope.engine.neurons import NeuronProbes
from gatescope.engine.sequence_rows import SequenceRows

BLOCK_ROWS = 8192
States = np.ndarray | SequenceRows


def units_alone(X: States, Y: np.ndarray, defined: np.ndarray, memory_limit: str | None) -> dict[str, np.ndarray]:
    """Return how well each unit tells each hypothesis: `auroc` of boolean ones, `correlation` of others, [K, H].

    Args:
        X: [n, H], states of the training rows.
        Y: [n, K] labels, bool or float.
        defined: [n, K] bool.
        memory_limit: for states on disk.
    """
    if Y.dtype != bool:
        return {"correlation": unit_correlations(X, Y, defined)}
    units = NeuronProbes(memory_limit, only_auroc=True).fit(X, Y, sample_weight=defined.astype(np.float32))
    return {"auroc": units.auroc_}


def unit_correlations(X: States, Y: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Return Pearson's r of each unit with each hypothesis, float64 [K, H]; NaN where one of them is constant."""
    shift = X[:BLOCK_ROWS].mean(axis=0, dtype=np.float64)
    count = np.maximum(defined.sum(axis=0), 1)[:, None]
    y = np.where(defined, Y, 0)
    y = np.where(defined, y - y.sum(axis=0) / count[:, 0], 0)
    products, first, second = np.zeros((3, Y.shape[1], X.shape[1]))
    for start in range(0, len(X), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        centred, weight = X[rows].astype(np.float64) - shift, defined[rows].astype(np.float64).T
        products += y[rows].T @ centred
        first += weight @ centred
        second += weight @ centred**2
    spread = np.sqrt(np.maximum(second - first**2 / count, 0) * (y**2).sum(axis=0)[:, None])
    return np.divide(products, spread, out=np.full(products.shape, np.nan), where=spread > 0)


def column_sd(X: States) -> np.ndarray:
    """Return the standard deviation of each column, float64 [H], without a float64 copy of the whole."""
    # Squares of values far from zero would cancel: any point near the mean will do as the origin.
    shift = X[:BLOCK_ROWS].mean(axis=0, dtype=np.float64)
    total, square = np.zeros((2, X.shape[1]))
    for start in range(0, len(X), BLOCK_ROWS):
        centred = X[start : start + BLOCK_ROWS].astype(np.float64) - shift
        total += centred.sum(axis=0)
        square += (centred**2).sum(axis=0)
    return np.sqrt(np.maximum(square / len(X) - (total / len(X)) ** 2, 0))


def best_unit_scores(
    chosen: np.ndarray,
    sign: np.ndarray,
    train: tuple[Any, np.ndarray, np.ndarray],
    test: tuple[Any, np.ndarray, np.ndarray],
    scorer: Scorer,
) -> dict[str, np.ndarray]:
    """Return how well one unit of each hypothesis does alone on the test rows, [K] each; NaN where there is none.

    A boolean hypothesis holds beyond the value of its unit that gives the largest F1 on the training rows.

    Args:
        chosen: [K], the column of each hypothesis's unit, -1 for none.
        sign: [K], 1 where the hypothesis holds at high values of its unit, -1 at low ones.
        train, test: states [n, H], labels [n, K] and where they are defined, bool [n, K].
        scorer: of the test rows.
    """
    columns = np.unique(chosen[chosen >= 0])
    places = {k: int(np.searchsorted(columns, chosen[k])) for k in np.flatnonzero(chosen >= 0).tolist()}
    X, Y, defined = test
    values = np.full(Y.shape, np.nan)
    X = X[:, columns]
    for k, place in places.items():
        values[:, k] = sign[k] * X[:, place]
    if Y.dtype != bool:
        return {"best_unit_pearson": scorer.pearson(Y, values, defined)}
    above, X_train = np.full(Y.shape, np.nan), train[0][:, columns]
    for k, place in places.items():
        rows = train[2][:, k]
        above[:, k] = values[:, k] > f1_threshold(train[1][rows, k], sign[k] * X_train[rows, place])
    return {"best_unit_auroc": auroc(Y, values, defined), "best_unit_f1": scorer.f1(Y, above, defined)}
