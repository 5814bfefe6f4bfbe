"""The settings of a training: what decides the model that comes of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from gatescope.engine.corpus import n_held_out
from gatescope.engine.errors import InputError
from gatescope.engine.model import Architecture
from gatescope.engine.training_step import Precision


@dataclass(frozen=True)
class TrainConfig(Architecture):
    """A model and how it is trained."""

    batch: int = 32  # B, lanes of text read side by side
    length: int = 100  # T, characters in a window, through which the gradient flows back
    steps: int = 3000  # windows to train on
    learning_rate: float = 0.01  # Adam's learning rate at its height
    warm_up: int = 200  # steps over which the learning rate rises from nothing, at most half of all
    final_rate: float = 0.05  # share of its height that the learning rate has fallen to when all steps are done
    clip: float = 1.0  # largest norm of the gradient, nats per unit of weight
    validation_share: float = 0.05  # share of the text, at its end, that validates
    evaluate_every: int = 500  # steps between validations, each of which keeps a checkpoint
    precision: Precision = "float32"  # of matrix products and recurrent layers; weights stay float32
    keep: tuple[int, ...] = ()  # steps after which the model is kept too, in steps/, validated anew; 0 before training

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch", "length", "steps", "evaluate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)} is too small: expected at least 1")
        if self.warm_up < 0:
            raise InputError(f"--warm-up {self.warm_up} is negative: expected a number of steps, or 0 for none")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected a positive number")
        if not 0 <= self.final_rate <= 1:
            raise InputError(f"--final-rate {self.final_rate}: expected a share of the learning rate, 0 to 1")
        if not 0 < self.validation_share < 1:
            raise InputError(f"--validation-share {self.validation_share}: expected a share between 0 and 1")
        if any(after <= before for before, after in pairwise((-1, *self.keep, self.steps + 1))):
            kept = " ".join(map(str, self.keep))
            raise InputError(
                f"--keep {kept}: expected increasing numbers from 0 (before training) to --steps {self.steps}"
            )

    def require(self, n_characters: int) -> None:
        """Check that a text is long enough for the lanes.

        Raises:
            InputError: a lane has less than one window of `length` characters and the one to predict.
        """
        training = n_characters - n_held_out(n_characters, self.validation_share)
        needed = self.batch * (self.length + 1)
        if training < needed:
            raise InputError(
                f"the text has {training:,} characters to train on, but {self.batch} lanes of {self.length} + 1 "
                f"characters need {needed:,}: lower --batch or --length, or give a longer text"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the result; what is kept beside it only where that is asked for."""
        return {name: value for name, value in asdict(self).items() if value or name != "keep"}

    @property
    def architecture(self) -> Architecture:
        """The part that makes the model."""
        return Architecture(**{field.name: getattr(self, field.name) for field in fields(Architecture)})

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: half a cosine over all steps, times the ramp of the warm-up."""
        ramp = min(1.0, (step + 1) / max(1, min(self.warm_up, self.steps // 2)))
        height = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * ramp * (self.final_rate + (1 - self.final_rate) * height)

    def pause(self, step: int) -> int:
        """Return the next step after which the model is validated, to be kept or for a checkpoint."""
        whole = (step // self.evaluate_every + 1) * self.evaluate_every
        return min(self.steps, whole, *(kept for kept in self.keep if kept > step))

    def is_checked(self, step: int) -> bool:
        """Whether a checkpoint follows a step, and its weights may be the best."""
        return step > 0 and (step % self.evaluate_every == 0 or step == self.steps)
