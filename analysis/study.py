"""The fits of one dump: the rows and columns that all probes share, and how a probe is scored.

Sequences, not characters, are divided into training and test, those of one document together where there are enough
documents, and every variant sees the same rows. Scores are of the test rows, with bootstrap intervals over test
sequences (or documents), beside those of predictors that ignore their input and of what the text alone tells, its last
five characters and how many were read; how far a score lies above the latter has an interval of its own, of the same
resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from gatescope.analysis.baselines import NgramTable
from gatescope.analysis.evidence import above_untrained, best_unit_p, compression, control_score
from gatescope.analysis.excerpts import Prediction
from gatescope.analysis.hypotheses import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.ranking import localisation, participation_ratio, rank_units, unit_records
from gatescope.analysis.results import json_number
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.sparse import sparse_records
from gatescope.analysis.split import groups_of, rows_of, sequence_ids_of, split_sequences
from gatescope.analysis.state_sets import state_sets
from gatescope.analysis.text_probe import TextProbe
from gatescope.analysis.units_alone import best_unit_scores, column_sd, units_alone
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.ridge import RidgeProbes
from gatescope.engine.sequence_rows import SequenceRows
from gatescope.engine.state_source import StateSource

N_TOP_UNITS = 10
UNTRAINED = ("untrained_score", "above_untrained_low", "above_untrained_high")
CONTROLS = ("control_score", "selectivity", "best_unit_p", "compression", *UNTRAINED)


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
        self.train, self.test = split_sequences(self.group_of, config.test_share, seed)
        self.train_rows, self.test_rows = rows_of(self.train, starts), rows_of(self.test, starts)
        groups = self.group_of[sequence_ids_of(self.test_rows, starts)]
        self.scorer = Scorer(groups, config.bootstrap, seed)
        self.state_sets = state_sets(dump.names, config.alignment)
        if not self.state_sets:
            raise InputError(f"{dump.name} has no states for probes of alignment {config.alignment!r}: {dump.names}")
        # What several fits of the same hypotheses share; and the standard deviations of each state set.
        self._hypotheses: tuple[Hypothesis, ...] = ()
        self._baselines: dict[str, Any] = {}
        self._alone: dict[str, dict[str, np.ndarray]] = {}
        self._sd: dict[str, np.ndarray] = {}
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
            K records, the coefficients [K, H] and intercepts [K], with their standard errors where these are asked for,
            and each hypothesis's prediction on the test rows.
        """
        if labels.hypotheses != self._hypotheses:
            self._hypotheses, self._baselines, self._alone = labels.hypotheses, {}, {}
        X_train, X_test = self.states(name, self.train), self.states(name, self.test)
        memory = None if isinstance(X_train, np.ndarray) else self.config.memory_limit
        Y_train, Y_test = labels.values[self.train_rows], labels.values[self.test_rows]
        defined_train, defined_test = labels.defined[self.train_rows], labels.defined[self.test_rows]
        if weighting == "none":
            model: LogisticProbes | RidgeProbes = RidgeProbes(C=self.config.C, memory_limit=memory)
        else:
            class_weight = "balanced" if weighting == "balanced" else None
            model = LogisticProbes(C=self.config.C, class_weight=class_weight, memory_limit=memory)
        model.fit(X_train, Y_train, sample_weight=defined_train.astype(np.float32))
        train, test = (X_train, Y_train, defined_train), (X_test, Y_test, defined_test)
        raw, predicted, scores = self._scored(labels, weighting, model, train, test)
        if self.config.controls and weighting != "balanced":
            scores |= self._controls(name, model, labels, scores, raw, X_train, X_test)
        orders, of_units = self._units(name, weighting, model.coef_, train, test)
        scores |= of_units
        if weighting != "none":
            scores["localisation"] = localisation(scores["best_unit_auroc"], scores["auroc"])
        columns, of_each = self.columns(name), (model.coef_, self._sd[name], self._alone[name])
        units, largest = (
            unit_records(columns, orders[by][:, :N_TOP_UNITS], *of_each)
            for by in (self._ranking(weighting), "weight_sd")
        )
        records = self._records(name, labels, weighting, scores, units, largest, model.status_)
        if self.config.sparse and name == self.main_set and weighting != "balanced":
            full = scores["r2" if weighting == "none" else "auroc"]
            more = sparse_records(self, model, labels, orders, full, X_train, X_test)
            records = [record | each for record, each in zip(records, more, strict=True)]
        found = {
            each.name: Prediction(name, weighting, predicted[:, k], self.test_rows, units[k][0] if units[k] else None)
            for k, each in enumerate(labels.hypotheses)
        }
        weights = {"coefficient": np.asarray(model.coef_), "intercept": np.asarray(model.intercept_)}
        if self.config.standard_errors and isinstance(model, LogisticProbes):
            groups = self.group_of[sequence_ids_of(self.train_rows, self.dump.sequence_starts)]
            errors = model.standard_errors(X_train, Y_train, defined_train.astype(np.float32), groups=groups)
            weights |= {"coefficient_error": errors.coef, "intercept_error": errors.intercept}
        return records, weights, found

    def _scored(
        self,
        labels: Labels,
        weighting: str,
        model: LogisticProbes | RidgeProbes,
        train: tuple[Any, np.ndarray, np.ndarray],
        test: tuple[Any, np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Return logits (values of continuous hypotheses) and predictions [n, K] on the test rows, and their scores."""
        (_, Y_train, defined_train), (X_test, Y_test, defined_test) = train, test
        alone = self._baseline(labels, weighting)
        if isinstance(model, RidgeProbes):
            predicted = model.predict(X_test)
            return predicted, predicted, self.scorer.regression(Y_test, predicted, alone, defined_test)
        logits, ratio = model.decision_function(X_test), None
        if weighting == "balanced":
            positive = (Y_train & defined_train).sum(axis=0)
            negative = defined_train.sum(axis=0) - positive
            # Of one class alone there is no probe whose probabilities could be carried back.
            both = (positive > 0) & (negative > 0)
            ratio = np.where(both, negative / np.maximum(positive, 1), 1.0)
        return logits, expit(logits), self.scorer.classification(Y_test, logits, alone, defined_test, ratio)

    def _units(
        self,
        name: str,
        weighting: str,
        coefficients: np.ndarray,
        train: tuple[Any, np.ndarray, np.ndarray],
        test: tuple[Any, np.ndarray, np.ndarray],
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the order [K, H] of the units by the ranking and by their weights, and scores [K] of the first unit.

        The training rows choose them: the test rows must not choose the units that they then speak for.

        Args:
            coefficients: [K, H] of the probes.
            train, test: states, labels and where they are defined.
        """
        # Single units know no class weights: both weightings share them.
        if name not in self._alone:
            memory = None if isinstance(train[0], np.ndarray) else self.config.memory_limit
            self._alone[name] = units_alone(*train, memory)
        if name not in self._sd:
            self._sd[name] = column_sd(train[0])
        alone, sd = self._alone[name], self._sd[name]
        # Without a fit there is nothing to rank by.
        unfitted = ~(np.isfinite(coefficients).all(axis=1) & (coefficients != 0).any(axis=1))
        ranking = self._ranking(weighting)
        orders = {by: rank_units(by, coefficients=coefficients, sd=sd, **alone) for by in (ranking, "weight_sd")}
        for order in orders.values():
            order[unfitted] = -1
        best = orders[ranking][:, 0]
        (statistic, values), each = next(iter(alone.items())), np.arange(len(best))
        sign = np.where(values[each, best] < (0.5 if statistic == "auroc" else 0), -1.0, 1.0)
        scores = {"participation": participation_ratio(coefficients * sd)}
        return orders, scores | best_unit_scores(best, sign, train, test, self.scorer)

    def _controls(
        self,
        name: str,
        model: Any,
        labels: Labels,
        scores: dict[str, np.ndarray],
        raw: np.ndarray,
        X_train: Any,
        X_test: Any,
    ) -> dict[str, np.ndarray]:
        """Return what stands behind the scores of a state set; NaN where it is not known or would take too much."""
        missing, boolean = np.full(len(labels.hypotheses), np.nan), labels.values.dtype == bool
        found = dict.fromkeys(CONTROLS, missing)
        if self.dump.tokens is not None:
            score = control_score(self, model, labels, X_train, X_test)
            found |= {"control_score": score, "selectivity": scores["f1" if boolean else "r2"] - score}
        if self.untrained is not None:
            found |= dict(zip(UNTRAINED, above_untrained(self, model, name, labels, raw), strict=True))
        if boolean:
            found["compression"] = compression(self, model, name, labels)
            if isinstance(X_train, np.ndarray):
                found["best_unit_p"] = best_unit_p(self, labels, X_train)
        return found

    def states(self, name: str, sequences: np.ndarray, of: StateSource | None = None) -> np.ndarray | SequenceRows:
        """Return a state set in the rows of some sequences: in memory if all its rows take half of what may be used.

        Args:
            name: the state set.
            sequences: their numbers.
            of: states at the same rows as the dump's; default: the dump.
        """
        states = (of or self.dump).of_sequences(self.state_sets[name], sequences, self.config.alignment)
        of_all = self.dump.n_rows * states.shape[1] * states.dtype.itemsize
        return states if of_all > self.config.memory_bytes // 2 else np.asarray(states)

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
        n_test = labels.defined[self.test_rows].sum(axis=0)
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

    def _baseline(self, labels: Labels, weighting: str) -> Any:
        """Return what the text alone scores on the test rows, or predicts of continuous hypotheses.

        Every state set shares it. None where it is not known what was read.
        """
        if self.dump.tokens is None:
            return None
        if weighting not in self._baselines:
            # A sequence that was cut out of a document follows what stands before it there, as its states do.
            text, rows, test = (self.dump.tokens, self.dump.document_starts), self.train_rows, self.test_rows
            train = rows, labels.values[rows], labels.defined[rows]
            class_weight, alignment = "balanced" if weighting == "balanced" else None, self.config.alignment
            starts = self.dump.sequence_starts
            predictors = (
                NgramTable(class_weight=class_weight, alignment=alignment),
                TextProbe(starts, weighting, alignment),
                TextProbe(starts, weighting, alignment, k=0),
            )
            predictions = [each.fit(*text, *train).predict_proba(*text, test) for each in predictors]
            Y, defined = labels.values[test], labels.defined[test]
            if weighting == "none":
                self._baselines[weighting], _ = self.scorer.best_of(predictions, Y, defined)
            else:
                self._baselines[weighting] = self.scorer.text(Y, predictions, defined)
        return self._baselines[weighting]

    def _ranking(self, weighting: str) -> str:
        # A continuous hypothesis has no classes for a unit to tell apart.
        return "correlation" if weighting == "none" and self.config.ranking == "auroc" else self.config.ranking
