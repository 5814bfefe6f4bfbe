"""Drawing characters on the CPU by the rule of `gatescope.kernels.choice.choose`, for loops that Numba compiles.

Probabilities are exp((logit - largest) / temperature) in the dtype of the logits, not divided by their sum: choices are
those of `choose` but where a random number lies within rounding of the border between two characters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from gatescope.kernels.activations_host import exp
from gatescope.kernels.host import compiled


@register_jitable
def _keep_most(p: Any, top_k: int) -> None:
    """Set probabilities to zero that are below the k largest."""
    least = np.partition(p, len(p) - top_k)[len(p) - top_k]
    for j in range(len(p)):
        if p[j] < least:
            p[j] = 0


@register_jitable
def _keep_share(p: Any, top_p: float) -> None:
    """Set probabilities to zero but the fewest that have a share of their sum; of equals the first stay."""
    order, total, before = np.argsort(-p, kind="mergesort"), 0.0, 0.0
    for j in order:
        total += p[j]
    for j in order:
        chance = p[j]
        if before >= top_p * total:
            p[j] = 0
        before += chance


@compiled
def choose_rows(
    logits: Any, n_characters: int, uniform: Any, temperature: Any, top_k: int, top_p: float, ids: Any
) -> None:
    """Draw one character a row.

    Args:
        logits: [B, V or more]; probabilities in the end.
        n_characters: V.
        uniform: random numbers, float64 [B] in (0, 1).
        temperature: positive, of the dtype of the logits.
        top_k, top_p: see `gatescope.kernels.choice.distribution`.
        ids: int64 [B], what is drawn; V, which is none, where logits are NaN or infinite.
    """
    cumulative = np.empty(n_characters)
    for row in range(len(logits)):
        p = logits[row, :n_characters]
        largest = p[0]
        for j in range(1, n_characters):
            if p[j] > largest:
                largest = p[j]
        for j in range(n_characters):
            p[j] = exp((p[j] - largest) / temperature)
        if 0 < top_k < n_characters:
            _keep_most(p, top_k)
        if top_p < 1:
            _keep_share(p, top_p)
        total = 0.0
        for j in range(n_characters):
            total += p[j]
            cumulative[j] = total
        target, chosen = uniform[row] * total, 0
        # Of numbers that are NaN none is larger.
        for j in range(n_characters):
            chosen += not cumulative[j] > target
        ids[row] = chosen
