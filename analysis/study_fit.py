"""The results of all probes of one kind on one state set: their scores, those of the baselines, units and texts.

Scores are on the test rows, with bootstrap intervals over test sequences (or documents). Beside them are the scores of
predictors that ignore their input, and of the text baseline, which sees the last five characters and how many were
read; how far a score lies above the latter has its own interval, from the same resamples. With folds, the probes, text
baselines and first units that predict a row are those of the fold that tests it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from gatescope.analysis.baselines import NgramTable, at_even_odds
from gatescope.analysis.control_task import control_score
from gatescope.analysis.controls import character_split
from gatescope.analysis.excerpts import Prediction
from gatescope.analysis.fold_fit import N_TOP_UNITS, FoldFit, Predictions, fit_fold, joined
from gatescope.analysis.labels import Labels
from gatescope.analysis.ranking import localisation, participation_ratio, unit_records
from gatescope.analysis.results import CONVERGED, MEASURES, json_number
from gatescope.analysis.sparse import sparse_records
from gatescope.analysis.split import sequence_ids_of
from gatescope.analysis.study import Study
from gatescope.analysis.text_probe import TextProbe
from gatescope.engine.irls import LogisticProbes

UNTRAINED = ("untrained_score", "above_untrained_low", "above_untrained_high")
SPLIT = ("character_split_score", "leak", "leak_low", "leak_high")
CONTROLS = ("control_score", "selectivity", *SPLIT, "best_unit_p", "top_units_overlap", "compression", *UNTRAINED)


def fit_study(
    study: Study, name: str, labels: Labels, weighting: str
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray], dict[str, Prediction]]:
    """Fit and score all hypotheses of one kind on one state set.

    Args:
        study: the states and the method.
        name: the state set.
        labels: K hypotheses.
        weighting: "plain", "balanced", or "none" for continuous ones.

    Returns:
        K records; the coefficients [K, H] and intercepts [K] of the first fold, with standard errors if requested, and,
        except for balanced fits, the influence of each tested sequence (document) on the score that judges a
        hypothesis, [K, S]; and the prediction for each hypothesis on the test rows of the first fold.
    """
    digests = study.shared(labels, "digests", lambda: study.tested_sha256(labels))
    continuous, origin = weighting == "none", np.zeros(len(labels.hypotheses))
    measure, chance = MEASURES["continuous" if continuous else "boolean"]
    if continuous:
        labels, origin = study.shared(labels, "centred", lambda: _centred(labels))
    folds = [fit_fold(study, number, name, labels, weighting) for number in range(len(study.folds))]
    first, predictions = folds[0], joined([fold.predictions for fold in folds])
    scores = _scores(study, labels, weighting, predictions)
    scores["participation"] = participation_ratio(first.model.coef_ * first.sd)
    if len(study.config.C) > 1:
        scores["C"] = first.model.C
    if study.config.controls and weighting != "balanced":
        scores |= _controls(study, name, labels, scores[measure], predictions, first)
    if not continuous:
        scores["localisation"] = localisation(*(scores[each] for each in ("best_unit_auroc", "auroc", "auroc_low")))
    columns, of_each = study.columns(name), (first.model.coef_, first.sd, first.alone)
    units, largest = (
        unit_records(columns, first.orders[by][:, :N_TOP_UNITS], *of_each)
        for by in (study.ranking(weighting), "weight_sd")
    )
    # The status shows if any fold could not be fitted.
    statuses = np.stack([fold.model.status_ for fold in folds])
    status = np.take_along_axis(statuses, (statuses != CONVERGED).argmax(axis=0)[None], axis=0)[0]
    records = _records(study, name, labels, weighting, scores, units, largest, status)
    for record, digest in zip(records, digests, strict=True):
        record["tested_sha256"] = digest
    if len(folds) > 1:
        best = np.stack([fold.orders[study.ranking(weighting)][:, 0] for fold in folds])
        agreed = np.where(best[0] >= 0, (best == best[0]).mean(axis=0), np.nan)
        for record, share in zip(records, agreed, strict=True):
            record |= {"folds": len(folds), "best_unit_share": json_number(share)}
    sparse = [fold.sparse for fold in folds if fold.sparse is not None]
    if sparse:
        more = sparse_records(sparse, scores[measure], chance)
        selected = unit_records(columns, sparse[0].selected, *of_each)
        for record, each, units_of in zip(records, more, selected, strict=True):
            record |= each | {"selected_units": units_of}
    of_first = first.predictions.probe
    shown = of_first + origin if continuous else expit(of_first)
    found = {
        each.name: Prediction(name, weighting, shown[:, k], study.test_rows, units[k][0] if units[k] else None)
        for k, each in enumerate(labels.hypotheses)
    }
    weights = _coefficients(study, name, labels, first, origin)
    if weighting != "balanced":
        tested = labels.values[study.tested_rows], predictions.probe, labels.defined[study.tested_rows]
        weights["influence"] = study.scorer.influence(*tested).T.astype(np.float32)
    return records, weights, found


def _coefficients(study: Study, name: str, labels: Labels, fit: FoldFit, origin: np.ndarray) -> dict[str, np.ndarray]:
    """Return coefficients on both scales and intercepts, with their standard errors if requested."""
    model = fit.model
    found = {"coefficient": model.coef_, "standardised": model.coef_ * fit.sd, "intercept": model.intercept_ + origin}
    if study.config.standard_errors and isinstance(model, LogisticProbes):
        groups = study.group_of[sequence_ids_of(study.train_rows, study.dump.sequence_starts)]
        of_train = labels.values[study.train_rows], labels.defined[study.train_rows].astype(np.float32)
        errors = model.standard_errors(study.states(name, study.train), *of_train, groups=groups)
        found |= {"coefficient_error": errors.coef, "intercept_error": errors.intercept}
    return found


def _scores(study: Study, labels: Labels, weighting: str, predictions: Predictions) -> dict[str, np.ndarray]:
    """Return the scores of probes and single units on the tested rows, beside those of the text alone."""
    Y, defined = labels.values[study.tested_rows], labels.defined[study.tested_rows]
    text, probe, unit = _text(study, labels, weighting), predictions.probe, predictions.unit
    above = predictions.unit_above
    if above is None:
        scores = study.scorer.regression(Y, probe, text, defined)
        return scores | {"best_unit_pearson": study.scorer.pearson(Y, unit, defined)}
    scores = study.scorer.classification(Y, probe, text, defined, predictions.restored)
    # If one fold has no unit, there is no score over all folds.
    f1 = np.where(np.isnan(unit).any(axis=0), np.nan, study.scorer.f1(Y, above, defined))
    of_unit = study.scorer.auroc(Y, unit, defined), f1
    return scores | dict(zip(("best_unit_auroc", "best_unit_f1"), of_unit, strict=True))


def _controls(
    study: Study,
    name: str,
    labels: Labels,
    judged: np.ndarray,
    predictions: Predictions,
    first: FoldFit,
) -> dict[str, np.ndarray]:
    """Return the controls of the scores `judged` [K] on a state set; NaN where one is unknown."""
    Y, defined = labels.values[study.tested_rows], labels.defined[study.tested_rows]
    found = dict.fromkeys(CONTROLS, np.full(len(labels.hypotheses), np.nan)) | first.controls
    split, unseen = character_split(study, first.model, name, labels)
    # Score both probes on the same characters, so that the choice of the test part does not matter.
    both = defined & unseen[:, None]
    of_split, (of_sequences, *ends) = (
        study.scorer.score(Y, split, both),
        study.scorer.above(Y, split, predictions.probe, both),
    )
    found |= dict(zip(SPLIT, (of_split, of_split - of_sequences, *ends), strict=True))
    if predictions.control is not None and predictions.control_labels is not None:
        control = control_score(study.scorer, predictions.control_labels, predictions.control, defined)
        found |= {"control_score": np.where(np.isnan(judged), np.nan, control), "selectivity": judged - control}
    if predictions.untrained is not None:
        above = study.scorer.above(Y, predictions.probe, predictions.untrained, defined)
        found |= dict(zip(UNTRAINED, above, strict=True))
    return found


def _records(
    study: Study,
    name: str,
    labels: Labels,
    weighting: str,
    scores: dict[str, np.ndarray],
    units: list[list[dict[str, Any]]],
    largest: list[list[dict[str, Any]]],
    statuses: np.ndarray,
) -> list[dict[str, Any]]:
    """Return the record of each hypothesis for `probes.json`."""
    n_train = labels.defined[study.train_rows].sum(axis=0)
    n_test = labels.defined[study.tested_rows].sum(axis=0)
    holds = (labels.values[study.tested_rows].astype(bool) & labels.defined[study.tested_rows]).sum(axis=0)
    return [
        {
            "hypothesis": each.name,
            "kind": each.values,
            "states": name,
            "alignment": study.config.alignment,
            "weighting": weighting,
            "n_train": int(n_train[k]),
            "n_test": int(n_test[k]),
            "n_holds": None if weighting == "none" else int(holds[k]),
            **{metric: json_number(values[k]) for metric, values in scores.items()},
            "top_units": units[k],
            "largest_weights": largest[k],
            "status": str(statuses[k]),
        }
        for k, each in enumerate(labels.hypotheses)
    ]


def _text(study: Study, labels: Labels, weighting: str) -> Any:
    """Return the scores of the text alone on the tested rows, or its predictions for continuous hypotheses.

    All state sets share them. None if the text is unknown.
    """
    if study.dump.tokens is None:
        return None
    Y, defined = labels.values[study.tested_rows], labels.defined[study.tested_rows]

    def best() -> Any:
        folds = [_of_text(study, number, labels, weighting) for number in range(len(study.folds))]
        predicted = [np.concatenate(each) for each in zip(*folds, strict=True)]
        if weighting == "none":
            return study.scorer.best_of(predicted, Y, defined)[0]
        return study.scorer.text(Y, predicted, defined)

    return study.shared(labels, ("text", weighting), best)


def _of_text(study: Study, number: int, labels: Labels, weighting: str) -> list[np.ndarray]:
    """Return the predictions of each text baseline for the test rows of a fold."""
    # A sequence that was cut from a document continues the text before it there, and so do its states.
    assert study.dump.tokens is not None
    text, fold = (study.dump.tokens, study.dump.document_starts), study.folds[number]
    train = fold.train_rows, labels.values[fold.train_rows], labels.defined[fold.train_rows]
    starts, alignment = study.dump.sequence_starts, study.config.alignment

    def of_table() -> tuple[np.ndarray, np.ndarray]:
        table = NgramTable(alignment=alignment).fit(*text, *train)
        return table.predict_proba(*text, fold.test_rows), table.means_[0][0]

    # Both weightings share the table.
    predicted, mean = study.shared(labels, ("table", number), of_table)
    probes = TextProbe(starts, weighting, alignment), TextProbe(starts, weighting, alignment, k=0)
    return [
        at_even_odds(predicted, mean) if weighting == "balanced" else predicted,
        *(each.fit(*text, *train).predict_proba(*text, fold.test_rows) for each in probes),
    ]


def _centred(labels: Labels) -> tuple[Labels, np.ndarray]:
    """Return continuous labels minus their means, and the means [K].

    R2 and r do not depend on the part that all labels have in common, such as the seconds since 1970, but predictions
    in single precision would represent little else.
    """
    n = np.maximum(labels.defined.sum(axis=0), 1)
    origin = np.where(labels.defined, labels.values, 0).sum(axis=0) / n
    return Labels(labels.hypotheses, np.where(labels.defined, labels.values - origin, 0), labels.defined), origin
