"""Random labels, predictions, masks and sequences, for scores and their intervals."""

import numpy as np


def boolean_case(seed: int, n: int = 400, n_hypotheses: int = 5, n_sequences: int = 8):
    """Labels, predictions that often agree with them, masks, and sequence ids with gaps between them."""
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_hypotheses)) < np.linspace(0.05, 0.9, n_hypotheses)
    predicted = Y ^ (rng.random(Y.shape) < 0.2)
    weight = rng.random(Y.shape) < 0.8
    sequence_ids = np.sort(rng.choice(np.arange(n_sequences) * 3 + 2, n))
    return Y, predicted, weight, sequence_ids


def continuous_case(seed: int, n: int = 300, offset: float = 0.0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(n, 3)) * [1, 10, 0.1] + offset
    predicted = target + rng.normal(size=target.shape) * [0.5, 20, 0.01]
    weight = (rng.random(target.shape) < 0.8).astype(float)
    target[weight == 0] = np.nan
    return target, predicted, weight, np.sort(rng.integers(0, 7, n))
