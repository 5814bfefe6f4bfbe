"""Settings of an ablation: which units it holds, at which values, and on how much text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gatescope.engine.config_values import require_values
from gatescope.engine.errors import InputError

FEWEST_RANDOM, MOST_RANDOM = 20, 10_000


@dataclass(frozen=True)
class AblationConfig:
    """Which units are held, at which values, and on how much text."""

    hypothesis: tuple[str, ...] = ()  # boolean hypotheses to test; default: all known ones
    method: Literal["mean", "zero", "resample", "translate"] = "mean"  # values that units are held at
    units: tuple[int, ...] = (1, 10)  # sizes of the held sets, of 10 ranked or 64 selected units; h and c count once
    random_sets: int = 40  # random sets of as many units in the same layers, and random directions; 20 to 10000
    sequences: int = 40  # test sequences to read, at most
    length: int = 500  # characters of each, at most

    def __post_init__(self) -> None:
        require_values(self)
        if not FEWEST_RANDOM <= self.random_sets <= MOST_RANDOM:
            raise InputError(
                f"--random-sets {self.random_sets}: expected {FEWEST_RANDOM} (for p below .05) to {MOST_RANDOM}"
            )
        for flag, value, least in (("sequences", self.sequences, 1), ("length", self.length, 2)):
            if value < least:
                raise InputError(f"--{flag} {value} is too small: expected at least {least}")
        if not self.units or min(self.units) < 1:
            raise InputError(f"--units {' '.join(map(str, self.units))}: expected numbers of units, such as 1 10")
