"""Blocks of steps in which the time loops of all cells walk, and the states before each step.

A loop multiplies the input by W_ih for BLOCK steps at once, then walks through them in place; backward walks back
through a block of steps, then multiplies for their part of dx, dW_ih and dW_hh (`gatescope.kernels.products`). What one
product or walk writes is then still in the cache when the next reads it, and backward needs no memory that grows with
T.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 16  # steps


def blocks(n_steps: int) -> Iterator[tuple[int, int]]:
    """The first step of each block and the one after its last, in order."""
    return ((start, min(start + BLOCK, n_steps)) for start in range(0, n_steps, BLOCK))


def cleared_rows(reset: Tensor | None, n_steps: int) -> list[Tensor | None]:
    """For each step the mask [B, 1] of the rows whose state is cleared before it, or None if there are none."""
    if reset is None:
        return [None] * n_steps
    return [rows.unsqueeze(1) if some else None for rows, some in zip(reset, reset.any(1).tolist(), strict=True)]


def entering(first: Tensor, steps: Tensor, reset: Tensor | None) -> Tensor:
    """The state before every step, [T, B, H], from the initial one [B, H] and those after every step."""
    before = torch.cat((first.unsqueeze(0), steps[:-1]))
    return before if reset is None else before.masked_fill_(reset.unsqueeze(2), 0)


def entering_block(first: Tensor, states: Tensor, start: int, stop: int, reset: Tensor | None) -> Tensor:
    """The state before each of the steps from start up to stop, [S, B, H], from those after every step [T, B, H]."""
    if start > 0 and reset is None:
        return states[start - 1 : stop - 1]
    own = None if reset is None else reset[start:stop]
    return entering(first if start == 0 else states[start - 1], states[start:stop], own)
