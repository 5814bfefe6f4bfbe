"""The probes of one fold: the predictions of the probes, their first units and their controls for the fold's test rows.

Everything that is chosen, including units and thresholds, is chosen on the training rows alone.

States are probed on their own scale. For 12 hypotheses on 80,000 states of 256 units of a model of Python, probes with
the penalty on standardised coefficients have mean AUROC .826 .823 .821 .821 at C = .01, .1, 1 and 10, and probes as
here .828 .825 .822 .821. Coefficients are also reported times the units' standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gatescope.analysis.control_task import control_task
from gatescope.analysis.controls import best_unit_p, compression, untrained_model
from gatescope.analysis.estimators import Estimator, decision_values, estimator_of
from gatescope.analysis.labels import Labels
from gatescope.analysis.penalty import best_penalty
from gatescope.analysis.probability_metrics import restore_prior
from gatescope.analysis.ranking import rank_units
from gatescope.analysis.sparse import SparseScores, sparse_scores
from gatescope.analysis.study import Study
from gatescope.analysis.unit_overlap import top_units_overlap
from gatescope.analysis.units_alone import best_unit_predictions, column_sd, units_alone

N_TOP_UNITS = 10


@dataclass(frozen=True)
class Predictions:
    """Predictions for the n test rows of a fold, or of all folds, [n, K] each; None for what was not requested.

    Args:
        probe: decision values of the probes.
        restored: for balanced probes, logits at the class frequencies of the data.
        unit: the value of the first unit of the ranking, with its sign such that the hypothesis holds at high values.
        unit_above: for boolean hypotheses, whether that value is above the unit's threshold.
        control, control_labels: decision values for the control task, and its labels, [n, draws * K].
        untrained: decision values of probes of an untrained network.
    """

    probe: np.ndarray
    unit: np.ndarray
    unit_above: np.ndarray | None = None
    restored: np.ndarray | None = None
    control: np.ndarray | None = None
    control_labels: np.ndarray | None = None
    untrained: np.ndarray | None = None


def joined(folds: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several folds, one after another."""
    found: dict[str, Any] = {}
    for name in (each.name for each in fields(Predictions)):
        parts = [getattr(fold, name) for fold in folds]
        found[name] = None if parts[0] is None else np.concatenate(parts)
    return Predictions(**found)


@dataclass(frozen=True)
class FoldFit:
    """The fit of K hypotheses in one fold.

    Args:
        model: the fitted probes.
        alone: the score of each unit alone on the training rows, `auroc` or `correlation`, [K, H].
        sd: standard deviation of each unit on the training rows, [H].
        orders: the units in the order of the results' ranking, and of their weights, [K, H]; -1 where there is no fit.
        predictions: for the test rows.
        controls: those that need no test rows, [K] each; the first fold only.
        sparse: scores of probes of few units, if requested.
    """

    model: Estimator
    alone: dict[str, np.ndarray]
    sd: np.ndarray
    orders: dict[str, np.ndarray]
    predictions: Predictions
    controls: dict[str, np.ndarray]
    sparse: SparseScores | None


def fit_fold(study: Study, number: int, name: str, labels: Labels, weighting: str) -> FoldFit:
    """Fit all hypotheses of one kind on one state set of one fold.

    Args:
        study: the states and the method.
        number: index of the fold.
        name: the state set.
        labels: K hypotheses.
        weighting: "plain", "balanced", or "none" for continuous ones.
    """
    fold, config = study.folds[number], study.config
    memory = study.memory_limit(name)
    model = estimator_of(weighting, config.C[0], memory)
    if len(config.C) > 1:
        model.set_params(C=best_penalty(study, fold, model, name, labels, config.C))
    X_train, X_test = study.states(name, fold.train), study.states(name, fold.test)
    train = X_train, labels.values[fold.train_rows], labels.defined[fold.train_rows]
    test = X_test, labels.values[fold.test_rows], labels.defined[fold.test_rows]
    model.fit(*train[:2], sample_weight=train[2].astype(np.float32))
    predicted = {"probe": decision_values(model, X_test)}
    if weighting == "balanced":
        predicted["restored"] = restore_prior(predicted["probe"], _negatives_per_positive(*train[1:]))
    # Scores of single units do not depend on class weights: both weightings share them.
    alone, sd = study.shared(
        labels, ("units", number, name), lambda: (units_alone(*train, memory), column_sd(X_train, memory))
    )
    orders = _orders(study.ranking(weighting), model.coef_, sd, alone)
    predicted |= best_unit_predictions(orders[study.ranking(weighting)][:, 0], alone, train, test)
    controls, sparse = {}, None
    if config.controls and weighting != "balanced":
        if study.dump.tokens is not None:
            of_task = control_task(study, fold, model, labels, X_train, X_test)
            predicted |= dict(zip(("control_labels", "control"), of_task, strict=True))
        if study.untrained is not None:
            untrained = untrained_model(study, fold, model, name, labels)
            predicted["untrained"] = decision_values(untrained, study.states(name, fold.test, study.untrained))
        if number == 0:
            ranking, first = study.ranking(weighting), orders[study.ranking(weighting)][:, :N_TOP_UNITS]
            controls["top_units_overlap"] = top_units_overlap(study, model, labels, X_train, ranking, first)
        if number == 0 and weighting == "plain":
            controls["compression"] = compression(study, model, name, labels)
            controls["best_unit_p"] = best_unit_p(study, labels, X_train)
    if config.sparse and name == study.main_set and weighting != "balanced":
        sparse = sparse_scores(model, orders, train, test, study.seed)
    return FoldFit(model, alone, sd, orders, Predictions(**predicted), controls, sparse)


def _negatives_per_positive(Y: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """The factor by which balanced weights multiply the odds, [K]; 1 where there is only one class."""
    positive = (Y & defined).sum(axis=0)
    negative = defined.sum(axis=0) - positive
    # With one class only there is no probe whose probabilities could be corrected.
    return np.where((positive > 0) & (negative > 0), negative / np.maximum(positive, 1), 1.0)


def _orders(
    ranking: str, coefficients: np.ndarray, sd: np.ndarray, alone: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The order [K, H] of the units by the ranking and by their weights."""
    orders = {by: rank_units(by, coefficients=coefficients, sd=sd, **alone) for by in (ranking, "weight_sd")}
    # Without a fit there is nothing to rank by.
    unfitted = ~(np.isfinite(coefficients).all(axis=1) & (coefficients != 0).any(axis=1))
    for order in orders.values():
        order[unfitted] = -1
    return orders
