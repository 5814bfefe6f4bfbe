"""The commands, one function each: their arguments are the flags, their docstrings the help."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.analysis.ablation_table import ablation_table
from gatescope.analysis.about import about
from gatescope.analysis.language import detect_language
from gatescope.analysis.paint import list_hypotheses, paint_hypothesis
from gatescope.analysis.probe import probe_dump
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.reproduction import CELLS, EXPERIMENTS, REPRODUCTION, compared, conditions
from gatescope.analysis.reproduction_table import reproduction_table
from gatescope.analysis.results import ABLATION
from gatescope.analysis.stages import run_stages
from gatescope.analysis.table import paper_table
from gatescope.engine.concat import concatenate
from gatescope.engine.corpus import survey_corpus
from gatescope.engine.errors import InputError
from gatescope.engine.export import export_lstmvis
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.files import write_json
from gatescope.engine.location import local_path
from gatescope.engine.model import load_model
from gatescope.engine.other_dumps import ReadConfig
from gatescope.engine.processes import joined, place
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.source_tree import TreeConfig, write_corpus
from gatescope.engine.train import TrainConfig, train_model

Device = Literal["auto", "cpu", "cuda"]


def prepared(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Return the function with its work put off, so that reading its flags and doing its work are two things.

    What all commands have in common is done here: the seed is checked, and so are paths, in which `~` is expanded.
    """

    @functools.wraps(function)
    def put_off(*args: Any, **kwargs: Any) -> Callable[[], None]:
        if not 0 <= kwargs.get("seed", 0) < 2**63:
            raise InputError(f"--seed {kwargs['seed']}: expected a whole number from 0 to 2^63 - 1")
        named = {name: _on_this_machine(value) for name, value in kwargs.items()}
        return functools.partial(function, *map(_on_this_machine, args), **named)

    return put_off


def run(
    out: Path,
    corpus: str = "stdlib",
    train: TrainConfig = TrainConfig(),  # noqa: B008
    sample: SampleConfig = SampleConfig(),  # noqa: B008
    probe: ProbeConfig = ProbeConfig(),  # noqa: B008
    seed: int = 0,
    device: Device = "auto",
    overwrite: bool = False,
) -> None:
    """Train a model on a text, sample from it, probe its states and write a report. Repeat the command to go on.

    Args:
        out: folder of the model, the states, the results and the report.
        corpus: stdlib (the source of the running Python's library) or the path of a UTF-8 text.
        train: the model and its training.
        sample: the text that the model writes and the states that are kept.
        probe: the hypotheses and how they are tested.
        seed: of every random choice.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start anew whatever --out holds.
    """
    stages = train, sample, probe
    records = run_stages(
        out, corpus, *stages, seed=seed, device=_device(device), overwrite=overwrite, say=_say, warn=_warn
    )
    _print_table(paper_table(records))
    _report([out], out)


def corpus(
    tree: Positional[Path],
    out: Path,
    config: TreeConfig = TreeConfig(),  # noqa: B008
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Make one text out of a source tree, with a manifest of its files beside it.

    Args:
        tree: folder to take files from.
        out: the text to write.
        config: which files, in which order.
        seed: of --shuffle.
        overwrite: write it anew whatever --out holds.
    """
    kept = "; left as it was" if out.exists() and not overwrite else ""
    manifest = write_corpus(tree, out, config, seed, overwrite=overwrite)
    left_out = f", {len(manifest['left_out'])} left out (see the manifest)" if manifest["left_out"] else ""
    _say(f"{out}: {manifest['characters']:,} characters of {len(manifest['files']):,} files{left_out}{kept}")


def train(
    text: Positional[str],
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
        seed: of the initial weights and of dropout.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start anew whatever --out holds.
    """
    survey = survey_corpus(text, errors)
    facts = {"language": detect_language(survey.head)}
    where = _device(device)
    with joined(where):
        trained = train_model(survey, out, config, seed=seed, device=where, overwrite=overwrite, facts=facts)
        if place()[0] > 0:
            return
    _say(f"{out}: validation loss {trained['validation_nats']:.4f} nats per character at step {trained['step']:,}")


def sample(
    model: Positional[Path],
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
        config: how much text, how, and which states.
        seed: of the text.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start anew whatever --out holds.
    """
    where = _device(device)
    with joined(where):
        rows = sample_states(load_model(model, where), out, config, seed=seed, overwrite=overwrite)
        if place()[0] > 0:
            return
    _say(f"{out}: {rows:,} characters")


def extract(
    model: Positional[Path],
    texts: Positional[tuple[str, ...]],
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
        config: how the texts are read, and which states.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start anew whatever --out holds.
    """
    where = _device(device)
    with joined(where):
        rows = extract_states(load_model(model, where), texts, out, config, overwrite=overwrite)
        if place()[0] > 0:
            return
    _say(f"{out}: {rows:,} characters" + f" of {len(texts):,} documents" * (len(texts) > 1))


def probe(
    states: Positional[str],
    out: Path,
    labels: Path | None = None,
    config: ProbeConfig = ProbeConfig(),  # noqa: B008
    read: ReadConfig = ReadConfig(),  # noqa: B008
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Ask recorded states what they know: fits, scores, baselines and responsible units of every hypothesis.

    Args:
        states: a state dump, or another program's .npy, .npz, .h5, .safetensors or Zarr; Zarr by its URL too.
        out: folder of the results.
        labels: .npz, .csv, .tsv, .jsonl or .parquet with a hypothesis in each column and a row for each state.
        config: the hypotheses and how they are tested.
        read: which states, and what their file does not say.
        seed: of the split into training and test, and of the bootstrap.
        overwrite: start anew whatever --out holds.
    """
    records = probe_dump(states, out, config, read=read, labels=labels, seed=seed, overwrite=overwrite, warn=_warn)
    _print_table(paper_table(records))
    _say(f"results: {out}; for the report: gatescope report {out}")


def ablate(
    results: Positional[Path],
    model: Path | None = None,
    states: Path | None = None,
    labels: Path | None = None,
    functions: Path | None = None,
    out: Path | None = None,
    config: AblationConfig = AblationConfig(),  # noqa: B008
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Ask whether the network uses the units that carry a hypothesis: what it loses while they are held.

    Args:
        results: folder that `gatescope probe` or `gatescope run` wrote.
        model: folder of the model; default: the one of the run.
        states: the state dump that was probed; default: the one of the run.
        labels: the labels that the probe had, for hypotheses that they hold.
        functions: the Python file that the probe had, where it is no longer at its place.
        out: folder of ablation.json; default: the results.
        config: which units are held, at what, and on how much text.
        seed: of the random sets of units.
        device: where the model runs; auto takes a GPU if there is one.
    """
    # Here because scikit-learn takes seconds to import, and most commands need none of it.
    from gatescope.analysis.ablation import ablate_results

    where = _device(device)
    model, states = model or _of_run(results, "model"), states or _of_run(results, "states.zarr")
    out = out or results
    own = {"labels": labels, "functions": functions}
    records = ablate_results(results, load_model(model, where), states, out, config, **own, seed=seed)
    _print_table(ablation_table(records))
    _say(f"ablation: {out / ABLATION}" + f"; for the report: gatescope report {out}" * (out == results))


def reproduce(
    experiment: Positional[Literal["shakespeare", "linux"]],
    corpus: Path,
    out: Path,
    steps: int | None = None,
    sequences: int = 1000,
    seed: int = 0,
    device: Device = "auto",
    overwrite: bool = False,
) -> None:
    """Train the paper's models, ask its hypotheses, and set our numbers beside its own. Repeat the command to go on.

    Args:
        experiment: which of the paper's corpora.
        corpus: path of the text, UTF-8; see the README.
        out: folder of a run for each cell, of reproduction.json and of the report.
        steps: windows of 128 x 200 characters to train on; default: 2,000 of Shakespeare, 20,000 of Linux.
        sequences: sampled texts of 500 characters; probes are tested on a twentieth of them.
        seed: of every random choice.
        device: where the models run; auto takes a GPU if there is one.
        overwrite: start anew whatever --out holds.
    """
    paper, rows = EXPERIMENTS[experiment], []
    common: dict[str, Any] = {"seed": seed, "device": _device(device), "overwrite": overwrite}
    for cell in CELLS:
        stages = conditions(paper, cell, paper.steps if steps is None else steps, sequences)
        records = run_stages(out / cell, str(corpus), *stages, **common, say=_say, warn=_warn)
        _say(f"the paper's {cell}: {paper.nats[cell]:.3f} nats per character")
        rows += compared(paper, cell, records)
    write_json(out / REPRODUCTION, rows)
    _print_table(reproduction_table(rows))
    _say(f"comparison: {out / REPRODUCTION}")
    _report([out / cell for cell in CELLS], out)


def export(states: Positional[str], file: Positional[Path], overwrite: bool = False) -> None:
    """Write a state dump as an HDF5 file in the layout of LSTMVis, with the dictionary and configuration it needs.

    Args:
        states: the dump; a path or a URL.
        file: the file to write, FILE.h5; FILE.dict and FILE.yml stand beside it.
        overwrite: replace files that are there.
    """
    datasets = export_lstmvis(states, file, overwrite=overwrite)
    _say(f"{file}: {', '.join(datasets)}; for LSTMVis copy {file.with_suffix('.yml').name} to lstm.yml")


def concat(states: Positional[tuple[Path, ...]], out: Path, overwrite: bool = False) -> None:
    """Put dumps of one model together, one behind the other. Repeat the command to go on.

    Args:
        states: the dumps, in order.
        out: the dump to write; the first of the dumps itself to append the others to it.
        overwrite: start anew whatever --out holds.
    """
    rows = concatenate(states, out, overwrite=overwrite)
    _say(f"{out}: {rows:,} characters of {len(states)} dumps")


def hypotheses(show: str | None = None, text: Path | None = None) -> None:
    """List the hypotheses, or paint one on a text.

    Args:
        show: name of a hypothesis to paint.
        text: path of a UTF-8 text to paint it on.
    """
    if (show is None) != (text is None):
        raise InputError("--show and --text belong together: give both to paint, neither to list")
    console = Console()
    console.print(list_hypotheses() if show is None or text is None else paint_hypothesis(show, text))


def report(results: Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Write one HTML report and the figures of one or several results.

    Args:
        results: folders that `gatescope probe` or `gatescope run` wrote.
        out: folder of report.html and figures/; default: the first folder of results.
    """
    if not results:
        raise InputError("no results: give at least one folder that `gatescope probe` or `gatescope run` wrote")
    _report(list(results), out or results[0])


def info(path: Positional[str], model: Path | None = None) -> None:
    """Say what a model, states or a results folder is, and whether it is whole.

    Args:
        path: the folder, or another program's states; Zarr by its URL too.
        model: folder of the model that a state dump should be of: its weights are compared.
    """
    _say(about(path, model))


def _on_this_machine(value: Any) -> Any:
    """Return what a flag or a group of flags gives, a path as `local_path` has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _on_this_machine(getattr(value, each.name)) for each in fields(value)})
    if isinstance(value, tuple):
        return tuple(map(_on_this_machine, value))
    return local_path(value) if isinstance(value, Path) else value


def _of_run(results: Path, name: str) -> Path:
    """Return a part of a run, which is what results are where nothing else is said."""
    if not (results / name).exists():
        flag = name.partition(".")[0]
        raise InputError(f"{results} has no {name}, as a run has: give that of the results with --{flag}")
    return results / name


def _report(results: list[Path], out: Path) -> None:
    # Here because Matplotlib takes a second to import, and most commands draw nothing.
    from gatescope.analysis.report import write_report

    _say(f"report: {write_report(results, out)}")


def _device(name: Device) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA GPU here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _print_table(table: Table) -> None:
    console = Console()
    # A pipe has no width of its own.
    (console if console.is_terminal else Console(width=120)).print(table)


def _say(line: str) -> None:
    print(line, flush=True)


def _warn(line: str) -> None:
    print(f"gatescope: {line}", file=sys.stderr, flush=True)
