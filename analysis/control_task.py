"""Control tasks: how much of a score is the probe's own power to memorise (Hewitt & Liang, 2019).

Every type, a string of k characters, gets one random label that it keeps everywhere, in the training and in
the test rows. Such labels say nothing about the text, so whatever a probe scores on them it learnt by heart; its
selectivity is the score on the hypothesis minus the score on the hypothesis's control.
"""

from __future__ import annotations

import numpy as np

from gatescope.analysis.last_characters import last_characters


def ngram_types(
    tokens: np.ndarray, sequence_starts: np.ndarray, rows: np.ndarray, k: int, alignment: str = "post"
) -> np.ndarray:
    """The last k characters that the state of each row has read, as one id.

    Args:
        tokens, sequence_starts, rows, k, alignment: as for `last_characters`.

    Returns:
        [n] int64 ids from 0, equal where the k characters are equal.
    """
    types = np.zeros(len(rows), dtype=np.int64)
    for character in last_characters(tokens, sequence_starts, rows, k, alignment):
        types = np.unique((types << 32) | character, return_inverse=True)[1]
    return types


def control_labels(
    types: np.ndarray, Y: np.ndarray, weight: np.ndarray, train: np.ndarray, seed: int | tuple[int, ...]
) -> np.ndarray:
    """Labels that depend on the type alone, drawn from each hypothesis's own labels.

    A type's label is that of a training row drawn at random among those where the hypothesis is defined, so frequent
    labels stay frequent and continuous hypotheses keep their values. A type draws the same row position for every
    hypothesis, so the control of a hypothesis does not depend on which others are tested beside it.

    Args:
        types: [n] ids from 0 of all rows, training and test.
        Y: [n, K] labels, bool or continuous.
        weight: [n, K], zero where a label is undefined. Use it for the control labels too.
        train: [m] positions of the training rows in 0 ... n - 1.
        seed: of the draws.

    Returns:
        [n, K] labels of Y's dtype, everywhere; those of a hypothesis without a defined training row are Y's own zero.
    """
    quantile = np.random.default_rng(seed).random(int(types.max(initial=0)) + 1)
    control = np.zeros_like(Y)
    for k in range(Y.shape[1]):
        defined = train[weight[train, k] > 0]
        if len(defined):
            drawn = defined[(quantile * len(defined)).astype(np.int64)]
            control[:, k] = Y[drawn, k][types]
    return control
