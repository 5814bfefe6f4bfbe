"""What is done to the states of a recurrence after each of its steps: units are held, or directions erased.

Each intervention has V variants, which are read side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Intervention(Protocol):
    """What happens to the states of a layer before the next step, the layer above and the output layer read them."""

    def __len__(self) -> int:
        """Return V."""

    def split(self, at_once: int) -> Iterator[Intervention]:
        """Yield interventions of so many of the variants."""

    def after(self, layer: int, step: int, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the states [V, S, H] by name that stand in the place of a layer's own after a step."""


@dataclass(frozen=True)
class Held:
    """Units are overwritten, in h, and in c where the cell has one.

    Args:
        values: what units are held at after each character, [L, T, S, H] by name.
        units: which ones, bool [V, L, H]; an empty set holds nothing.
    """

    values: Mapping[str, Tensor]
    units: Tensor

    def __len__(self) -> int:
        return len(self.units)

    def split(self, at_once: int) -> Iterator[Held]:
        return (Held(self.values, part) for part in self.units.split(at_once))

    def after(self, layer: int, step: int, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        held = self.units[:, layer, None]
        return {name: torch.where(held, self.values[name][layer, step], state) for name, state in states.items()}


@dataclass(frozen=True)
class Erased:
    """One direction of each layer is erased: `x <- x - v (u . (x - mean))`, where x is [h, c], or h alone.

    With u . v = 1, u . x is that of the mean after every step. Where u and v are 0 nothing is erased.

    Args:
        mean, u, v: [V, L, D], D = 2 H, or H where the cell has no c.
    """

    mean: Tensor
    u: Tensor
    v: Tensor

    def __len__(self) -> int:
        return len(self.u)

    def split(self, at_once: int) -> Iterator[Erased]:
        parts = (each.split(at_once) for each in (self.mean, self.u, self.v))
        return (Erased(*part) for part in zip(*parts, strict=True))

    def after(self, layer: int, step: int, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mean, u, v = (each[:, layer].chunk(len(states), dim=-1) for each in (self.mean, self.u, self.v))
        # The mean is subtracted first: for units far from zero the difference of two products would lose most digits.
        parts = zip(states.values(), mean, u, strict=True)
        told = sum(((x - m[:, None]) * w[:, None]).sum(dim=-1, keepdim=True) for x, m, w in parts)
        return {name: x - told * w[:, None] for (name, x), w in zip(states.items(), v, strict=True)}
