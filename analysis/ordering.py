"""How well scores rank the rows of a boolean hypothesis, whatever the threshold.

AUROC is the chance that a positive row has a higher score than a negative one (Mann & Whitney, 1947): 1/2 for
uninformative scores, however rare the hypothesis. Its intervals are over sequences, like those of `metrics`.

Scores of different probes, such as those of several folds, have no common scale. So rows are compared only within the
part that one probe scored, and every such pair counts the same. Over all rows at once AUROC would be too low, because
where a hypothesis is frequent among the test rows it is rarer among the training rows (Parker, Günter & Bedo,
Stratification bias in low signal microarray studies, BMC Bioinformatics 8, 2007).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from gatescope.analysis.intervals import resamples
from gatescope.analysis.metrics import WHOLE
from gatescope.engine.blas_threads import on_all_cores

# In resamples, scores in the same one of this many bins of equal size count as ties. That moves AUROC by at most about
# 1 / (2 BINS), and by far less where scores of both classes are mixed.
BINS = 1024
# The most sequences of which every two are compared once, for all resamples; with more, each resample is ordered.
MOST_PAIRED = 256
# A sparse product takes about this many times as long per number as a dense one.
SPARSE = 8


def ordering(y: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return AUROC and average precision of one hypothesis, as defined by scikit-learn, from one sort.

    Args:
        y: [n] bool labels.
        score: [n], higher for a likelier positive.

    Returns:
        AUROC, NaN without both classes, and average precision, NaN without a positive.
    """
    n_positive = float(y.sum())
    n_negative = len(y) - n_positive
    if n_positive == 0:
        return np.nan, np.nan
    # Ties are taken together, so that their order does not matter.
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
    # Trapezoids between thresholds count tied pairs as half.
    middle = true_positives - gained / 2
    auroc = float((np.diff(false_positives, prepend=0.0) * middle).sum() / (n_positive * n_negative))
    return auroc, average_precision


def pairs_won(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return how many rows of the other class each row is ranked correctly against, float64 [n]; a tie counts half.

    Args:
        y: [n] bool labels.
        score: [n], higher for a likelier positive; without NaN.
    """
    if len(y) == 0:
        return np.zeros(0)
    order = np.argsort(score)
    sorted_y, last = y[order], _ends_of_ties(score[order])
    positives = np.cumsum(sorted_y)[last]
    run_lengths = np.diff(last, prepend=-1)
    # Counted to the middle of each run of ties.
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
    """Return AUROC and average precision of K hypotheses within parts; NaN if a defined row has no score.

    They are means over parts, weighted for AUROC by pairs of a positive and a negative, else by positives.

    Args:
        Y: [n, K] bool labels.
        score: [n, K].
        defined: [n, K] bool.
        parts: parts of the rows, each with scores of one probe.
    """
    found = np.full((2, Y.shape[1]), np.nan)

    def order(k: int) -> None:
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

    on_all_cores(order, range(Y.shape[1]))
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
    # How often each sequence is drawn, [S, resamples], one byte each; the same for every hypothesis.
    blocks = [drawn.T.astype(np.uint8, order="C") for drawn in resamples(len(distinct), n_bootstrap, seed)]
    found = np.full((n_bootstrap, Y.shape[1]), np.nan)

    def resample(k: int) -> None:
        if np.isnan(score[defined[:, k], k]).any():
            return
        ordered, pairs = np.zeros((2, n_bootstrap))
        for part in parts:
            rows = np.flatnonzero(defined[part, k])
            if len(rows):
                of_part = Y[part, k][rows], score[part, k][rows], sequence[part][rows]
                found_here = _resampled_pairs(*of_part, blocks, several=len(parts) > 1)
                ordered += found_here[0]
                pairs += found_here[1]
        np.divide(ordered, pairs, out=found[:, k], where=pairs > 0)

    on_all_cores(resample, range(Y.shape[1]))
    return found


def _resampled_pairs(
    y: np.ndarray, s: np.ndarray, sequence: np.ndarray, blocks: Sequence[np.ndarray], several: bool
) -> np.ndarray:
    """How many pairs of a negative and a positive row each resample orders correctly, and has, [2, resamples].

    Copies of a sequence count as different sequences, as in every bootstrap. But in one of several parts they are not
    compared with each other: with ten parts of four sequences such pairs would dominate, and the spread of the
    resamples would be 1.25 times that of the score. Without them it is 1.13 times, and 1.04 times with parts of eight.
    In a single part they hardly matter: without them intervals of 8 to 12 sequences would be 1% shorter and cover less.

    Args:
        y: [n] bool.
        s: [n] scores.
        sequence: [n] number of each row's sequence.
        blocks: how often each resample draws each sequence, [S, resamples].
        several: whether this is one of several parts.
    """
    # Keep only the sequences that have rows in this part.
    present, sequence = np.unique(sequence, return_inverse=True)
    order = np.argsort(s)
    y, s, sequence = y[order], s[order], sequence[order]
    ends = np.unique(s[np.ceil(np.linspace(0, 1, BINS + 1)[1:-1] * (len(s) - 1)).astype(np.int64)])
    n_bins = len(ends) + 1
    of_row = np.repeat(np.arange(n_bins), np.diff(np.searchsorted(s, ends), prepend=0, append=len(s)))
    counts = _cells(of_row + n_bins * y, sequence, (2 * n_bins, len(present)))
    # A block at a time: with many cores as many hypotheses are worked on, and each would have copies of all blocks.
    of_present = (block[present] for block in blocks)
    if len(present) <= MOST_PAIRED:
        return _paired(counts, of_present, several)
    of_copies = _pairs_within(y, of_row, sequence) if several else np.zeros((2, len(present)))
    # Whole numbers, exact in single precision unless a bin has very many rows.
    most_drawn = max(int(block.max()) for block in blocks)
    exact = np.float32 if counts.sum(axis=1).max() * most_drawn < 2**24 else np.float64
    counts, found = counts.astype(exact), []
    for times_drawn in of_present:
        drawn = (counts @ times_drawn.astype(exact)).astype(np.float64)
        negatives, positives = drawn[:n_bins], drawn[n_bins:]
        below = np.cumsum(negatives, axis=0)
        pairs = below[-1] * positives.sum(axis=0)
        below -= negatives / 2
        ordered = np.einsum("pn,pn->n", positives, below)
        found.append(np.stack([ordered, pairs]) - of_copies @ (times_drawn * (times_drawn - 1.0)))
    return np.concatenate(found, axis=1)


def _paired(counts: Any, blocks: Iterable[np.ndarray], several: bool) -> np.ndarray:
    """Return what `_resampled_pairs` does: a resample that draws sequence s t_s times has t' A t of all pairs.

    A[s, r] are the pairs of a positive row of sequence s and a negative one of r. A thousand resamples of 40 sequences
    of 500 rows take 2 ms instead of the 25 of ordering each (one core of a Xeon of family 6, model 207).

    Args:
        counts: rows in each bin of scores, first of the negatives, then of the positives, [2 * bins, S].
        blocks, several: as `_resampled_pairs` has them.
    """
    counts = counts if isinstance(counts, np.ndarray) else counts.toarray()
    negatives, positives = counts.reshape(2, -1, counts.shape[1]).astype(np.float64)
    ordered = positives.T @ (np.cumsum(negatives, axis=0) - negatives / 2)
    pairs, found = np.outer(positives.sum(axis=0), negatives.sum(axis=0)), []
    for times_drawn in (block.astype(np.float64) for block in blocks):
        of_all = [(times_drawn * (each @ times_drawn)).sum(axis=0) for each in (ordered, pairs)]
        of_copies = [each.diagonal() @ (times_drawn * (times_drawn - 1)) for each in (ordered, pairs)]
        found.append(np.stack(of_all) - several * np.stack(of_copies))
    return np.concatenate(found, axis=1)


def _pairs_within(y: np.ndarray, score: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """Count the pairs of both classes that each sequence orders correctly, and has, [2, S]; every sequence has rows."""
    n_rows = np.bincount(sequence)
    found = np.zeros((2, len(n_rows)))
    for number, rows in enumerate(np.split(np.argsort(sequence, kind="stable"), np.cumsum(n_rows)[:-1])):
        n_positive = int(y[rows].sum())
        pairs = n_positive * (len(rows) - n_positive)
        if pairs:
            found[:, number] = ordering(y[rows], score[rows])[0] * pairs, pairs
    return found


def _cells(cell: np.ndarray, sequence: np.ndarray, shape: tuple[int, int]) -> Any:
    """Count the rows of each sequence in each cell, [cells, S]; sparse if there are far more numbers than rows."""
    if shape[0] * shape[1] <= SPARSE * len(cell):
        return np.bincount(cell * shape[1] + sequence, minlength=shape[0] * shape[1]).reshape(shape)
    return sparse.coo_array((np.ones(len(cell), np.int64), (cell, sequence)), shape).tocsr()


def f1_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """Return the threshold above which calling rows positive gives the largest F1; if there are several, the highest.

    Args:
        y: [n] bool labels, not empty.
        score: [n].
    """
    order = np.argsort(-score)
    sorted_y, sorted_score = y[order], score[order].astype(np.float64)
    last = _ends_of_ties(sorted_score)
    f1 = 2 * np.cumsum(sorted_y)[last] / (last + 1.0 + max(y.sum(), 1))
    best = int(np.argmax(f1))
    # Halfway to the next score, so that held-out rows with the same score fall on the same side.
    below = sorted_score[last[best + 1]] if best + 1 < len(last) else sorted_score[-1] - 1
    return float((sorted_score[last[best]] + below) / 2)
