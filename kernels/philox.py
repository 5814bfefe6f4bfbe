"""Random numbers that depend only on a counter: the same wherever, and in whatever order, they are drawn.

Philox-4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), the generator of
cuRAND and of Triton's `tl.philox`: ten rounds turn a key of 64 and a counter of 128 bits into 128 random bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF


def philox(seed: int, counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four random 32-bit words for each counter.

    Args:
        seed: the key, 0 <= seed < 2^64.
        counter: four words, int64 tensors of one shape with values in [0, 2^32).

    Returns:
        Four int64 tensors of that shape with values in [0, 2^32).
    """
    key0, key1 = seed & WORD, seed >> 32 & WORD
    c0, c1, c2, c3 = counter
    for _ in range(10):
        # The 64-bit product may be negative as int64, but its bits are right and the masks take them apart.
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> 32 & WORD) ^ c1 ^ key0,
            product1 & WORD,
            (product0 >> 32 & WORD) ^ c3 ^ key1,
            product0 & WORD,
        )
        key0, key1 = key0 + KEY_STEPS[0] & WORD, key1 + KEY_STEPS[1] & WORD
    return c0, c1, c2, c3


def uniform(seed: int, sequences: Tensor, steps: Tensor) -> Tensor:
    """Return the random number of each sequence at each step: (w + 1/2) / 2^32.

    w is the first word of the counter (step, sequence mod 2^32, sequence div 2^32, 0) under the key seed, whose low
    word comes first. The first recorded character of a sequence is its step 0.

    Args:
        seed: 0 <= seed < 2^64.
        sequences: sequence numbers, int64 [B].
        steps: step numbers, int64 [T], below 2^32.

    Returns:
        float64 [T, B] in (0, 1).
    """
    step, sequence = torch.broadcast_tensors(steps[:, None], sequences[None, :])  # [T, B]
    counter = (step, sequence & WORD, sequence >> 32 & WORD, torch.zeros_like(step))
    return (philox(seed, counter)[0].double() + 0.5) / 2**32
