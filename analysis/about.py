"""What a file or folder is, and whether it is whole: a model, states, a results folder, or a run with all three."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from gatescope.analysis.read_results import read_ablation, read_results
from gatescope.analysis.reproduction import CELLS, REPRODUCTION
from gatescope.analysis.results import ABLATION, ERASE, PROBING, RECORDS
from gatescope.engine.checkpoint import CHECKPOINT, standing
from gatescope.engine.counted import counted
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.evaluate import perplexity
from gatescope.engine.kept_models import kept_models
from gatescope.engine.location import is_url, local_path
from gatescope.engine.model_description import DESCRIPTION
from gatescope.engine.other_dumps import is_folder_of_arrays, open_states
from gatescope.engine.stage_folder import CONFIG, read_config
from gatescope.engine.trained_model import load_model

UNFINISHED = "not finished: repeat the command to continue"


def about(place: str | Path, model: Path | None = None) -> str:
    """Return a description of a folder, or of another program's states, in a few lines.

    Args:
        place: a path, or the URL of a state dump.
        model: the model that the state dump should have been recorded from.

    Raises:
        InputError: the path does not exist, was not written by gatescope or is damaged (the message names each fault),
            or the dump is of other weights than the model's.
    """
    path = Path(place) if is_url(place) else local_path(place)
    if is_url(place) or path.is_file() or _is_dump(path):
        return _states(place, model)
    if model is not None:
        raise InputError(f"--model needs a state dump, but {path} is not one: leave it out")
    if not path.exists():
        raise InputError(f"{path} does not exist: give the folder of a model, a state dump, results or a run")
    if (path / DESCRIPTION).exists():
        return _model(path)
    parts = []
    if (path / CONFIG).exists():
        stage = read_config(path)["stage"]
        whole = stage not in PROBING or (path / RECORDS).exists()
        parts.append(f"{path}: output of `gatescope {stage}`" + ("" if whole else f", {UNFINISHED}"))
    if (path / RECORDS).exists():
        parts.append(_results(path))
    whole_model = path / "model" if (path / "model").is_dir() else None
    if whole_model:
        parts.append(_model(whole_model))
    if (path / "states.zarr").is_dir():
        parts.append(_states(path / "states.zarr", whole_model))
    if (path / REPRODUCTION).exists():
        parts += [f"{path}: output of `gatescope reproduce`", *(about(path / cell) for cell in CELLS)]
    if (path / ABLATION).exists():
        methods = Counter(record["method"] for record in read_ablation(path))
        n_erased = methods.pop(ERASE, 0)
        held = f"{counted(methods.total(), 'set')} of units held"
        erased = f" and {counted(n_erased, 'direction')} erased" * bool(n_erased)
        parts.append(f"{path / ABLATION}: what the model loses with {held}{erased}")
    if not parts and is_folder_of_arrays(path):
        return _states(path, None)
    if not parts:
        raise InputError(f"{path} was not written by gatescope: expected a model, a state dump, results or a run")
    return "\n".join(parts)


def _is_dump(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def _model(path: Path) -> str:
    trained = load_model(path)
    facts, training = trained.facts(), trained.training
    nats, exp = training["validation_nats"], perplexity(training["validation_nats"])
    return (
        f"{path}: model, {facts['layers']} x {facts['hidden']} {facts['cell']}, {facts['parameters']:,} parameters, "
        f"{counted(facts['vocabulary_size'], 'character')}, trained on {trained.corpus['name']} "
        f"({counted(trained.corpus['characters'], 'character')})\n"
        f"  validation loss {nats:.4f} nats = {nats / math.log(2):.4f} bits per character, perplexity "
        f"{'beyond range' if exp is None else f'{exp:.3f}'}, at step {training['step']:,}\n"
        f"  weights sha256 {trained.weights_sha256}" + _steps_left(path) + "".join(map(_kept, kept_models(path)))
    )


def _kept(path: Path) -> str:
    nats = load_model(path).training["validation_nats"]
    return f"\n  {path}: kept during training, validation loss {nats:.4f} nats"


def _steps_left(path: Path) -> str:
    """Return how far training has come, if the model's folder shows that there are steps left."""
    if not (path / CONFIG).exists():
        return ""
    steps, done = read_config(path)["settings"].get("train", {}).get("steps", 0), standing(path / CHECKPOINT).step
    return f"\n  step {done:,} of {steps:,}, {UNFINISHED}" if done < steps else ""


def _states(place: str | Path, model: Path | None) -> str:
    source = open_states(place, finished=False)
    source.require_whole()
    arrays = ", ".join(f"{name} [{source.n_rows:,}, {source.array(name).shape[1]}]" for name in source.names)
    sequences = counted(len(source.sequence_starts) - 1, "sequence")
    if not isinstance(source, StateDump):
        if model is not None:
            raise InputError(f"--model: {place} does not record which model it is from; leave it out")
        known = {"character": "with text", "token": "with tokens", "row": "without text"}[source.of_each_row]
        return (
            f"{place}: states of another program, {counted(source.n_rows, 'row')} in {sequences}, {known}; all finite\n"
            f"  {arrays}, {source.dtype}"
        )
    attributes = source.attributes
    weights = attributes.get("weights_sha256", "unknown")
    parts = (attributes, *attributes.get("parts", ()))
    kinds = " and ".join(dict.fromkeys(part["kind"] for part in parts if "kind" in part))
    expected = load_model(model).weights_sha256 if model else weights
    if weights != expected:
        raise InputError(f"{place} is of another model: its weights have sha256 {weights}, those of {model} {expected}")
    return (
        f"{place}: state dump, {counted(source.n_rows, source.of_each_row)} in {sequences}, "
        f"{kinds or 'made elsewhere'}, alignment {attributes.get('alignment', 'unknown')}; whole\n"
        f"  {arrays}, {source.dtype}\n"
        f"  weights sha256 {weights}" + (f", those of {model}" if model else "")
    )


def _results(path: Path) -> str:
    records = read_results([path])[0].records
    names = {record["hypothesis"] for record in records}
    states = list(dict.fromkeys(record["states"] for record in records))
    statuses = Counter(record["status"] for record in records)
    found = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    asked, fits = counted(len(names), "hypothesis", "hypotheses"), counted(len(records), "fit")
    return f"{path}: results of {asked} on {', '.join(states)}: {fits}, {found}"
