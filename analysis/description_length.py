"""Description length: how few bits it takes to send the labels to someone who has the states (Voita & Titov, 2020).

The online code sends the labels block by block. The first block is sent uncoded; each later one is coded with a probe
that was fitted to everything sent before, so a hypothesis that is easy to extract costs few bits early on. Unlike a
score, the length depends on how much data a probe needs, and a probe of great capacity has no advantage.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

# Shares of the training data at which the probe is fitted anew, as in the paper.
SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)


def cut_points(sequence_starts: np.ndarray) -> np.ndarray:
    """Rows after which a block ends: the sequence borders nearest to `SHARES` of all rows.

    Shares that fall on the same border make one block, and the first block has at least one row. So few sequences give
    fewer and larger blocks than there are shares.

    Args:
        sequence_starts: [S + 1] first row of each training sequence in the order of sending, then the number of rows.

    Returns:
        increasing int64 row counts, the last one all rows.
    """
    borders = np.unique(np.asarray(sequence_starts, dtype=np.int64))
    borders = borders[borders > 0]
    wanted = np.asarray(SHARES) * borders[-1]
    return borders[np.unique(np.abs(borders - wanted[:, None]).argmin(axis=1))]


def online_description_length(
    predict_next: Callable[[int, int], np.ndarray], Y: np.ndarray, weight: np.ndarray, cuts: np.ndarray
) -> dict[str, np.ndarray]:
    """Bits of the online code for K boolean hypotheses, and how much shorter it is than a code without states.

    `L = n_1 log2(2) + sum over later blocks of sum_n -log2 p(y_n | x_n, probe fitted before the block)`; compression is
    `n log2(2) / L` (Voita & Titov, 2020). A rare label is cheap even without states, so `compression_entropy` compares
    with `n H(prevalence)` instead, the code that knows only the prevalence.

    A probe that is certain and wrong would cost infinitely many bits. Sender and receiver both know how many defined
    labels m the probe has seen, so probabilities are kept within `[1 / (m + 2), 1 - 1 / (m + 2)]`, Laplace's rule of
    succession for an event that never occurred in m trials. Where the probe has no prediction (NaN, as after a block of
    one class), that rule replaces it: `(positives + 1) / (m + 2)`.

    Args:
        predict_next: called with (start, stop); returns [stop - start, K] probabilities of the positive label at the
            rows from start to stop by a probe that was fitted to the rows before start. Balanced probes need their
            prior restored first.
        Y: [n, K] bool labels in the order of sending.
        weight: [n, K], nonzero where the label is defined; undefined labels are not sent.
        cuts: increasing row counts from `cut_points`, the last one n.

    Returns:
        `bits`, `uniform_bits`, `entropy_bits`, `compression`, `compression_entropy`: float64 [K] each, and `block_bits`
        [len(cuts), K]. The compressions are NaN where no label is defined, and `compression_entropy` also where all are
        equal: such labels cost nothing to send if their prevalence is known.
    """
    defined = np.asarray(weight) > 0
    positive = np.asarray(Y, dtype=bool) & defined
    block_bits = np.zeros((len(cuts), Y.shape[1]))
    block_bits[0] = defined[: cuts[0]].sum(axis=0)
    for b, (start, stop) in enumerate(pairwise(cuts.tolist()), start=1):
        seen, positives = defined[:start].sum(axis=0), positive[:start].sum(axis=0)
        probability = np.asarray(predict_next(start, stop), dtype=np.float64)
        probability = np.where(np.isnan(probability), (positives + 1) / (seen + 2), probability)
        probability = np.clip(probability, 1 / (seen + 2), 1 - 1 / (seen + 2))
        of_label = np.where(positive[start:stop], probability, 1 - probability)
        block_bits[b] = -np.log2(of_label, out=np.zeros_like(of_label), where=defined[start:stop]).sum(axis=0)
    n = defined.sum(axis=0).astype(np.float64)
    bits, entropy_bits = block_bits.sum(axis=0), n * _entropy(positive.sum(axis=0), n)
    return {
        "bits": bits,
        "uniform_bits": n,
        "entropy_bits": entropy_bits,
        "compression": np.divide(n, bits, out=np.full(n.shape, np.nan), where=bits > 0),
        "compression_entropy": np.divide(entropy_bits, bits, out=np.full(n.shape, np.nan), where=entropy_bits > 0),
        "block_bits": block_bits,
    }


def _entropy(positives: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Entropy in bits of labels with the given number of positives among n; 0 where n is 0."""
    entropy = np.zeros(n.shape)
    for count in (positives, n - positives):
        share = np.divide(count, n, out=np.ones(n.shape), where=count > 0)
        entropy -= share * np.log2(share)
    return entropy
