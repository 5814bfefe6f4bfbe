"""The commands that make texts, models and state dumps.

Each is a function: its arguments are the flags, its docstring is the help.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from gatescope.analysis.console import Device, Model, States, device_of, say, warn
from gatescope.analysis.language import detect_language
from gatescope.engine.concat import concatenate
from gatescope.engine.corpus import survey_corpus
from gatescope.engine.counted import counted
from gatescope.engine.dump import StateDump
from gatescope.engine.export import export_lstmvis
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.kept_models import STEPS
from gatescope.engine.processes import everybody, joined
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.source_tree import TreeConfig, write_corpus
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model


def corpus(
    tree: Positional[Annotated[Path, arg(metavar="TREE")]],
    out: Path,
    config: TreeConfig = TreeConfig(),  # noqa: B008
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Make one text out of a source tree, and beside it a manifest of its files and of those left out.

    Symbolic links, and files that are empty or not UTF-8, are left out.

    Args:
        tree: folder to take files from.
        out: the text to write.
        config: which files, and in which order.
        seed: seed of --shuffle.
        overwrite: write it again, replacing what --out holds.
    """
    kept = "; left unchanged" if out.exists() and not overwrite else ""
    manifest = write_corpus(tree, out, config, seed, overwrite=overwrite)
    left_out = f", {len(manifest['left_out'])} left out (see the manifest)" if manifest["left_out"] else ""
    text, files = counted(manifest["characters"], "character"), counted(len(manifest["files"]), "file")
    say(f"{out}: {text} of {files}{left_out}{kept}")


def train(
    text: Positional[Annotated[str, arg(metavar="TEXT")]],
    out: Path,
    config: TrainConfig = TrainConfig(),  # noqa: B008
    errors: Literal["strict", "replace"] = "strict",
    seed: int = 0,
    device: Device = "auto",
    overwrite: bool = False,
) -> None:
    """Train a character language model on a text. Repeat the command to go on from the last checkpoint.

    Args:
        text: path of a UTF-8 text, or stdlib (the source of the running Python's library).
        out: folder of the model.
        config: the model and its training.
        errors: replace reads bytes that are not UTF-8 as U+FFFD.
        seed: seed of the initial weights and of dropout.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start over, replacing what --out holds.
    """
    survey = survey_corpus(text, errors)
    facts = {"language": detect_language(survey.head)}
    where = device_of(device)
    with joined(where):
        if survey.warning and everybody().rank == 0:
            warn(survey.warning)
        trained = train_model(survey, out, config, seed=seed, device=where, overwrite=overwrite, facts=facts)
        if everybody().rank > 0:
            return
    loss = f"validation loss {trained['validation_nats']:.4f} nats per character"
    say(f"{out}: lowest {loss}, at step {trained['step']:,} of {config.steps:,}; these weights are kept")
    if config.keep:
        say(f"{out / STEPS}: {counted(len(config.keep), 'model')} kept during training, each in its own folder")
    if trained["warning"]:
        warn(trained["warning"])


def sample(
    model: Model,
    out: Path,
    config: SampleConfig = SampleConfig(),  # noqa: B008
    seed: int = 0,
    device: Device = "auto",
    overwrite: bool = False,
) -> None:
    """Sample text from a model and record its states in a dump. Repeat the command to go on.

    Args:
        model: folder of the model.
        out: the state dump to write, such as states.zarr.
        config: how much text, how it is sampled, and which states to record.
        seed: seed of the random characters.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start over, replacing what --out holds.
    """
    where = device_of(device)
    with joined(where):
        rows = sample_states(load_model(model, where), out, config, seed=seed, overwrite=overwrite)
        if everybody().rank > 0:
            return
    say(f"{out}: {counted(rows, 'character')}")


def extract(
    model: Model,
    texts: Positional[Annotated[tuple[str, ...], arg(metavar="TEXT...", help_behavior_hint="(required)")]],
    out: Path,
    config: ExtractConfig = ExtractConfig(),  # noqa: B008
    device: Device = "auto",
    overwrite: bool = False,
) -> None:
    """Read texts with a model and record its states in a dump. Repeat the command to go on.

    Args:
        model: folder of the model.
        texts: paths of UTF-8 texts, or stdlib; each is a document of its own.
        out: the state dump to write, such as states.zarr.
        config: how the texts are read, and which states to record.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start over, replacing what --out holds.
    """
    where = device_of(device)
    with joined(where):
        rows = extract_states(load_model(model, where), texts, out, config, overwrite=overwrite)
        if everybody().rank > 0:
            return
    say(f"{out}: {counted(rows, 'character')}" + f" of {len(texts):,} documents" * (len(texts) > 1))


def export(states: States, file: Positional[Annotated[Path, arg(metavar="FILE")]], overwrite: bool = False) -> None:
    """Write a state dump as an HDF5 file in the layout of LSTMVis, with the dictionary and configuration that it needs.

    Args:
        states: the dump; a path or a URL.
        file: the file to write, FILE.h5; FILE.dict and FILE.yml are written beside it.
        overwrite: replace existing files.
    """
    datasets = export_lstmvis(states, file, overwrite=overwrite)
    say(f"{file}: {', '.join(datasets)}; for LSTMVis copy {file.with_suffix('.yml').name} to lstm.yml")


def concat(
    states: Positional[Annotated[tuple[Path, ...], arg(metavar="STATES...", help_behavior_hint="(required)")]],
    out: Path,
    overwrite: bool = False,
) -> None:
    """Join dumps of one model, one after another. Repeat the command to go on.

    Args:
        states: the dumps, in order.
        out: the dump to write; give the first dump to append the others to it.
        overwrite: start over, replacing what --out holds.
    """
    appends = len(states) > 1 and out.resolve() == states[0].resolve()
    before = StateDump.open(out).n_rows if appends else None
    rows = concatenate(states, out, overwrite=overwrite)
    added = "; the others were appended before" if rows == before else ""
    say(f"{out}: {counted(rows, 'character')} of {counted(len(states), 'dump')}{added}")
