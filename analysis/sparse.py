"""How many units it takes to predict a hypothesis: probes of selected, ranked or random units.

Units are judged by probes fitted anew to them alone (k-sparse probes; Gurnee et al., Finding Neurons in a Haystack,
2023). Units selected one after another show how many it takes, while the first of a ranking may all carry the same.
Random units show what any units would do, and the last units of a ranking whether it orders anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from gatescope.analysis.estimators import decision_values
from gatescope.analysis.results import json_number
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.unit_selection import selected_units
from gatescope.engine.arrays import to_host

SIZES = (1, 2, 4, 8, 16, 32, 64)
RANDOM_ORDERS = 4
# The share of the full probe's score above chance that is enough.
ENOUGH = 0.95


@dataclass(frozen=True)
class SparseScores:
    """Scores of probes of few units on the test rows of one fold.

    Args:
        sizes: numbers of units.
        scores: AUROC, or R2 of continuous hypotheses, [K, sizes], by name: of the units `selected`, of the first units
            of each ranking, of the last of the first ranking (`reversed`), and the mean of random units (`random`).
        weight: weight of the fold in a mean over folds, [K].
        selected: the columns in the order of selection, [K, largest size]; -1 where there is no ranking.
    """

    sizes: list[int]
    scores: dict[str, np.ndarray]
    weight: np.ndarray
    selected: np.ndarray


def sparse_scores(
    model: Any,
    orders: Mapping[str, np.ndarray],
    train: tuple[Any, np.ndarray, np.ndarray],
    test: tuple[Any, np.ndarray, np.ndarray],
    seed: int,
) -> SparseScores:
    """Score probes of few units for each hypothesis.

    Args:
        model: an estimator with the settings of the probe; it is not changed.
        orders: the H columns in the order of each ranking, the most important first, [K, H]; -1 where there is no
            ranking. The first is the ranking of the results.
        train, test: states [n, H], labels [n, K] and where they are defined, bool [n, K].
        seed: of the random units.
    """
    n_units, n_hypotheses = train[0].shape[1], train[1].shape[1]
    sizes = [1, *(size for size in SIZES[1:] if size < n_units)]
    first = next(iter(orders.values()))
    selected = np.where(first[:, :1] >= 0, selected_units(*train, sizes[-1]), -1)
    by = {"selected": selected, **orders, "reversed": np.flip(first, axis=1).copy()}
    scores = {name: np.full((n_hypotheses, len(sizes)), np.nan) for name in by}
    for name, order in by.items():
        for k in np.flatnonzero(first[:, 0] >= 0).tolist():
            scores[name][k] = _scores(model, [k], order[k], sizes, train, test)[:, 0]
    everyone = list(range(n_hypotheses))
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(n_units) for _ in range(RANDOM_ORDERS)]
    random = np.mean([_scores(model, everyone, each, sizes, train, test) for each in drawn], axis=0).T
    scores["random"] = np.where(first[:, :1] >= 0, random, np.nan)
    _, Y, defined = test
    # With these weights, AUROC and R2 over folds are means of the folds' own. The number of pairs of both classes is
    # the sum of squares of the labels 0 and 1 about their mean, times the number of rows.
    n_rows = np.maximum(defined.sum(axis=0), 1)
    mean = np.where(defined, Y, 0).sum(axis=0, dtype=np.float64) / n_rows
    squares = (np.where(defined, Y - mean, 0) ** 2).sum(axis=0)
    return SparseScores(sizes, scores, squares * n_rows if Y.dtype == bool else squares, selected)


def sparse_records(folds: Sequence[SparseScores], full: np.ndarray, chance: float) -> list[dict[str, Any]]:
    """Return how many units it takes, from the scores of all folds.

    Args:
        folds: the scores of each fold.
        full: AUROC, or R2 of continuous hypotheses, of the probe of all units, [K].
        chance: the value of that score by chance.

    Returns:
        For each hypothesis `sparse`: the numbers of `units` and, in lists of the same length, the scores of units
        `selected`, of each ranking, `reversed` and `random`; and `units_needed`, the least of these numbers from which
        on the selected units reach 95% of the distance of `full` above chance, None if there is none.
    """
    weights = np.stack([fold.weight for fold in folds])[..., None]
    mean = {}
    for name in folds[0].scores:
        scores = np.ma.masked_invalid([fold.scores[name] for fold in folds])
        average = np.ma.average(scores, axis=0, weights=np.broadcast_to(weights, scores.shape))
        mean[name] = np.ma.filled(average, np.nan)
    sizes, found = folds[0].sizes, []
    for k, of_all in enumerate(full):
        lists = {name: list(map(json_number, values[k])) for name, values in mean.items()}
        enough = (mean["selected"][k] - chance >= ENOUGH * (of_all - chance)) & (of_all > chance)
        first = max(np.flatnonzero(~enough), default=-1) + 1
        needed = sizes[first] if first < len(sizes) else None
        found.append({"sparse": {"units": sizes, **lists}, "units_needed": needed})
    return found


def _scores(
    model: Any,
    hypotheses: list[int],
    order: np.ndarray,
    sizes: list[int],
    train: tuple[Any, np.ndarray, np.ndarray],
    test: tuple[Any, np.ndarray, np.ndarray],
) -> np.ndarray:
    """AUROC or R2, on the test rows, of probes of the first units of one order, [sizes, hypotheses]."""
    # Gather scattered columns once for all sizes.
    chosen = order[: sizes[-1]]
    of_train, of_test = to_host(train[0][:, chosen]), to_host(test[0][:, chosen])
    (Y_train, defined), (Y, counts) = ([each[:, hypotheses] for each in part[1:]] for part in (train, test))
    probes = clone(model).set_params(C=np.broadcast_to(model.C, train[1].shape[1])[hypotheses])
    scorer, scores = Scorer(np.zeros(len(Y)), n_bootstrap=0, seed=0), []
    for size in sizes:
        probes.fit(of_train[:, :size], Y_train, sample_weight=defined.astype(np.float32))
        scores.append(scorer.score(Y, decision_values(probes, of_test[:, :size]), counts))
    return np.stack(scores)
