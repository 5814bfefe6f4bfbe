"""How well scores order the rows of a yes-or-no hypothesis, whatever threshold is put to them.

AUROC is the chance that a positive row has a higher score than a negative one (Mann & Whitney, 1947): 1/2 for scores
that know nothing, however rare the hypothesis. Its intervals are over sequences, as those of `metrics` are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from gatescope.analysis.intervals import resamples

# Of resampled rows, scores that share one of so many equal parts count as ties. That moves AUROC by about 1 / (2 BINS)
# at most, and far less where scores of both classes are mixed.
BINS = 1024
# A sparse product takes about this many times as long for each of its numbers as a dense one.
SPARSE = 8


def ordering(y: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return AUROC and average precision of one hypothesis, as scikit-learn defines them, from one sort.

    Args:
        y: [n] bool labels.
        score: [n], the higher, the likelier.

    Returns:
        NaN for AUROC without both classes, for average precision without a positive.
    """
    n_positive = float(y.sum())
    n_negative = len(y) - n_positive
    if n_positive == 0:
        return np.nan, np.nan
    # Ties are taken together, in whatever order the sort leaves them.
    order = np.argsort(-score)
    sorted_y, sorted_score = y[order], score[order]
    last = _ends_of_ties(sorted_score)
    true_positives = np.cumsum(sorted_y)[last].astype(np.float64)
    chosen = last + 1.0
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
    # The same for every hypothesis: how often each sequence is drawn, [S, resamples], in a byte each.
    blocks = [drawn.T.astype(np.uint8, order="C") for drawn in resamples(len(distinct), n_bootstrap, seed)]
    most_drawn = max(int(block.max()) for block in blocks)
    found = np.full((n_bootstrap, Y.shape[1]), np.nan)
    for k in range(Y.shape[1]):
        rows = np.flatnonzero(defined[:, k])
        s = score[rows, k]
        if not len(s) or np.isnan(s).any():
            continue
        order = np.argsort(s)
        rows, s = rows[order], s[order]
        parts = np.unique(s[np.ceil(np.linspace(0, 1, BINS + 1)[1:-1] * (len(s) - 1)).astype(np.int64)])
        n_parts = len(parts) + 1
        part = np.repeat(np.arange(n_parts), np.diff(np.searchsorted(s, parts), prepend=0, append=len(s)))
        counts = _cells(part + n_parts * Y[rows, k], sequence[rows], (2 * n_parts, len(distinct)))
        # Whole numbers, exact in single precision unless the rows of a part are many.
        exact = np.float32 if counts.sum(axis=1).max() * most_drawn < 2**24 else np.float64
        counts = counts.astype(exact)
        aurocs = []
        for times_drawn in blocks:
            drawn = (counts @ times_drawn.astype(exact)).astype(np.float64)
            negatives, positives = drawn[:n_parts], drawn[n_parts:]
            below = np.cumsum(negatives, axis=0)
            pairs = below[-1] * positives.sum(axis=0)
            below -= negatives / 2
            ordered = np.einsum("pn,pn->n", positives, below)
            aurocs.append(np.divide(ordered, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))
        found[:, k] = np.concatenate(aurocs)
    return found


def _cells(cell: np.ndarray, sequence: np.ndarray, shape: tuple[int, int]) -> Any:
    """Return how many rows of each sequence lie in each cell, [cells, S]; sparse where there are far more than rows."""
    if shape[0] * shape[1] <= SPARSE * len(cell):
        return np.bincount(cell * shape[1] + sequence, minlength=shape[0] * shape[1]).reshape(shape)
    return sparse.coo_array((np.ones(len(cell), np.int64), (cell, sequence)), shape).tocsr()


def f1_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """Return the threshold above which calling rows positive gives the largest F1; of several the highest.

    Args:
        y: [n] bool labels, not empty.
        score: [n].
    """
    order = np.argsort(-score)
    sorted_y, sorted_score = y[order], score[order].astype(np.float64)
    last = _ends_of_ties(sorted_score)
    f1 = 2 * np.cumsum(sorted_y)[last] / (last + 1.0 + max(y.sum(), 1))
    best = int(np.argmax(f1))
    # Half way to the next score: what is equal on unseen rows falls on the same side.
    below = sorted_score[last[best + 1]] if best + 1 < len(last) else sorted_score[-1] - 1
    return float((sorted_score[last[best]] + below) / 2)
