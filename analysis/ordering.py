"""How well scores order the rows of a yes-or-no hypothesis, whatever threshold is put to them.

AUROC is the chance that a positive row has a higher score than a negative one (Mann & Whitney, 1947): 1/2 for scores
that know nothing, however rare the hypothesis. Its intervals are over sequences, as those of `metrics` are.

Scores of different probes, such as those of several folds, have no common scale: rows are compared within the part that
one probe scored, and every pair of them counts alike. Over all rows at once AUROC would lie too low, for where a
hypothesis is frequent among the test rows it is rarer among the training rows (Parker, Günter & Bedo, Stratification
bias in low signal microarray studies, BMC Bioinformatics 8, 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from gatescope.analysis.intervals import resamples
from gatescope.analysis.metrics import WHOLE

# Of resampled rows, scores that share one of so many equal bins count as ties. That moves AUROC by about 1 / (2 BINS)
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


def pairs_won(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return how many rows of the other class each row lies on the right side of, float64 [n]; a tie is half a row.

    Args:
        y: [n] bool labels.
        score: [n], the higher, the likelier; without NaN.
    """
    if len(y) == 0:
        return np.zeros(0)
    order = np.argsort(score)
    sorted_y, last = y[order], _ends_of_ties(score[order])
    positives = np.cumsum(sorted_y)[last]
    run_lengths = np.diff(last, prepend=-1)
    # To the middle of each run of ties.
    positives_below = positives - np.diff(positives, prepend=0) / 2
    below = (last + 1.0 - run_lengths / 2) - positives_below
    won = np.empty(len(y))
    won[order] = np.where(sorted_y, np.repeat(below, run_lengths), np.repeat(y.sum() - positives_below, run_lengths))
    return won


def _ends_of_ties(sorted_score: np.ndarray) -> np.ndarray:
    """Return the last row of each run of equal scores: a threshold takes the whole run or none of it."""
    return np.flatnonzero(np.append(sorted_score[1:] != sorted_score[:-1], True))


def ordering_within(
    Y: np.ndarray, score: np.ndarray, defined: np.ndarray, parts: Sequence[slice] = WHOLE
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUROC and average precision of K hypotheses within parts; NaN where a defined row has no score.

    The mean over parts, AUROC's by their pairs of a positive and a negative, average precision's by their positives.

    Args:
        Y: [n, K] bool labels.
        score: [n, K].
        defined: [n, K] bool.
        parts: of the rows, each with scores of one probe.
    """
    found = np.full((2, Y.shape[1]), np.nan)
    for k in range(Y.shape[1]):
        total, weights = np.zeros((2, 2))
        for part in parts:
            rows = defined[part, k]
            y, s = Y[part, k][rows], score[part, k][rows]
            if np.isnan(s).any():
                weights[:] = 0
                break
            n_positive = int(y.sum())
            weight = np.array([n_positive * (len(y) - n_positive), n_positive], dtype=np.float64)
            total += np.where(weight > 0, ordering(y, s), 0) * weight
            weights += weight
        np.divide(total, weights, out=found[:, k], where=weights > 0)
    return found[0], found[1]


def auroc(Y: np.ndarray, score: np.ndarray, defined: np.ndarray, parts: Sequence[slice] = WHOLE) -> np.ndarray:
    """Return AUROC of K hypotheses, NaN without both classes; arguments as for `ordering_within`."""
    return ordering_within(Y, score, defined, parts)[0]


def resampled_auroc(
    Y: np.ndarray,
    score: np.ndarray,
    defined: np.ndarray,
    sequence_ids: np.ndarray,
    n_bootstrap: int,
    seed: int,
    parts: Sequence[slice] = WHOLE,
) -> np.ndarray:
    """Return AUROC under each resample of the sequences, [n_bootstrap, K]; arguments as for `auroc`."""
    distinct, sequence = np.unique(sequence_ids, return_inverse=True)
    # The same for every hypothesis: how often each sequence is drawn, [S, resamples], in a byte each.
    blocks = [drawn.T.astype(np.uint8, order="C") for drawn in resamples(len(distinct), n_bootstrap, seed)]
    found = np.full((n_bootstrap, Y.shape[1]), np.nan)
    for k in range(Y.shape[1]):
        if np.isnan(score[defined[:, k], k]).any():
            continue
        ordered, pairs = np.zeros((2, n_bootstrap))
        for part in parts:
            rows = np.flatnonzero(defined[part, k])
            if len(rows):
                of_part = Y[part, k][rows], score[part, k][rows], sequence[part][rows]
                found_here = _resampled_pairs(*of_part, blocks, several=len(parts) > 1)
                ordered += found_here[0]
                pairs += found_here[1]
        np.divide(ordered, pairs, out=found[:, k], where=pairs > 0)
    return found


def _resampled_pairs(
    y: np.ndarray, s: np.ndarray, sequence: np.ndarray, blocks: Sequence[np.ndarray], several: bool
) -> np.ndarray:
    """How many pairs of a negative and a positive row each resample orders rightly, and has, [2, resamples].

    Copies of a sequence are different sequences, as in every bootstrap; but where this is one of several parts, they
    are not compared with each other. Of ten parts of four sequences such pairs would decide, and make the spread of the
    resamples 1.25 times that of the score; it is 1.13 times as large so, and 1.04 times with parts of eight. Of one
    part they hardly count: without them intervals of 8 to 12 sequences would be a hundredth shorter and cover less.

    Args:
        y: [n] bool.
        s: [n] scores.
        sequence: [n] number of each row's sequence.
        blocks: how often each resample draws each sequence, [S, resamples].
        several: whether this is one of several parts.
    """
    # Sequences of other parts have no rows here.
    present, sequence = np.unique(sequence, return_inverse=True)
    order = np.argsort(s)
    y, s, sequence = y[order], s[order], sequence[order]
    ends = np.unique(s[np.ceil(np.linspace(0, 1, BINS + 1)[1:-1] * (len(s) - 1)).astype(np.int64)])
    n_bins = len(ends) + 1
    of_row = np.repeat(np.arange(n_bins), np.diff(np.searchsorted(s, ends), prepend=0, append=len(s)))
    counts = _cells(of_row + n_bins * y, sequence, (2 * n_bins, len(present)))
    of_copies = _pairs_within(y, of_row, sequence) if several else np.zeros((2, len(present)))
    # Whole numbers, exact in single precision unless the rows of a bin are many.
    most_drawn = max(int(block.max()) for block in blocks)
    exact = np.float32 if counts.sum(axis=1).max() * most_drawn < 2**24 else np.float64
    counts, found = counts.astype(exact), []
    for times_drawn in (block[present] for block in blocks):
        drawn = (counts @ times_drawn.astype(exact)).astype(np.float64)
        negatives, positives = drawn[:n_bins], drawn[n_bins:]
        below = np.cumsum(negatives, axis=0)
        pairs = below[-1] * positives.sum(axis=0)
        below -= negatives / 2
        ordered = np.einsum("pn,pn->n", positives, below)
        found.append(np.stack([ordered, pairs]) - of_copies @ (times_drawn * (times_drawn - 1.0)))
    return np.concatenate(found, axis=1)


def _pairs_within(y: np.ndarray, score: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """How many pairs of a negative and a positive row each sequence orders rightly, and has, [2, S]; all have rows."""
    n_rows = np.bincount(sequence)
    found = np.zeros((2, len(n_rows)))
    for number, rows in enumerate(np.split(np.argsort(sequence, kind="stable"), np.cumsum(n_rows)[:-1])):
        n_positive = int(y[rows].sum())
        pairs = n_positive * (len(rows) - n_positive)
        if pairs:
            found[:, number] = ordering(y[rows], score[rows])[0] * pairs, pairs
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
