"""Scores of predictions on the test rows, beside those of predictors that see no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gatescope.analysis.baselines import majority_f1
from gatescope.analysis.influence import auroc_influence, r2_influence
from gatescope.analysis.intervals import (
    SHARE,
    UNBOUNDED,
    bootstrap_difference,
    bootstrap_interval,
    effective_sequences,
    t_interval,
)
from gatescope.analysis.metrics import (
    WHOLE,
    classification_metrics,
    confusion_by_sequence,
    moment_metrics,
    moments_by_sequence,
)
from gatescope.analysis.ordering import auroc, resampled_auroc
from gatescope.analysis.probability_metrics import probability_metrics

PLAIN = ("prevalence", "accuracy", "precision", "recall", "f1", "mcc", "balanced_accuracy")
INTERVALS = ("f1_low", "f1_high", "auroc_low", "auroc_high", "auroc_over_text_low", "auroc_over_text_high")
OF_PROBABILITIES = ("auroc", "average_precision", "log_loss_bits", "brier", "ece")
REGRESSION = ("r2", "pearson", "r2_low", "r2_high", "r2_over_text_low", "r2_over_text_high")
BASELINES = ("baseline_majority_f1", "baseline_text_f1", "baseline_text_auroc", "baseline_text_r2")
FEWEST_GROUPS = 8


@dataclass(frozen=True)
class TextScores:
    """The scores of the text alone on boolean hypotheses, which are the same for every state set.

    Args:
        f1, auroc: [K].
        resampled: AUROC under each resample, [n_bootstrap, K].
    """

    f1: np.ndarray
    auroc: np.ndarray
    resampled: np.ndarray


class Scorer:
    """Scores K hypotheses on the same n rows; undefined labels, and rows without a prediction, are not counted.

    Args:
        groups: [n], the group of sequences of each row, which is resampled as a whole. With fewer than 8 there are no
            intervals: resamples of two groups show little more than whether both agree.
        n_bootstrap, seed: number of resamples, and seed.
        parts: parts of the rows, each predicted by one probe. Predictions of different probes are not compared: AUROC
            and average precision are means over parts, and R2 and Pearson's r centre values at the means of their part.
    """

    def __init__(self, groups: np.ndarray, n_bootstrap: int, seed: int, parts: Sequence[slice] = WHOLE) -> None:
        self._groups, self._n_bootstrap, self._seed, self._parts = groups, n_bootstrap, seed, parts
        self._has_intervals = len(np.unique(groups)) >= FEWEST_GROUPS

    def classification(
        self,
        Y: np.ndarray,
        logit: np.ndarray,
        text: TextScores | None,
        defined: np.ndarray,
        restored: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Score logits at the threshold 0, where the probability is 1/2, and without a threshold.

        Args:
            Y: [n, K] bool labels.
            logit: [n, K], from the probe.
            text: the scores of the text alone on the same rows, or None.
            defined: [n, K] bool.
            restored: [n, K], the logits at the class frequencies of the data if those of the probe are of balanced
                classes: the metrics of probabilities are computed from these.

        Returns:
            Every score of a record, and the effective number of sequences, [K] each.
        """
        counts = self._counts(Y, logit > 0, defined & ~np.isnan(logit))
        metrics = classification_metrics(counts.sum(axis=0))
        missing = np.full(Y.shape[1], np.nan)
        baselines = dict.fromkeys(BASELINES, missing) | {"baseline_majority_f1": majority_f1(counts.sum(axis=0))}
        of_probabilities = probability_metrics(Y, logit if restored is None else restored, defined, self._parts)
        area, resampled = of_probabilities["auroc"], self._resampled_auroc(Y, logit, defined)
        n_sequences, over = effective_sequences(counts), (missing, missing)
        if text is not None:
            baselines |= {"baseline_text_f1": text.f1, "baseline_text_auroc": text.auroc}
            over = t_interval(area - text.auroc, resampled - text.resampled, n_sequences, UNBOUNDED)
        ends = [*self._interval("f1", counts), *t_interval(area, resampled, n_sequences, SHARE), *over]
        return {
            **{name: metrics[name] for name in PLAIN},
            **dict(zip(INTERVALS, ends, strict=True)),
            **of_probabilities,
            **dict.fromkeys(REGRESSION, missing),
            **baselines,
            "n_sequences": n_sequences,
        }

    def above(
        self, Y: np.ndarray, score: np.ndarray, other: np.ndarray, defined: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the score of another predictor, and the interval of how far the first lies above it, [K] each.

        The score is AUROC for logits or probabilities [n, K], R2 for values.
        """
        if Y.dtype == bool:
            found = [self.auroc(Y, each, defined) for each in (score, other)]
            drawn = [self._resampled_auroc(Y, each, defined) for each in (score, other)]
            n_sequences = effective_sequences(self._counts(Y, Y, defined))
            return found[1], *t_interval(found[0] - found[1], drawn[0] - drawn[1], n_sequences, UNBOUNDED)
        moments = [self._moments(Y, each, defined) for each in (score, other)]
        return moment_metrics(moments[1].sum(axis=0))["r2"], *self._interval("r2", *moments)

    def score(self, Y: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """The score that judges a hypothesis, [K]: AUROC of decision values, or R2 of continuous values."""
        return (self.auroc if Y.dtype == bool else self.r2)(Y, predicted, defined)

    def influence(self, Y: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """The influence of each group of sequences on that score, [S, K]."""
        if Y.dtype == bool:
            return auroc_influence(Y, predicted, defined, self._groups, self._parts)
        return r2_influence(self._moments(Y, predicted, defined))

    def best_of(
        self, predictions: Sequence[np.ndarray], Y: np.ndarray, defined: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return, for each hypothesis, the best of several predictions [n, K], and its score [K].

        The score is AUROC or R2. Taking the best favours the baseline, so it never makes it easier for the probe.
        """
        scores = np.stack([self.score(Y, each, defined) for each in predictions])
        best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=0)
        return np.choose(best, predictions), np.choose(best, scores)

    def text(self, Y: np.ndarray, probabilities: Sequence[np.ndarray], defined: np.ndarray) -> TextScores:
        """Score the text alone on boolean hypotheses: the best F1 and AUROC of several probabilities, [n, K] each."""
        best, area = self.best_of(probabilities, Y, defined)
        f1 = np.max([self.f1(Y, each, defined) for each in probabilities], axis=0)
        return TextScores(f1, area, self._resampled_auroc(Y, best, defined))

    def regression(
        self, target: np.ndarray, predicted: np.ndarray, text: np.ndarray | None, defined: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Score predicted values [n, K] beside those of the text alone; returns the same as `classification`."""
        missing = np.full(target.shape[1], np.nan)
        moments = self._moments(target, predicted, defined)
        metrics = moment_metrics(moments.sum(axis=0))
        baselines, over = dict.fromkeys(BASELINES, missing), (missing, missing)
        if text is not None:
            of_text = self._moments(target, text, defined)
            baselines["baseline_text_r2"] = moment_metrics(of_text.sum(axis=0))["r2"]
            over = self._interval("r2", moments, of_text)
        found = metrics["r2"], metrics["pearson"], *self._interval("r2", moments), *over
        return {
            **dict.fromkeys((*PLAIN, *INTERVALS, *OF_PROBABILITIES), missing),
            **dict(zip(REGRESSION, found, strict=True)),
            **baselines,
            "n_sequences": effective_sequences(moments),
        }

    def f1(self, Y: np.ndarray, probability: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """F1 of probabilities at the threshold 1/2, [K]."""
        counts = self._counts(Y, probability > 0.5, defined & ~np.isnan(probability))
        return classification_metrics(counts.sum(axis=0))["f1"]

    def auroc(self, Y: np.ndarray, score: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """AUROC of scores, [K]."""
        return auroc(Y, score, defined, self._parts)

    def auroc_interval(self, Y: np.ndarray, score: np.ndarray, defined: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """95% interval of the AUROC of scores, [K] each; NaN where there is none."""
        n_sequences = effective_sequences(self._counts(Y, Y, defined))
        return t_interval(self.auroc(Y, score, defined), self._resampled_auroc(Y, score, defined), n_sequences, SHARE)

    def r2(self, target: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """R2 of predicted values, [K]."""
        return moment_metrics(self._moments(target, predicted, defined).sum(axis=0))["r2"]

    def pearson(self, target: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """Pearson's r of predicted values, [K]."""
        return moment_metrics(self._moments(target, predicted, defined).sum(axis=0))["pearson"]

    def _resampled_auroc(self, Y: np.ndarray, score: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """AUROC under each resample, [n_bootstrap, K]; NaN if there are too few groups."""
        if not self._has_intervals:
            return np.full((self._n_bootstrap, Y.shape[1]), np.nan)
        return resampled_auroc(Y, score, defined, self._groups, self._n_bootstrap, self._seed, self._parts)

    def _interval(
        self, metric: str, sums: np.ndarray, other: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The interval of a metric, or of how far it lies above another predictor's; NaN where there is none."""
        if not self._has_intervals:
            missing = np.full(sums.shape[1], np.nan)
            return missing, missing
        if other is None:
            return bootstrap_interval(sums, metric, self._n_bootstrap, self._seed)
        return bootstrap_difference(sums, other, metric, self._n_bootstrap, self._seed)

    def _counts(self, Y: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        return confusion_by_sequence(Y, predicted, defined, self._groups)

    def _moments(self, target: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        weight = (defined & np.isfinite(predicted)).astype(np.float64)
        return moments_by_sequence(target, np.where(weight > 0, predicted, 0), weight, self._groups, self._parts)
