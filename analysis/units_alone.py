"""Scores of single units: on the training rows, by which they are chosen, and on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from gatescope.analysis.ordering import f1_threshold
from gatescope.engine.arrays import as_rows, to_host
from gatescope.engine.blas_threads import on_all_cores
from gatescope.engine.gram import Moments, column_origin
from gatescope.engine.memory_limit import bytes_of
from gatescope.engine.neurons import NeuronProbes
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.sequence_rows import SequenceRows

UNITS_AT_ONCE = 256  # units whose ranks are in memory at a time
States = np.ndarray | Tensor | SequenceRows


def units_alone(X: States, Y: np.ndarray, defined: np.ndarray, memory_limit: str | int | None) -> dict[str, np.ndarray]:
    """Return how well each unit predicts each hypothesis: `auroc` if boolean, else `correlation`, [K, H].

    Args:
        X: [n, H], states of the training rows.
        Y: [n, K] labels, bool or float.
        defined: [n, K] bool.
        memory_limit: what the work may take beside the states.
    """
    if Y.dtype != bool:
        return {"correlation": unit_correlations(X, Y, defined, memory_limit)}
    units = NeuronProbes(memory_limit, only_auroc=True).fit(X, Y, sample_weight=defined.astype(np.float32))
    return {"auroc": units.auroc_}


def unit_correlations(
    X: States, Y: np.ndarray, defined: np.ndarray, memory_limit: str | int | None = None
) -> np.ndarray:
    """Return Pearson's r of each unit with each hypothesis, float64 [K, H]; NaN where one of them is constant."""
    count = np.maximum(defined.sum(axis=0), 1)[:, None]
    y = np.where(defined, Y, 0)
    y = np.where(defined, y - y.sum(axis=0) / count[:, 0], 0)

    def block_sums(block: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, ...]:
        weight = rows.xp.asarray(defined[start:stop].astype(np.float64).T)
        return rows.xp.asarray(y[start:stop].T) @ block, weight @ block, weight @ block**2

    with RowBlocks(as_rows(X), np.float64, bytes_of(memory_limit)) as rows:
        products, first, second = map(to_host, rows.totals(block_sums, shift=column_origin(rows)))
    spread = np.sqrt(np.maximum(second - first**2 / count, 0) * (y**2).sum(axis=0)[:, None])
    return np.divide(products, spread, out=np.full(products.shape, np.nan), where=spread > 0)


def ranks_of(X: np.ndarray) -> np.ndarray:
    """Return the rank of each value in its column, from -1/2 to 1/2, the mean for ties, float32 [n, columns]."""
    # SciPy 1.18 gives ranks in the precision of the values; float16 holds none above 65,504.
    return (rankdata(X.astype(np.float64), axis=0) / len(X) - 0.5).astype(np.float32)


def rank_differences(ranks: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the difference of the mean ranks of both classes, float64 [K, columns]; NaN if there is only one class.

    If all rows have weight 1, that is |AUROC - 1/2| of each column.

    Args:
        ranks: [n, columns], as `ranks_of` returns them.
        Y: [n, K] bool.
        weight: [n, K] bool or float32, 0 where the label is undefined.
    """
    means = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for chosen in (Y * weight, ~Y * weight):
            total = chosen.sum(axis=0, dtype=np.float64)
            means.append(chosen.T.astype(np.float32) @ ranks / total[:, None])
    return np.abs(means[0] - means[1])


def column_sd(X: States, memory_limit: str | int | None = None) -> np.ndarray:
    """Return the standard deviation of each column, float64 [H]; 0 for a constant column."""
    with RowBlocks(as_rows(X), np.float64, bytes_of(memory_limit)) as rows:
        return Moments(rows).sd


def best_unit_predictions(
    chosen: np.ndarray,
    alone: Mapping[str, np.ndarray],
    train: tuple[Any, np.ndarray, np.ndarray],
    test: tuple[Any, np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the predictions of one unit per hypothesis for the test rows, [n, K] each; NaN where there is none.

    `unit` is its value, with its sign such that the hypothesis holds at high values. For boolean hypotheses,
    `unit_above` is whether this exceeds the threshold that gives the largest F1 on the training rows.

    Args:
        chosen: [K], the column of the unit of each hypothesis, -1 for none.
        alone: the score of each unit alone on the training rows, `auroc` or `correlation`, [K, H].
        train, test: states [n, H], labels [n, K] and where they are defined, bool [n, K].
    """
    columns = np.unique(chosen[chosen >= 0])
    places = {k: int(np.searchsorted(columns, chosen[k])) for k in np.flatnonzero(chosen >= 0).tolist()}
    (statistic, of_units), values = next(iter(alone.items())), np.full(test[1].shape, np.nan)
    falls = of_units[np.arange(len(chosen)), chosen] < (0.5 if statistic == "auroc" else 0)
    sign, X = np.where(falls, -1.0, 1.0), to_host(test[0][:, columns])
    for k, place in places.items():
        values[:, k] = sign[k] * X[:, place]
    if train[1].dtype != bool:
        return {"unit": values}
    above, X_train = np.full(values.shape, np.nan), to_host(train[0][:, columns])

    def judge(k: int) -> None:
        rows = train[2][:, k]
        above[:, k] = values[:, k] > f1_threshold(train[1][rows, k], sign[k] * X_train[rows, places[k]])

    on_all_cores(judge, places)
    return {"unit": values, "unit_above": above}
