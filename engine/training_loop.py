"""The steps of a training, with a validation at each pause and a checkpoint after every `evaluate_every` steps."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatescope.engine.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from gatescope.engine.errors import InputError
from gatescope.engine.evaluate import evaluate, perplexity
from gatescope.engine.kept_memory import kept_memory
from gatescope.engine.kept_models import keep_model
from gatescope.engine.log import log
from gatescope.engine.model import CharacterModel
from gatescope.engine.processes import everybody, own_rows
from gatescope.engine.progress import progress_bar
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import write_weights
from gatescope.engine.training_step import NEVER, TrainingStep, cut_lanes

LOG_EVERY = 50
GENTLER = "train again with --overwrite and a lower --learning-rate or --clip"


class TrainingLoop:
    """A training in its folder, from the last checkpoint on.

    Args:
        model: with the initial weights; those of the checkpoint replace them.
        training, validation: the two parts of the text, ids [N].
        folder: has the description of the model by the time that `run` is called.
        config: the settings.
        seed: of dropout.
        log_path: the JSONL log of the first process; None in the others.

    Attributes:
        progress: where the training stands.
    """

    def __init__(
        self,
        model: CharacterModel,
        training: np.ndarray,
        validation: np.ndarray,
        folder: Path,
        config: TrainConfig,
        seed: int,
        log_path: Path | None,
    ):
        self._model, self._validation, self._folder = model, validation, folder
        self._config, self._seed, self._log_path = config, seed, log_path
        mine = slice(*own_rows(config.batch))
        lanes = cut_lanes(training, config.batch)[mine]
        state = model.zero_state(len(lanes))
        self._taker = TrainingStep(model, lanes, config.length, config.clip, config.precision, state)
        self.progress = load_checkpoint(folder / CHECKPOINT, model, self._taker.optimizer)
        if self.progress.step:
            self._taker.state = tuple(value[:, mine].contiguous() for value in self.progress.state)
            self._taker.scaler.load_state_dict(self.progress.scale)

    def run(self) -> None:
        """Take the steps that are left.

        Raises:
            InputError: a loss, or the norm of a gradient, is not finite.
        """
        config, progress = self._config, self.progress
        per_step = config.batch * config.length
        bar = progress_bar("train", config.steps * per_step, "characters", progress.step * per_step)
        with kept_memory(), bar as advance:
            if progress.step == 0 and 0 in config.keep:
                self._validate()
            while progress.step < config.steps:
                started = time.perf_counter()
                first = progress.step
                self._take_steps(config.pause(first), advance)
                rate = (progress.step - first) * per_step / (time.perf_counter() - started)
                progress.state = tuple(map(everybody().columns_of_all, self._taker.state))
                progress.scale = self._taker.scaler.state_dict()
                self._validate(characters_per_second=round(rate))

    def _take_steps(self, last: int, advance: Any) -> None:
        """Take the steps up to `last`, one window each."""
        config, progress, taker = self._config, self.progress, self._taker
        self._model.train()
        with torch.random.fork_rng(enabled=config.dropout > 0):
            while progress.step < last:
                if config.dropout:
                    torch.manual_seed((self._seed * 1_000_003 + progress.step) % 2**63)
                taker.take(progress.step, config.rate(progress.step))
                progress.step += 1
                if progress.step % LOG_EVERY == 0 or progress.step == last:
                    self._refuse_non_finite()
                    nats, norm = everybody().total(taker.loss) / everybody().size, taker.norm.item()
                    if self._log_path:
                        rate = config.rate(progress.step - 1)
                        log(self._log_path, "train", step=progress.step, nats=nats, gradient_norm=norm, rate=rate)
                    advance(0, note=f"{nats:.3f} nats")
                advance(config.batch * config.length)

    def _validate(self, **speed: int) -> None:
        """Validate in the first process, and log what that gives."""
        with everybody().together():
            if self._log_path:
                log(self._log_path, "validate", step=self.progress.step, **self._measured(), **speed)

    def _measured(self) -> dict[str, float | None]:
        """Measure the validation loss; keep what is to be kept after this step: model, best weights, checkpoint.

        Raises:
            InputError: the loss is not finite; nothing is kept then.
        """
        config, model, folder, progress = self._config, self._model, self._folder, self.progress
        nats = evaluate(model, self._validation, config.length, config.precision)
        if not math.isfinite(nats):
            raise InputError(f"the validation loss is {nats} nats after step {progress.step}: {GENTLER}")
        # Before the checkpoint, after which no step is taken again.
        if progress.step in config.keep:
            keep_model(folder, model, progress.step, nats)
        if config.is_checked(progress.step):
            if nats < progress.best:
                progress.best, progress.best_step = nats, progress.step
                write_weights(folder, model, {"step": progress.step, "validation_nats": nats})
            save_checkpoint(folder / CHECKPOINT, model, self._taker.optimizer, progress)
        return {"nats": nats, "bits_per_character": nats / math.log(2), "perplexity": perplexity(nats)}

    def _refuse_non_finite(self) -> None:
        taker = self._taker
        bad = int(everybody().smallest(taker.first_bad.item()))
        if bad == NEVER:
            return
        # Another process may have had the first step that was not finite.
        nats, norm = taker.bad.tolist() if taker.first_bad.item() == bad else (math.nan, math.nan)
        raise InputError(f"the loss is {nats} nats and the gradient's norm {norm} at step {bad + 1}: {GENTLER}")
