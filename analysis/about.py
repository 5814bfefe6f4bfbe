"""What a folder is, and whether it is whole: a model, a state dump, a results folder, or a run with all three."""

from __future__ import annotations

import math
from pathlib import Path

from gatescope.analysis.probe import RECORDS
from gatescope.analysis.results import read_results
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.model import DESCRIPTION, load_model
from gatescope.engine.settings import CONFIG, read_config


def about(path: Path) -> str:
    """Return a description of a folder, some lines of text.

    Raises:
        InputError: there is nothing, nothing that gatescope knows, or something damaged: the message names each fault.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: give the folder of a model, a state dump, results or a run")
    if (path / DESCRIPTION).exists():
        return _model(path)
    if (path / "zarr.json").exists():
        return _dump(path)
    parts = []
    if (path / CONFIG).exists():
        parts.append(f"{path}: output of `gatescope {read_config(path)['stage']}`")
    if (path / RECORDS).exists():
        parts.append(_results(path))
    if (path / "model").is_dir():
        parts.append(_model(path / "model"))
    if (path / "states.zarr").is_dir():
        parts.append(_dump(path / "states.zarr"))
    if not parts:
        raise InputError(f"{path} is nothing that gatescope wrote: expected a model, a state dump, results or a run")
    return "\n".join(parts)


def _model(path: Path) -> str:
    trained = load_model(path)
    facts, training = trained.facts(), trained.training
    nats = training["validation_nats"]
    return (
        f"{path}: model, {facts['layers']} x {facts['hidden']} {facts['cell']}, {facts['parameters']:,} parameters, "
        f"{facts['vocabulary_size']} characters, trained on {trained.corpus['name']} "
        f"({trained.corpus['characters']:,} characters)\n"
        f"  validation loss {nats:.4f} nats = {nats / math.log(2):.4f} bits per character, "
        f"perplexity {math.exp(nats):.3f}, at step {training['step']:,}\n"
        f"  weights sha256 {trained.weights_sha256}"
    )


def _dump(path: Path) -> str:
    dump = StateDump.open(path, finished=False)
    problems = dump.verify()
    if problems:
        raise InputError(f"{path} is not whole: " + "; ".join(problems))
    attributes = dump.attributes
    arrays = ", ".join(f"{name} [{dump.n_rows:,}, {dump.array(name).shape[1]}]" for name in dump.names)
    return (
        f"{path}: state dump, {dump.n_rows:,} characters in {len(dump.sequence_starts) - 1:,} sequences, "
        f"{attributes.get('kind', 'made elsewhere')}, alignment {attributes.get('alignment', 'unknown')}; whole\n"
        f"  {arrays}, {dump.dtype}\n"
        f"  weights sha256 {attributes.get('weights_sha256', 'unknown')}"
    )


def _results(path: Path) -> str:
    records = read_results([path])[0].records
    names = {record["hypothesis"] for record in records}
    states = list(dict.fromkeys(record["states"] for record in records))
    unconverged = sum(record["status"] != "converged" for record in records)
    return (
        f"{path}: results of {len(names)} hypotheses on {', '.join(states)}: {len(records)} fits, "
        f"{unconverged} not converged"
    )
