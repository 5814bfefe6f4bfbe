"""The values that units are held at in an ablation, and the random sets of units that they are compared with.

- `zero`: 0. The simplest, but a value that most units seldom take.
- `mean`: the unit's mean over the characters read, which carries no information about this text.
- `resample`: the unit's value at the same step of another sequence, which carries information about another text.
- `translate`: the unit's own value, moved by the difference between its means where the hypothesis holds and where it
  does not, to the opposite side (Antverg & Belinkov 2022, On the Pitfalls of Analyzing Individual Neurons in Language
  Models).
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
    """Return the value that every unit would be held at after each character.

    Args:
        method: one of those above.
        states: the states of the undisturbed sequences, [L, T, S, H] by name.
        lengths: characters of each sequence, int [S]; the states after them are padding.
        holds, defined: whether the hypothesis holds and is defined at each state, bool [T, S]; for `translate`.
        seed: of the choice of other sequences, for `resample`.

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
        # A shorter one is repeated from its start.
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
    """Return the mean of states [L, T, S, H] over the characters `where`, bool [T, S], as [L, 1, 1, H]."""
    return states[:, where].double().mean(dim=1).to(states.dtype)[:, None, None]


def mask_of(units: Iterable[Unit], n_layers: int, hidden: int) -> Tensor:
    """Return a set of units as bool [L, H]."""
    mask = torch.zeros(n_layers, hidden, dtype=torch.bool)
    for layer, unit in units:
        mask[layer, unit] = True
    return mask


def random_sets(counts: Sequence[int], hidden: int, n_sets: int, seed: int) -> list[frozenset[Unit]]:
    """Draw distinct sets of units, each with the given number in each layer.

    Args:
        counts: units in each layer, [L], at most H each.
        hidden: H.
        n_sets: R; if there are fewer distinct sets, all of them are returned.
        seed: of the draws; equal counts give equal sets.
    """
    generator = np.random.default_rng((seed, *counts))
    n_all = math.prod(math.comb(hidden, n) for n in counts)
    n_sets = min(n_sets, n_all)
    # If nearly all sets are needed, drawing the last ones would take long: shuffle the list of all sets instead.
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
