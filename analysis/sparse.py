"""How many units it takes to tell a hypothesis: probes of the first units of a ranking, beside units at random.

A ranking is judged by probes that are fitted anew to the units that it puts first (k-sparse probes; Gurnee et al.,
Finding Neurons in a Haystack, 2023). Random units show what any would do, and the last units of the ranking whether it
orders anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from gatescope.analysis.labels import Labels
from gatescope.analysis.ordering import auroc
from gatescope.analysis.results import json_number

if TYPE_CHECKING:
    from gatescope.analysis.study import Study

SIZES = (1, 2, 4, 8, 16, 32, 64)
RANDOM_ORDERS = 4
# Of how far the probe of all units lies above chance, the share that is enough.
ENOUGH = 0.95


def sparse_records(
    study: Study,
    model: Any,
    labels: Labels,
    orders: Mapping[str, np.ndarray],
    full: np.ndarray,
    X_train: Any,
    X_test: Any,
) -> list[dict[str, Any]]:
    """Score probes of few units of each hypothesis.

    Args:
        study: the rows.
        model: an estimator with the settings of the probe; it is left as it is.
        labels: K hypotheses.
        orders: the H columns by each ranking, the most important first, [K, H]; -1 where there is no ranking. The first
            is that of the results.
        full: AUROC, or R2 of continuous hypotheses, of the probe of all units, [K].
        X_train, X_test: states of the study's rows.

    Returns:
        For each hypothesis `sparse`: the numbers of `units` and, in lists of the same length, the score with the first
        of each ranking, with the last of the first ranking (`reversed`) and the mean with units at random (`random`);
        and `units_needed`, the least of these numbers with which a ranking reaches 95% of how far `full` lies above
        chance, None where none does.
    """
    n_units, n_hypotheses = X_train.shape[1], len(labels.hypotheses)
    sizes = [size for size in SIZES if size < n_units]
    first = next(iter(orders.values()))
    scores = np.full((len(orders) + 1, n_hypotheses, len(sizes)), np.nan)
    for scored, order in zip(scores, [*orders.values(), first[:, ::-1]], strict=True):
        for k in np.flatnonzero(first[:, 0] >= 0).tolist():
            scored[k] = _scores(study, model, labels, [k], order[k], sizes, X_train, X_test)[:, 0]
    everyone = list(range(n_hypotheses))
    generator = np.random.default_rng(study.seed)
    drawn = [generator.permutation(n_units) for _ in range(RANDOM_ORDERS)]
    random = np.mean([_scores(study, model, labels, everyone, each, sizes, X_train, X_test) for each in drawn], axis=0)
    chance = 0.5 if labels.values.dtype == bool else 0.0
    found = []
    for k in everyone:
        named = {**dict(zip([*orders, "reversed"], scores[:, k], strict=True)), "random": random[:, k]}
        lists = {name: list(map(json_number, values)) for name, values in named.items()}
        enough = (scores[:-1, k] - chance >= ENOUGH * (full[k] - chance)).any(axis=0) & (full[k] > chance)
        needed = sizes[int(enough.argmax())] if enough.any() else None
        found.append({"sparse": {"units": sizes, **lists}, "units_needed": needed})
    return found


def _scores(
    study: Study,
    model: Any,
    labels: Labels,
    hypotheses: list[int],
    order: np.ndarray,
    sizes: list[int],
    X_train: Any,
    X_test: Any,
) -> np.ndarray:
    """AUROC or R2 on the test rows of probes of the first units of one order, [sizes, hypotheses]."""
    values, defined = labels.values[:, hypotheses], labels.defined[:, hypotheses]
    Y_train, Y_test = values[study.train_rows], values[study.test_rows]
    weight, counts = defined[study.train_rows].astype(np.float32), defined[study.test_rows]
    # Columns that are far apart are gathered once.
    chosen = order[: sizes[-1]]
    of_train, of_test = np.asarray(X_train[:, chosen]), np.asarray(X_test[:, chosen])
    scores = []
    for size in sizes:
        fitted = clone(model).fit(of_train[:, :size], Y_train, sample_weight=weight)
        if values.dtype == bool:
            scores.append(auroc(Y_test, fitted.decision_function(of_test[:, :size]), counts))
        else:
            scores.append(study.scorer.r2(Y_test, fitted.predict(of_test[:, :size]), counts))
    return np.stack(scores)
