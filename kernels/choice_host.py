"""Drawing characters on the CPU by the rule of `gatescope.kernels.choice`, in passes that Numba compiles.

Probabilities are exp((logit - largest) / temperature) in the dtype of the logits, not divided by their sum. Choices
equal those of `choose`, unless a random number lies within rounding error of the border between two characters, or
rounding decides which characters are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.kernels.activations_host import exp
from gatescope.kernels.host import compiled


@compiled
def weigh_rows(logits: Any, temperature: Any, weights: Any) -> None:
    """Write the relative weights of the characters.

    Args:
        logits: [B, V].
        temperature: positive, of the dtype of the logits.
        weights: [B, V], of their dtype; NaN if there is nothing to choose from.
    """
    for row in range(len(weights)):
        values, out = logits[row], weights[row]
        largest = values[0]
        for j in range(1, len(out)):
            if values[j] > largest:
                largest = values[j]
        for j in range(len(out)):
            out[j] = exp((values[j] - largest) / temperature)


@compiled
def cut_rows(weights: Any, top_k: int, top_p: float) -> None:
    """Set unlikely characters to zero, as `gatescope.kernels.choice.keep_likely` does.

    Args:
        weights: [B, V], whatever their sum.
        top_k, top_p: the latter positive; see `gatescope.kernels.choice.distribution`.
    """
    n = weights.shape[1]
    for row in range(len(weights)):
        values = weights[row]
        if 0 < top_k < n:
            least = np.sort(values)[n - top_k]
            for j in range(n):
                if values[j] < least:
                    values[j] = 0
        if top_p < 1:
            total, cumulative = 0.0, 0.0
            for j in range(n):
                total += values[j]
            # Of equal values the earlier first; NaN comes last, and is kept.
            for j in np.argsort(-values, kind="mergesort"):
                cumulative += values[j]
                # The first is kept: nothing precedes it.
                if cumulative - values[j] >= top_p * total:
                    values[j] = 0


@compiled
def pick_rows(weights: Any, uniform: Any, ids: Any) -> None:
    """Draw one character a row.

    Args:
        weights: [B, V].
        uniform: random numbers, float64 [B] in (0, 1).
        ids: int64 [B], the characters drawn; V, which is no character, if a weight is NaN.
    """
    cumulative = np.empty(weights.shape[1])
    for row in range(len(weights)):
        total, chosen = 0.0, 0
        for j in range(len(cumulative)):
            total += weights[row, j]
            cumulative[j] = total
        target = uniform[row] * total
        # No NaN is larger than the target.
        for j in range(len(cumulative)):
            chosen += not cumulative[j] > target
        ids[row] = chosen
