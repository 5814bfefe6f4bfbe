"""The scores of predictions on the test rows, beside those of predictors that know no state."""

from __future__ import annotations

import numpy as np

from gatescope.analysis.baselines import always_positive, majority_f1
from gatescope.analysis.metrics import (
    bootstrap_difference,
    bootstrap_interval,
    classification_metrics,
    confusion_by_sequence,
    moment_metrics,
    moments_by_sequence,
)
from gatescope.analysis.scoring import probability_metrics, restore_prior

PLAIN = ("prevalence", "accuracy", "precision", "recall", "f1", "mcc", "balanced_accuracy")
OVER = ("f1_over_majority_low", "f1_over_majority_high", "f1_over_ngram_low", "f1_over_ngram_high")
OF_PROBABILITIES = ("auroc", "average_precision", "log_loss_bits", "brier", "ece")
REGRESSION = ("r2", "r2_low", "r2_high", "pearson")
FEWEST_GROUPS = 8


class Scorer:
    """Scores K hypotheses on the same n rows; what is undefined, or has no prediction, counts nowhere.

    Args:
        groups: [n], the group of sequences of each row, which is resampled as a whole. Of fewer than 8 there are no
            intervals: resamples of two groups tell little more than whether both agree.
        n_bootstrap, seed: of the resampling.
    """

    def __init__(self, groups: np.ndarray, n_bootstrap: int, seed: int) -> None:
        self._groups, self._n_bootstrap, self._seed = groups, n_bootstrap, seed
        self._has_intervals = len(np.unique(groups)) >= FEWEST_GROUPS

    def classification(
        self,
        Y: np.ndarray,
        probability: np.ndarray,
        ngram: np.ndarray | None,
        defined: np.ndarray,
        weight_ratio: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Score probabilities at the threshold 1/2, and by themselves.

        Args:
            Y: [n, K] bool labels.
            probability: [n, K], of the probe.
            ngram: [n, K], of the n-gram table, or None.
            defined: [n, K] bool.
            weight_ratio: [K], negatives per positive among the training rows, where classes had balanced weights: then
                the metrics of probabilities are those at the frequencies of the data.

        Returns:
            Every score of a record, [K] each.
        """
        counts = self._counts(Y, probability, defined)
        metrics = classification_metrics(counts.sum(axis=0))
        low, high = self._interval("f1", counts)
        over = [*self._interval("f1", counts, always_positive(counts))]
        missing = table_f1 = np.full(Y.shape[1], np.nan)
        if ngram is None:
            over += [missing, missing]
        else:
            table_counts = self._counts(Y, ngram, defined)
            table_f1 = classification_metrics(table_counts.sum(axis=0))["f1"]
            over += self._interval("f1", counts, table_counts)
        odds = probability if weight_ratio is None else restore_prior(probability, weight_ratio)
        return {
            **{name: metrics[name] for name in PLAIN},
            "f1_low": low,
            "f1_high": high,
            **dict(zip(OVER, over, strict=True)),
            **probability_metrics(Y, odds, defined),
            **dict.fromkeys(REGRESSION, missing),
            "baseline_majority_f1": majority_f1(counts.sum(axis=0)),
            "baseline_ngram_f1": table_f1,
            "baseline_ngram_r2": missing,
        }

    def regression(
        self, target: np.ndarray, predicted: np.ndarray, ngram: np.ndarray | None, defined: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Score predicted values [n, K]; arguments and results as those of `classification`."""
        missing = table_r2 = np.full(target.shape[1], np.nan)
        moments = self._moments(target, predicted, defined)
        metrics = moment_metrics(moments.sum(axis=0))
        low, high = self._interval("r2", moments)
        if ngram is not None:
            table_r2 = self.r2(target, ngram, defined)
        names = (*PLAIN, "f1_low", "f1_high", *OVER, *OF_PROBABILITIES)
        return {
            **dict.fromkeys(names, missing),
            **dict(zip(REGRESSION, (metrics["r2"], low, high, metrics["pearson"]), strict=True)),
            "baseline_majority_f1": missing,
            "baseline_ngram_f1": missing,
            "baseline_ngram_r2": table_r2,
        }

    def f1(self, Y: np.ndarray, probability: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """F1 of probabilities at the threshold 1/2, [K]."""
        return classification_metrics(self._counts(Y, probability, defined).sum(axis=0))["f1"]

    def r2(self, target: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        """R2 of predicted values, [K]."""
        return moment_metrics(self._moments(target, predicted, defined).sum(axis=0))["r2"]

    def _interval(
        self, metric: str, sums: np.ndarray, other: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The interval of a metric, or of how far it lies above that of another predictor; NaN where there is none."""
        if not self._has_intervals:
            missing = np.full(sums.shape[1], np.nan)
            return missing, missing
        if other is None:
            return bootstrap_interval(sums, metric, self._n_bootstrap, self._seed)
        return bootstrap_difference(sums, other, metric, self._n_bootstrap, self._seed)

    def _counts(self, Y: np.ndarray, probability: np.ndarray, defined: np.ndarray) -> np.ndarray:
        return confusion_by_sequence(Y, probability > 0.5, defined & np.isfinite(probability), self._groups)

    def _moments(self, target: np.ndarray, predicted: np.ndarray, defined: np.ndarray) -> np.ndarray:
        weight = (defined & np.isfinite(predicted)).astype(np.float64)
        return moments_by_sequence(target, np.where(weight > 0, predicted, 0), weight, self._groups)
