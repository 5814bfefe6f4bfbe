"""Training of a character language model, stopped and resumed at any moment.

The training text is cut into B contiguous lanes that are read side by side in windows of T characters. The hidden state
is carried from window to window (its gradient is not) and starts from zero when the lanes start over.

Adam (Kingma & Ba 2015) on the mean cross-entropy in nats; the norm of the whole gradient is clipped after backward and
before the step; the learning rate rises over the first steps and falls along a half cosine to a fraction of itself.
Without the rise models of several wide layers learn nothing but how often each character stands: on the Linux source
three layers of 512 were at 3.87 nats after 200 steps of 32 x 100 characters, and at 1.96 with it (at a fifth of the
rate, without it, 2.40).

After every `evaluate_every` steps the validation loss is measured, the best weights are kept as `model.safetensors`,
and everything that the next step depends on goes into `checkpoint.safetensors`. On the CPU a resumed training gives the
weights, to the bit, of one that was never stopped: random numbers are seeded anew from (seed, step) for each step.

Models of earlier moments are kept where that is asked for (`keep`), each with its own validation loss; they change
nothing in the training, nor which weights are the best.

Under `torchrun` the lanes are shared out among the processes and the gradients averaged; the first process alone
validates and writes.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatescope.engine.checkpoint import Progress, load_checkpoint, save_checkpoint, standing
from gatescope.engine.config_values import require_kind, whole_seed
from gatescope.engine.corpus import Survey, encode_corpus, n_held_out, open_corpus, vocabulary_of
from gatescope.engine.errors import InputError
from gatescope.engine.evaluate import evaluate, perplexity
from gatescope.engine.free_memory import require_memory
from gatescope.engine.kept_memory import kept_memory
from gatescope.engine.kept_models import keep_model, kept_names, require_kept
from gatescope.engine.location import local_path
from gatescope.engine.log import log
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.processes import everybody, own_rows
from gatescope.engine.progress import progress_bar
from gatescope.engine.stage_folder import claimed
from gatescope.engine.trained_model import (
    DESCRIPTION,
    WEIGHTS,
    read_description,
    require_device,
    require_weights,
    write_description,
    write_weights,
)
from gatescope.engine.training_step import NEVER, Precision, TrainingStep, cut_lanes

CHECKPOINT = "checkpoint.safetensors"
TOKENS = "tokens.npy"
OUTPUTS = (WEIGHTS, DESCRIPTION, CHECKPOINT, TOKENS)
LOG_EVERY = 50
GENTLER = "train again with --overwrite and a lower --learning-rate or --clip"


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


def train_model(
    text: Survey,
    folder: str | os.PathLike[str],
    config: TrainConfig,
    *,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    log_path: Path | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a model on a text, or go on where an earlier call with the same settings was stopped.

    Args:
        text: the survey of the text (`survey_corpus`).
        folder: where the model goes.
        config: the model and how to train it.
        seed: of the initial weights and of dropout, 0 <= seed < 2^63.
        device: "cpu" or "cuda".
        overwrite: start anew whatever the folder holds.
        log_path: the JSONL log; `log.jsonl` in the folder by default.
        facts: what else the model's files should say about the corpus, as JSON values.

    Returns:
        step and validation loss (nats) of the weights that were kept, the corpus, and a warning, or None: a line on
        weights that guess no better than the frequencies of the characters.

    Raises:
        InputError: unusable text or settings, no such device, a folder of other settings, or a loss that is not
            finite.
    """
    require_kind("text", text, Survey, "survey_corpus('text.txt')")
    require_kind("config", config, TrainConfig)
    config.require(text.n_characters)
    seed, folder = whole_seed(seed, bits=63), local_path(folder)
    require_device(device)
    everyone = everybody()
    if config.batch % everyone.size:
        raise InputError(f"--batch {config.batch} lanes cannot be shared by {everyone.size} processes: give a multiple")
    log_path = (log_path or folder / "log.jsonl") if everyone.rank == 0 else None
    vocabulary, rare = vocabulary_of(text)
    with ExitStack() as held:
        with everyone.together():
            if overwrite or standing(folder / CHECKPOINT).step < config.steps:
                _require_memory(config.architecture, len(vocabulary), device)
        _prepare(text, folder, config, seed, overwrite, held)
        about = {"name": text.source, "characters": text.n_characters, "sha256": text.sha256, "rare": rare}
        about |= facts or {}
        there = standing(folder / CHECKPOINT)
        if there.step == config.steps:
            return _kept(there, about, text.counts)
        corpus = open_corpus(text, folder / TOKENS)
        training, validation = corpus.split(config.validation_share)
        torch.manual_seed(seed)
        model = CharacterModel(config.architecture, len(vocabulary)).to(device)
        taker, progress = _begun(model, training, folder, config)
        with everyone.together():
            if log_path:
                write_description(folder, config.architecture, vocabulary, about)
                facts = {"parameters": model.n_parameters, "seed": seed, "device": device, "processes": everyone.size}
                log(log_path, "train", step=progress.step, corpus=about, **facts)
        _take_all(taker, progress, validation, folder, config, seed, log_path)
        return _kept(progress, about, text.counts)


def _kept(progress: Progress, corpus: dict[str, Any], counts: np.ndarray) -> dict[str, Any]:
    frequencies = counts[counts > 0] / counts.sum()
    guessing, warning = -float(frequencies @ np.log(frequencies)), None
    if progress.best >= guessing:
        warning = (
            f"a validation loss of {progress.best:.4f} nats, but character frequencies alone give {guessing:.4f}: "
            "nothing was learnt; give more --steps, a longer --warm-up or a lower --learning-rate, with --overwrite"
        )
    return {"step": progress.best_step, "validation_nats": progress.best, "corpus": corpus, "warning": warning}


def _prepare(text: Survey, folder: Path, config: TrainConfig, seed: int, overwrite: bool, held: ExitStack) -> None:
    """Claim the folder and write the text's tokens there, unless all steps are done, the first process for all.

    It has the folder until `held` is closed.
    """
    with everybody().together():
        if everybody().rank == 0:
            settings = {"corpus": text.source, "seed": seed, "errors": text.errors, "train": config.settings}
            outputs = (*OUTPUTS, *kept_names(folder))
            held.enter_context(claimed(folder, "train", settings, outputs, overwrite))
            _refuse_other_text(folder, text)
            there = standing(folder / CHECKPOINT)
            if math.isfinite(there.best):
                require_weights(folder, there.best)
                require_kept(folder, [step for step in config.keep if step <= there.step])
            if there.step < config.steps:
                encode_corpus(text, folder / TOKENS)


def _require_memory(architecture: Architecture, n_characters: int, device: str) -> None:
    """Refuse a model for which there is no memory, before anything is written."""
    with torch.device("meta"):
        n_parameters = CharacterModel(architecture, n_characters).n_parameters
    # Weights and gradients, and two moments of each.
    n_bytes, what = 4 * 4 * n_parameters, f"{n_parameters:,} weights, their gradients and the state of Adam"
    require_memory(n_bytes, torch.device(device), what, "lower --hidden, --layers or --embedding")


def _begun(
    model: CharacterModel, training: np.ndarray, folder: Path, config: TrainConfig
) -> tuple[TrainingStep, Progress]:
    """Return this process's share of the lanes with the model at the last checkpoint, and where that stands."""
    mine = slice(*own_rows(config.batch))
    lanes = cut_lanes(training, config.batch)[mine]
    taker = TrainingStep(model, lanes, config.length, config.clip, config.precision, model.zero_state(len(lanes)))
    progress = load_checkpoint(folder / CHECKPOINT, model, taker.optimizer)
    if progress.step:
        taker.state = tuple(value[:, mine].contiguous() for value in progress.state)
        taker.scaler.load_state_dict(progress.scale)
    return taker, progress


def _take_all(
    taker: TrainingStep,
    progress: Progress,
    validation: np.ndarray,
    folder: Path,
    config: TrainConfig,
    seed: int,
    log_path: Path | None,
) -> None:
    """Take the steps that are left, with a validation at each pause, and a checkpoint after each `evaluate_every`."""
    per_step = config.batch * config.length
    bar = progress_bar("train", config.steps * per_step, "characters", progress.step * per_step)
    with kept_memory(), bar as advance:
        if progress.step == 0 and 0 in config.keep:
            with everybody().together():
                if log_path:
                    log(log_path, "validate", step=0, **_validated(taker, progress, validation, folder, config))
        while progress.step < config.steps:
            started = time.perf_counter()
            first = progress.step
            take_steps(taker, progress, config.pause(first), config, seed, advance, log_path)
            rate = (progress.step - first) * per_step / (time.perf_counter() - started)
            progress.state = tuple(map(everybody().columns_of_all, taker.state))
            progress.scale = taker.scaler.state_dict()
            with everybody().together():
                if log_path:
                    measures = _validated(taker, progress, validation, folder, config)
                    log(log_path, "validate", step=progress.step, **measures, characters_per_second=round(rate))


def _validated(
    taker: TrainingStep, progress: Progress, validation: np.ndarray, folder: Path, config: TrainConfig
) -> dict[str, float | None]:
    """Measure the validation loss; keep what is to be kept after this step: the model, the best weights, a checkpoint.

    Raises:
        InputError: the loss is not finite; nothing is kept then.
    """
    model = taker.model
    nats = evaluate(model, validation, config.length, config.precision)
    if not math.isfinite(nats):
        raise InputError(f"the validation loss is {nats} nats after step {progress.step}: {GENTLER}")
    # Before the checkpoint, after which no step is taken again.
    if progress.step in config.keep:
        keep_model(folder, model, progress.step, nats)
    if config.is_checked(progress.step):
        if nats < progress.best:
            progress.best, progress.best_step = nats, progress.step
            write_weights(folder, model, {"step": progress.step, "validation_nats": nats})
        save_checkpoint(folder / CHECKPOINT, model, taker.optimizer, progress)
    return {"nats": nats, "bits_per_character": nats / math.log(2), "perplexity": perplexity(nats)}


def take_steps(
    taker: TrainingStep,
    progress: Progress,
    last: int,
    config: TrainConfig,
    seed: int,
    advance: Any,
    log_path: Path | None,
) -> None:
    """Take the steps up to `last`, one window each; `progress` moves along."""
    model = taker.model
    model.train()
    with torch.random.fork_rng(enabled=config.dropout > 0):
        while progress.step < last:
            if config.dropout:
                torch.manual_seed((seed * 1_000_003 + progress.step) % 2**63)
            taker.take(progress.step, config.rate(progress.step))
            progress.step += 1
            if progress.step % LOG_EVERY == 0 or progress.step == last:
                _refuse_non_finite(taker)
                nats, norm = everybody().total(taker.loss) / everybody().size, taker.norm.item()
                if log_path:
                    rate = config.rate(progress.step - 1)
                    log(log_path, "train", step=progress.step, nats=nats, gradient_norm=norm, rate=rate)
                advance(0, note=f"{nats:.3f} nats")
            advance(config.batch * config.length)


def _refuse_non_finite(taker: TrainingStep) -> None:
    bad = int(everybody().smallest(taker.first_bad.item()))
    if bad == NEVER:
        return
    # Another process may have had the first step that was not finite.
    nats, norm = taker.bad.tolist() if taker.first_bad.item() == bad else (math.nan, math.nan)
    raise InputError(f"the loss is {nats} nats and the gradient's norm {norm} at step {bad + 1}: {GENTLER}")


def _refuse_other_text(folder: Path, text: Survey) -> None:
    if not (folder / DESCRIPTION).exists():
        return
    earlier = str(read_description(folder)["corpus"].get("sha256"))
    if earlier != text.sha256:
        raise InputError(
            f"{text.source} is not the text that {folder} was trained on (sha256 {text.sha256[:12]}, was "
            f"{earlier[:12]}): give that text, choose another --out, or start over with --overwrite"
        )
