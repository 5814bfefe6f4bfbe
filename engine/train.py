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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gatescope.engine.checkpoint import CHECKPOINT, Progress, standing
from gatescope.engine.config_values import require_kind, whole_seed
from gatescope.engine.corpus import Survey, encode_corpus, open_corpus, vocabulary_of
from gatescope.engine.errors import InputError
from gatescope.engine.free_memory import require_memory
from gatescope.engine.kept_models import kept_names, require_kept
from gatescope.engine.location import local_path
from gatescope.engine.log import log
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.model_description import DESCRIPTION, read_description, write_description
from gatescope.engine.processes import everybody
from gatescope.engine.stage_folder import claimed
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import WEIGHTS, require_device, require_weights
from gatescope.engine.training_loop import TrainingLoop

TOKENS = "tokens.npy"
OUTPUTS = (WEIGHTS, DESCRIPTION, CHECKPOINT, TOKENS)


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
        parts = open_corpus(text, folder / TOKENS).split(config.validation_share)
        torch.manual_seed(seed)
        model = CharacterModel(config.architecture, len(vocabulary)).to(device)
        loop = TrainingLoop(model, *parts, folder, config, seed, log_path)
        with everyone.together():
            if log_path:
                write_description(folder, config.architecture, vocabulary, about)
                begun = {"parameters": model.n_parameters, "seed": seed, "device": device, "processes": everyone.size}
                log(log_path, "train", step=loop.progress.step, corpus=about, **begun)
        loop.run()
        return _kept(loop.progress, about, text.counts)


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


def _refuse_other_text(folder: Path, text: Survey) -> None:
    if not (folder / DESCRIPTION).exists():
        return
    earlier = str(read_description(folder)["corpus"].get("sha256"))
    if earlier != text.sha256:
        raise InputError(
            f"{text.source} is not the text that {folder} was trained on (sha256 {text.sha256[:12]}, was "
            f"{earlier[:12]}): give that text, choose another --out, or start over with --overwrite"
        )
