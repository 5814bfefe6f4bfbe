"""What units are held at, and which units they are compared with, when their part in a prediction is asked for.

- `zero`: 0. The plainest, and a value that most units seldom have.
- `mean`: the unit's mean over the characters read: it says nothing of this text any more.
- `resample`: what it was at the same step of another sequence: it speaks of another text, in its own way.
- `translate`: what it was here, moved by the difference of its means where the hypothesis holds and where not, so that
  it says the opposite (Antverg & Belinkov 2022, On the Pitfalls of Analyzing Individual Neurons in Language Models).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

# (layer, unit)
Unit = tuple[int, int]


def held_values(
    method: str, states: Mapping[str, Tensor], lengths: np.ndarray, holds: Tensor, defined: Tensor, seed: int
) -> dict[str, Tensor]:
    """Return what every unit would be held at after each character.

    Args:
        method: one of those above.
        states: those of the undisturbed sequences, [L, T, S, H] by name.
        lengths: characters of each sequence, int [S]; what is behind them in the states is padding.
        holds, defined: whether the hypothesis holds at each state, and is defined there, bool [T, S]; for `translate`.
        seed: of the other sequences, for `resample`.

    Returns:
        [L, T, S, H] by name.
    """
    n_steps, n_sequences = holds.shape
    if method == "zero":
        return {name: torch.zeros_like(each) for name, each in states.items()}
    if method == "resample":
        order = np.random.default_rng(seed).permutation(n_sequences)
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        # A shorter one begins anew.
        step = np.arange(n_steps)[:, None] % lengths[other]
        return {name: each[:, step, other] for name, each in states.items()}
    there = torch.arange(n_steps)[:, None] < torch.from_numpy(lengths)
    if method == "mean":
        return {name: _mean(each, there.to(each.device)).expand_as(each) for name, each in states.items()}
    held = {}
    for name, each in states.items():
        where, elsewhere = ((there & part).to(each.device) for part in (holds & defined, ~holds & defined))
        moved = _mean(each, elsewhere) - _mean(each, where)
        sign = where.to(each.dtype) - elsewhere.to(each.dtype)
        held[name] = each + sign[..., None] * moved
    return held


def _mean(states: Tensor, where: Tensor) -> Tensor:
    """Return the mean of states [L, T, S, H] at some characters, bool [T, S], as [L, 1, 1, H]."""
    return states[:, where].double().mean(dim=1).to(states.dtype)[:, None, None]


def mask_of(units: Iterable[Unit], n_layers: int, hidden: int) -> Tensor:
    """Return a set of units as bool [L, H]."""
    mask = torch.zeros(n_layers, hidden, dtype=torch.bool)
    for layer, unit in units:
        mask[layer, unit] = True
    return mask


def random_sets(counts: Sequence[int], hidden: int, n_sets: int, seed: int) -> list[frozenset[Unit]]:
    """Draw different sets of units, each with as many in each layer.

    Args:
        counts: [L], at most H each.
        hidden: H.
        n_sets: R, at most; where there are no more sets than that, these are all.
        seed: of the draws; equal counts give equal sets.
    """
    generator = np.random.default_rng((seed, *counts))
    n_all = math.prod(math.comb(hidden, n) for n in counts)
    n_sets = min(n_sets, n_all)
    # Of nearly all sets the last ones would be long in coming: all that there are stand in a random order.
    if 2 * n_sets > n_all:
        parts = (itertools.combinations(range(hidden), n) for n in counts)
        every = [
            frozenset((layer, unit) for layer, units in enumerate(each) for unit in units)
            for each in itertools.product(*parts)
        ]
        return [every[place] for place in generator.permutation(len(every))[:n_sets]]
    found: dict[frozenset[Unit], None] = {}
    while len(found) < n_sets:
        drawn = [(layer, unit) for layer, n in enumerate(counts) for unit in generator.permutation(hidden)[:n].tolist()]
        found[frozenset(drawn)] = None
    return list(found)
