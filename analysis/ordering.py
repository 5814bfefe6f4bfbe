"""How well scores order the rows of a yes-or-no hypothesis, whatever threshold is put to them.

AUROC is the chance that a positive row has a higher score than a negative one (Mann & Whitney, 1947): 1/2 for scores
that know nothing, however rare the hypothesis. Its intervals are over sequences, as those of `metrics` are.
"""

from __future__ import annotations

import numpy as np

from gatescope.analysis.metrics import resamples

# Of resampled rows, scores that share one of so many equal parts count as ties. That moves AUROC by about 1 / (2 BINS)
# at most, and far less where scores of both classes are mixed.
BINS = 1024


def ordering(y: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return AUROC and average precision of one hypothesis, as scikit-learn defines them, from one sort.

    Args:
        y: [n] bool labels.
        score: [n], the higher, the likelier.

    Returns:
        NaN for AUROC without both classes, for average precision without a positive.
    """
    order = np.argsort(-score, kind="stable")
    sorted_y, sorted_score = y[order], score[order]
    last = _ends_of_ties(sorted_score)
    true_positives = np.cumsum(sorted_y)[last].astype(np.float64)
    chosen = last + 1.0
    n_positive = float(y.sum())
    n_negative = len(y) - n_positive
    if n_positive == 0:
        return np.nan, np.nan
    gained = np.diff(true_positives, prepend=0.0)
    average_precision = float((gained * true_positives / chosen).sum() / n_positive)
    if n_negative == 0:
        return np.nan, average_precision
    false_positives = chosen - true_positives
    # Trapezoids between thresholds give tied pairs their half.
    middle = true_positives - gained / 2
    auroc = float((np.diff(false_positives, prepend=0.0) * middle).sum() / (n_positive * n_negative))
    return auroc, average_precision


def _ends_of_ties(sorted_score: np.ndarray) -> np.ndarray:
    """Return the last row of each run of equal scores: a threshold takes the whole run or none of it."""
    return np.flatnonzero(np.append(sorted_score[1:] != sorted_score[:-1], True))


def auroc(Y: np.ndarray, score: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Return AUROC of K hypotheses, NaN without both classes or where a defined row has no score.

    Args:
        Y: [n, K] bool labels.
        score: [n, K].
        defined: [n, K] bool.
    """
    found = np.full(Y.shape[1], np.nan)
    for k in range(Y.shape[1]):
        y, s = Y[defined[:, k], k], score[defined[:, k], k]
        if not np.isnan(s).any():
            found[k] = ordering(y, s)[0]
    return found


def resampled_auroc(
    Y: np.ndarray, score: np.ndarray, defined: np.ndarray, sequence_ids: np.ndarray, n_bootstrap: int, seed: int
) -> np.ndarray:
    """Return AUROC under each resample of the sequences, [n_bootstrap, K]; arguments as for `auroc`."""
    distinct, sequence = np.unique(sequence_ids, return_inverse=True)
    found = np.full((n_bootstrap, Y.shape[1]), np.nan)
    for k in range(Y.shape[1]):
        rows = defined[:, k]
        y, s = Y[rows, k], score[rows, k]
        if not len(y) or np.isnan(s).any():
            continue
        parts = np.unique(np.quantile(s, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
        part = np.searchsorted(parts, s, side="right")
        n_parts = len(parts) + 1
        cells = np.bincount((2 * sequence[rows] + y) * n_parts + part, minlength=2 * len(distinct) * n_parts)
        counts = cells.reshape(len(distinct), 2 * n_parts).astype(np.float64)
        first = 0
        for times_drawn in resamples(len(distinct), n_bootstrap, seed):
            negatives, positives = np.split(times_drawn @ counts, 2, axis=1)
            below = np.cumsum(negatives, axis=1) - negatives / 2
            pairs = negatives.sum(axis=1) * positives.sum(axis=1)
            ordered = np.einsum("np,np->n", positives, below)
            behind = first + len(times_drawn)
            found[first:behind, k] = np.divide(ordered, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
            first = behind
    return found


def f1_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """Return the threshold above which calling rows positive gives the largest F1; of several the highest.

    Args:
        y: [n] bool labels, not empty.
        score: [n].
    """
    order = np.argsort(-score, kind="stable")
    sorted_y, sorted_score = y[order], score[order].astype(np.float64)
    last = _ends_of_ties(sorted_score)
    f1 = 2 * np.cumsum(sorted_y)[last] / (last + 1.0 + max(y.sum(), 1))
    best = int(np.argmax(f1))
    # Half way to the next score: what is equal on unseen rows falls on the same side.
    below = sorted_score[last[best + 1]] if best + 1 < len(last) else sorted_score[-1] - 1
    return float((sorted_score[last[best]] + below) / 2)
