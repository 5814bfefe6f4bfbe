"""The fits of one dump: the rows and columns that all probes share, and how a probe is scored.

Sequences, not characters, are divided into training and test, those of one document together where there are enough
documents, and every variant sees the same rows. Scores are of the test rows, with bootstrap intervals over test
sequences (or documents), beside those of predictors that ignore their input and of what the text alone tells, its last
five characters and how many were read; how far a score lies above the latter has an interval of its own, of the same
resamples. With folds every row is a test row, once: the probes, text baselines and first units that speak of it are
those of its fold.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import astuple
from typing import Any

import numpy as np
from scipy.special import expit

from gatescope.analysis.baselines import NgramTable
from gatescope.analysis.evidence import control_score
from gatescope.analysis.excerpts import Prediction
from gatescope.analysis.fold_fit import fit_fold
from gatescope.analysis.hypotheses import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.ranking import localisation, participation_ratio, unit_records
from gatescope.analysis.results import CONVERGED, MEASURES, json_number
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.sparse import sparse_records
from gatescope.analysis.split import Fold, folds_of, groups_of, sequence_ids_of
from gatescope.analysis.state_sets import state_sets
from gatescope.analysis.text_probe import TextProbe
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.ridge import RidgeProbes
from gatescope.engine.sequence_rows import SequenceRows
from gatescope.engine.state_source import StateSource

N_TOP_UNITS = 10
UNTRAINED = ("untrained_score", "above_untrained_low", "above_untrained_high")
SPLIT = ("character_split_score", "leak")
CONTROLS = ("control_score", "selectivity", *SPLIT, "best_unit_p", "compression", *UNTRAINED)


class Study:
    """The rows and columns that all fits of one dump share.

    Args:
        dump: the states.
        config: the method.
        seed: of the split and the bootstrap.
        untrained: states of random weights at the same rows, for a control.
    """

    def __init__(self, dump: StateSource, config: ProbeConfig, seed: int, untrained: StateSource | None = None):
        self.dump, self.config, self.seed, self.untrained = dump, config, seed, untrained
        starts = dump.sequence_starts
        # Of each sequence: what belongs together is neither divided nor independent.
        self.group_of = groups_of(dump)
        self.folds = folds_of(self.group_of, starts, config.test_share, config.folds, seed)
        # Coefficients, units and texts are those of the first.
        self.train, self.test, self.train_rows, self.test_rows = astuple(self.folds[0])
        self.tested_rows = np.concatenate([fold.test_rows for fold in self.folds])
        ends = np.cumsum([len(fold.test_rows) for fold in self.folds])
        parts = [slice(end - len(fold.test_rows), end) for fold, end in zip(self.folds, ends.tolist(), strict=True)]
        tested = self.group_of[sequence_ids_of(self.tested_rows, starts)]
        self.n_tested = len(np.unique(tested))
        self.scorer = Scorer(tested, config.bootstrap, seed, parts)
        self.state_sets = state_sets(dump.names, config.alignment)
        if not self.state_sets:
            raise InputError(f"{dump.name} has no states for probes of alignment {config.alignment!r}: {dump.names}")
        self._hypotheses: tuple[Hypothesis, ...] = ()
        self._shared: dict[Hashable, Any] = {}
        self.main_set = "all" if "all" in self.state_sets else next(iter(self.state_sets))

    def columns(self, name: str) -> list[tuple[str, int]]:
        """Return (array, unit) of each column of a state set."""
        return [(array, unit) for array in self.state_sets[name] for unit in range(self.dump.array(array).shape[1])]

    def activation(self, unit: dict[str, Any], start: int, stop: int) -> np.ndarray:
        """Return one unit's activation, float64, at rows from the start of a sequence, aligned as the fits are."""
        name, column = unit["states"], unit["unit"]
        if self.config.alignment == "post":
            return self.dump.array(name)[start:stop][:, column].astype(np.float64)
        sequence = int(np.searchsorted(self.dump.sequence_starts, start))
        before = self.dump.initial(name)[sequence, column]
        return np.append(before, self.dump.array(name)[start : stop - 1][:, column]).astype(np.float64)

    def fit(
        self, name: str, labels: Labels, weighting: str
    ) -> tuple[list[dict[str, Any]], dict[str, np.ndarray], dict[str, Prediction]]:
        """Fit and score all hypotheses of one kind on one state set.

        Args:
            name: the state set.
            labels: K hypotheses.
            weighting: "plain", "balanced", or "none" for continuous ones.

        Returns:
            K records, the coefficients [K, H] and intercepts [K] of the first fold, with their standard errors where
            these are asked for, and each hypothesis's prediction on the rows that it tests.
        """
        if labels.hypotheses != self._hypotheses:
            self._hypotheses, self._shared = labels.hypotheses, {}
        origin: np.ndarray | float = 0.0
        if weighting == "none":
            labels, origin = self.shared("centred", lambda: _centred(labels))
        folds = [fit_fold(self, number, name, labels, weighting) for number in range(len(self.folds))]
        first, said = folds[0], {who: np.concatenate([fold.said[who] for fold in folds]) for who in folds[0].said}
        scores = self._scores(labels, weighting, said)
        scores["participation"] = participation_ratio(first.model.coef_ * first.sd)
        if len(self.config.C) > 1:
            scores["C"] = first.model.C
        if self.config.controls and weighting != "balanced":
            scores |= self._controls(labels, scores, said, first.controls)
        if weighting != "none":
            scores["localisation"] = localisation(scores["best_unit_auroc"], scores["auroc"])
        columns, of_each = self.columns(name), (first.model.coef_, first.sd, first.alone)
        units, largest = (
            unit_records(columns, first.orders[by][:, :N_TOP_UNITS], *of_each)
            for by in (self.ranking(weighting), "weight_sd")
        )
        # What a fold could not fit is shown.
        statuses = np.stack([fold.model.status_ for fold in folds])
        status = np.take_along_axis(statuses, (statuses != CONVERGED).argmax(axis=0)[None], axis=0)[0]
        records = self._records(name, labels, weighting, scores, units, largest, status)
        if len(folds) > 1:
            best = np.stack([fold.orders[self.ranking(weighting)][:, 0] for fold in folds])
            agreed = np.where(best[0] >= 0, (best == best[0]).mean(axis=0), np.nan)
            for record, share in zip(records, agreed, strict=True):
                record |= {"folds": len(folds), "best_unit_share": json_number(share)}
        sparse = [fold.sparse for fold in folds if fold.sparse is not None]
        if sparse:
            measure, chance = MEASURES["continuous" if weighting == "none" else "boolean"]
            more = sparse_records(sparse, scores[measure], chance)
            selected = unit_records(columns, sparse[0].selected, *of_each)
            for record, each, units_of in zip(records, more, selected, strict=True):
                record |= each | {"selected_units": units_of}
        predicted = first.said["probe"] + origin if weighting == "none" else expit(first.said["probe"])
        found = {
            each.name: Prediction(name, weighting, predicted[:, k], self.test_rows, units[k][0] if units[k] else None)
            for k, each in enumerate(labels.hypotheses)
        }
        return records, self._coefficients(name, labels, first.model, origin), found

    def _coefficients(
        self, name: str, labels: Labels, model: LogisticProbes | RidgeProbes, origin: np.ndarray | float
    ) -> dict[str, np.ndarray]:
        """Return coefficients and intercepts, with their standard errors where these are asked for."""
        found = {"coefficient": np.asarray(model.coef_), "intercept": np.asarray(model.intercept_) + origin}
        if self.config.standard_errors and isinstance(model, LogisticProbes):
            groups = self.group_of[sequence_ids_of(self.train_rows, self.dump.sequence_starts)]
            of_train = labels.values[self.train_rows], labels.defined[self.train_rows].astype(np.float32)
            errors = model.standard_errors(self.states(name, self.train), *of_train, groups=groups)
            found |= {"coefficient_error": errors.coef, "intercept_error": errors.intercept}
        return found

    def _scores(self, labels: Labels, weighting: str, said: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return how well probes and single units tell the tested rows, beside what the text alone tells."""
        Y, defined = labels.values[self.tested_rows], labels.defined[self.tested_rows]
        text, probe, unit = self._text(labels, weighting), said["probe"], said["unit"]
        if weighting == "none":
            scores = self.scorer.regression(Y, probe, text, defined)
            return scores | {"best_unit_pearson": self.scorer.pearson(Y, unit, defined)}
        scores = self.scorer.classification(Y, probe, text, defined, said.get("restored"))
        # Where one fold has no unit, neither score is of all.
        f1 = np.where(np.isnan(unit).any(axis=0), np.nan, self.scorer.f1(Y, said["unit_above"], defined))
        of_unit = self.scorer.auroc(Y, unit, defined), f1
        return scores | dict(zip(("best_unit_auroc", "best_unit_f1"), of_unit, strict=True))

    def _controls(
        self,
        labels: Labels,
        scores: dict[str, np.ndarray],
        said: dict[str, np.ndarray],
        others: dict[str, np.ndarray],
    ) -> dict[str, np.ndarray]:
        """Return what stands behind the scores of a state set; NaN where it is not known or would take too much."""
        Y, defined = labels.values[self.tested_rows], labels.defined[self.tested_rows]
        found = dict.fromkeys(CONTROLS, np.full(len(labels.hypotheses), np.nan)) | others
        found["leak"] = found["character_split_score"] - scores["auroc" if Y.dtype == bool else "r2"]
        if "control" in said:
            score = control_score(self.scorer, said["control_labels"], said["control"], defined)
            found |= {"control_score": score, "selectivity": scores["f1" if Y.dtype == bool else "r2"] - score}
        if "untrained" in said:
            above = self.scorer.above(Y, said["probe"], said["untrained"], defined)
            found |= dict(zip(UNTRAINED, above, strict=True))
        return found

    def shared(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what several fits of the same hypotheses share; the first makes it."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def ranking(self, weighting: str) -> str:
        """What puts a unit first: a continuous hypothesis has no classes for one to tell apart."""
        return "correlation" if weighting == "none" and self.config.ranking == "auroc" else self.config.ranking

    def states(self, name: str, sequences: np.ndarray, of: StateSource | None = None) -> np.ndarray | SequenceRows:
        """Return a state set in the rows of some sequences: in memory if all its rows take half of what may be used.

        Args:
            name: the state set.
            sequences: their numbers.
            of: states at the same rows as the dump's; default: the dump.
        """
        states = (of or self.dump).of_sequences(self.state_sets[name], sequences, self.config.alignment)
        return states if self.stays_on_disk(name, of) else np.asarray(states)

    def stays_on_disk(self, name: str, of: StateSource | None = None) -> bool:
        """Whether all rows of a state set take more than half of what may be used."""
        of_all = self.dump.n_rows * len(self.columns(name)) * (of or self.dump).dtype.itemsize
        return of_all > self.config.memory_bytes // 2

    def _records(
        self,
        name: str,
        labels: Labels,
        weighting: str,
        scores: dict[str, np.ndarray],
        units: list[list[dict[str, Any]]],
        largest: list[list[dict[str, Any]]],
        statuses: np.ndarray,
    ) -> list[dict[str, Any]]:
        """Return what `probes.json` says of each hypothesis."""
        n_train = labels.defined[self.train_rows].sum(axis=0)
        n_test = labels.defined[self.tested_rows].sum(axis=0)
        return [
            {
                "hypothesis": each.name,
                "kind": each.values,
                "states": name,
                "alignment": self.config.alignment,
                "weighting": weighting,
                "n_train": int(n_train[k]),
                "n_test": int(n_test[k]),
                **{metric: json_number(values[k]) for metric, values in scores.items()},
                "top_units": units[k],
                "largest_weights": largest[k],
                "status": str(statuses[k]),
            }
            for k, each in enumerate(labels.hypotheses)
        ]

    def _text(self, labels: Labels, weighting: str) -> Any:
        """Return what the text alone scores on the tested rows, or predicts of continuous hypotheses.

        Every state set shares it. None where it is not known what was read.
        """
        if self.dump.tokens is None:
            return None
        Y, defined = labels.values[self.tested_rows], labels.defined[self.tested_rows]

        def best() -> Any:
            folds = [self._of_text(fold, labels, weighting) for fold in self.folds]
            says = [np.concatenate(each) for each in zip(*folds, strict=True)]
            if weighting == "none":
                return self.scorer.best_of(says, Y, defined)[0]
            return self.scorer.text(Y, says, defined)

        return self.shared(("text", weighting), best)

    def _of_text(self, fold: Fold, labels: Labels, weighting: str) -> list[np.ndarray]:
        """Return what each predictor that reads the text alone says of the rows that a fold tests."""
        # A sequence that was cut out of a document follows what stands before it there, as its states do.
        assert self.dump.tokens is not None
        text, rows = (self.dump.tokens, self.dump.document_starts), fold.train_rows
        train = rows, labels.values[rows], labels.defined[rows]
        class_weight, alignment = "balanced" if weighting == "balanced" else None, self.config.alignment
        starts = self.dump.sequence_starts
        predictors = (
            NgramTable(class_weight=class_weight, alignment=alignment),
            TextProbe(starts, weighting, alignment),
            TextProbe(starts, weighting, alignment, k=0),
        )
        return [each.fit(*text, *train).predict_proba(*text, fold.test_rows) for each in predictors]


def _centred(labels: Labels) -> tuple[Labels, np.ndarray]:
    """Return continuous labels less their means, and these, [K].

    Neither R2 nor r is of what all have in common, such as the seconds since 1970; predictions in single precision
    would be of little else.
    """
    n = np.maximum(labels.defined.sum(axis=0), 1)
    origin = np.where(labels.defined, labels.values, 0).sum(axis=0) / n
    return Labels(labels.hypotheses, np.where(labels.defined, labels.values - origin, 0), labels.defined), origin
