"""Drawing characters from the output layer's logits: the rule that every sampler follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Below it only the most probable characters are left; float32 could not divide by much less.
LEAST_TEMPERATURE = 1e-30


@dataclass(frozen=True)
class Draw:
    """How characters are drawn, and what their random numbers depend on; see `choose`."""

    seed: int
    first_sequence: int  # sequence number of the first row
    temperature: float
    top_k: int = 0
    top_p: float = 1.0


def bounded(temperature: float) -> float:
    """Return the nearest temperature that float32 can represent, and whose reciprocal it can represent too."""
    return min(max(float(temperature), LEAST_TEMPERATURE), 1 / LEAST_TEMPERATURE)


def choose(logits: Tensor, uniform: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Draw one character a row from softmax(logits / temperature) by inverting its distribution function.

    The choice is the first character whose cumulative probability, summed in id order in float64, exceeds the random
    number; if the two are equal, the next character is taken.

    Args:
        logits: [B, V].
        uniform: random numbers, float64 [B] in (0, 1).
        temperature: positive; below 1 it favours probable characters.
        top_k, top_p: see `distribution`.

    Returns:
        ids int64 [B]; V, which is no character, if a logit is NaN or infinity, or all are -infinity.
    """
    cumulative = distribution(logits, temperature, top_k, top_p).cumsum(dim=1, dtype=torch.float64)
    target = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0]


def distribution(logits: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Return softmax(logits / temperature) without its unlikely characters, [B, V]; the rest may sum to less than 1.

    Args:
        logits: [B, V].
        temperature: positive.
        top_k: keep the k most probable characters and any that tie with the last of them; 0 keeps all.
        top_p: keep the fewest characters whose probabilities sum to at least this (Holtzman et al. 2020); 1 keeps all.
    """
    # Subtract the largest first: its quotient is then 0, and the others' at worst minus infinity.
    below = logits - logits.amax(dim=1, keepdim=True)
    return keep_likely(torch.softmax(below / bounded(temperature), dim=1), top_k, top_p)


def keep_likely(probability: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Return probabilities [B, V], whatever their sum, with unlikely ones set to zero; see `distribution`."""
    if 0 < top_k < probability.shape[1]:
        least = probability.topk(top_k, dim=1).values[:, -1:]
        probability = probability.masked_fill(probability < least, 0)
    if top_p < 1:
        ordered, ids = probability.sort(dim=1, descending=True, stable=True)
        before = ordered.cumsum(dim=1, dtype=torch.float64) - ordered
        # The first is kept, however little is asked for.
        beyond = (before > 0) & (before >= top_p * ordered.sum(dim=1, keepdim=True, dtype=torch.float64))
        probability = probability.scatter(1, ids, ordered.masked_fill(beyond, 0))
    return probability
