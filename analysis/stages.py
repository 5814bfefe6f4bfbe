"""All stages in one folder: train a model on a text, sample from it, and probe its states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.analysis.asked import chosen_hypotheses, planned, reasons, unanswerable
from gatescope.analysis.language import detect_language
from gatescope.analysis.probe import OUTPUTS as PROBE_OUTPUTS
from gatescope.analysis.probe import UNFINISHED, study_dump
from gatescope.analysis.probe_config import ProbeConfig, probe_settings
from gatescope.analysis.results import FIGURES, RECORDS, REPORT
from gatescope.analysis.split import split_sequences
from gatescope.analysis.state_sets import state_sets
from gatescope.engine.corpus import Survey, survey_corpus, vocabulary_of
from gatescope.engine.counted import counted
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove
from gatescope.engine.record import captured_arrays
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.stage_folder import claimed, keep_only
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model

# The settings of the stages before the probe.
DECIDED = ("corpus", "train", "sample", "seed")
OUTPUTS = ("model", "states.zarr", *PROBE_OUTPUTS, REPORT, FIGURES, "log.jsonl")


@dataclass(frozen=True)
class Run:
    """What decides the results of a run."""

    corpus: str  # "stdlib" or the path of a UTF-8 text
    train: TrainConfig
    sample: SampleConfig
    probe: ProbeConfig
    seed: int  # of every random choice

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of all stages, as `config.json` has them."""
        of_probe = probe_settings(self.probe, self.seed)
        return {"corpus": self.corpus, "train": self.train.settings, "sample": self.sample, **of_probe}


def run_stages(
    out: Path,
    run: Run,
    *,
    device: str,
    overwrite: bool,
    advice: Sequence[str],
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train, sample and probe, or continue where that stopped; settings that a later stage refuses are refused at once.

    Args:
        out: folder of `model`, `states.zarr` and the results.
        run: the text and the settings of each stage.
        device: where the model runs, "cpu" or "cuda".
        overwrite: start over, replacing what the folder holds.
        advice: as `study_dump` takes it, in terms of the command's flags.
        say: is called with a line when the model is there, one when the states are, and one on how they are probed.
        warn: is called with one line for each hypothesis that could not be evaluated, for a text with hidden
            characters, and for a model that learnt nothing.

    Returns:
        The records, as in `probes.json`.

    Raises:
        InputError: an unusable text or setting, or a folder of other settings.
    """
    text = _surveyed(run, device)
    if text.warning:
        warn(text.warning)
    language = detect_language(text.head)
    facts = {"language": language}
    with claimed(out, "run", run.settings, OUTPUTS, overwrite):
        log_path = out / "log.jsonl"
        if not (out / RECORDS).exists():
            # Warn before training, while the user can still fix it.
            for line in reasons(unanswerable(chosen_hypotheses(run.probe, language))):
                warn(line)
        trained = train_model(
            text, out / "model", run.train, seed=run.seed, device=device, log_path=log_path, facts=facts
        )
        say(f"model: {out / 'model'}, validation loss {trained['validation_nats']:.3f} nats per character")
        if trained["warning"]:
            warn(trained["warning"])
        rows = sample_states(
            load_model(out / "model", device), out / "states.zarr", run.sample, seed=run.seed, log_path=log_path
        )
        say(f"states: {out / 'states.zarr'}, {counted(rows, 'character')}")
        try:
            dump = StateDump.open(out / "states.zarr")
            plan = planned(dump, run.probe, None)
            return study_dump(
                dump, out, run.probe, plan, seed=run.seed, log_path=log_path, advice=advice, say=say, warn=warn
            )
        except InputError:
            # Keep model and states for a user who corrects the mistake.
            if not (out / RECORDS).exists():
                keep_only(out, DECIDED)
                for name in UNFINISHED:
                    remove(out / name)
            raise


def _surveyed(run: Run, device: str) -> Survey:
    """Return the survey of a text, and refuse settings that a later stage would."""
    train, sample, probe = run.train, run.sample, run.probe
    chosen_hypotheses(probe, "any")
    text = survey_corpus(run.corpus)
    train.require(text.n_characters)
    sample.require(train.architecture, vocabulary_of(text)[0], device)
    split_sequences(np.arange(sample.sequences), probe.test_share, run.seed, probe.folds)
    if not state_sets(captured_arrays(train.architecture, sample.capture), probe.alignment):
        raise InputError(
            f"--sample.capture {' '.join(sample.capture)} leaves no states for probes with --probe.alignment "
            f"{probe.alignment}: capture h"
        )
    return text
