"""The commands about what states know, such as run, probe, ablate and report; `model_commands` has the rest.

Each is a function: its arguments are the flags, its docstring is the help.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, UseAppendAction, arg

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.analysis.ablation_table import ablation_table
from gatescope.analysis.about import about
from gatescope.analysis.asked import planned, reasons, states_and_labels
from gatescope.analysis.console import Device, States, device_of, print_table, say, warn
from gatescope.analysis.controls_table import controls_table
from gatescope.analysis.own_hypotheses import load_functions
from gatescope.analysis.paint import list_hypotheses, paint_hypothesis
from gatescope.analysis.probe import probe_dump
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.read_results import read_records, read_results
from gatescope.analysis.reproduction import CELLS, EXPERIMENTS, REPRODUCTION, compared, conditions
from gatescope.analysis.reproduction_table import LEGEND, reproduction_table
from gatescope.analysis.results import ABLATION, Record
from gatescope.analysis.stages import Run, run_stages
from gatescope.analysis.table import paper_table
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove, remove_partial_of, write_json
from gatescope.engine.other_dumps import ReadConfig
from gatescope.engine.sample import SampleConfig
from gatescope.engine.stage_folder import read_config
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model


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
        sample: the text that the model writes, and the states that are recorded.
        probe: the hypotheses and how they are tested.
        seed: seed of every random choice.
        device: where the model runs; auto takes a GPU if there is one.
        overwrite: start over, replacing what --out holds.
    """
    records = run_stages(
        out,
        Run(corpus, train, sample, probe, seed),
        device=device_of(device),
        overwrite=overwrite,
        advice=("give more --sample.sequences", "test all with --probe.folds 5"),
        say=say,
        warn=warn,
    )
    _print_scores(records)
    _report([out], out)


def probe(
    states: States,
    out: Path,
    labels: Path | None = None,
    config: ProbeConfig = ProbeConfig(),  # noqa: B008
    read: ReadConfig = ReadConfig(),  # noqa: B008
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Fit probes to recorded states: scores, baselines and responsible units of every hypothesis.

    Repeat the command to go on.

    Args:
        states: a state dump, or another program's .npy, folder of .npy, .npz, .h5, .safetensors or Zarr (or its URL).
        out: folder of the results.
        labels: .npz, .csv, .tsv, .jsonl or .parquet with a hypothesis in each column and a row for each state.
        config: the hypotheses and how they are tested.
        read: which states to use, and what their file lacks.
        seed: seed of the split into training and test, and of the bootstrap.
        overwrite: start over, replacing what --out holds.
    """
    records = probe_dump(
        states, out, config, read=read, labels=labels, seed=seed, overwrite=overwrite, say=say, warn=warn
    )
    _print_scores(records)
    say(f"results: {out}; {_for_the_report(out)}")


def _print_scores(records: Sequence[Record]) -> None:
    print_table(paper_table(records))
    controls = controls_table(records)
    if controls:
        print_table(controls)


def ablate(
    results: Positional[Annotated[Path, arg(metavar="RESULTS")]],
    model: Path | None = None,
    states: Path | None = None,
    labels: Path | None = None,
    functions: Path | None = None,
    out: Path | None = None,
    config: AblationConfig = AblationConfig(),  # noqa: B008
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Test whether the network uses what predicts a hypothesis: its loss with units held, or its direction erased.

    Args:
        results: folder that `gatescope probe` or `gatescope run` wrote.
        model: folder of the model; default: the one of the run.
        states: the state dump that was probed; default: the one of the run.
        labels: the file of labels that the probe had, if a hypothesis comes from it.
        functions: the Python file that the probe had, if it has moved.
        out: folder of ablation.json; default: the results.
        config: which units are held, at which values, and on how much text.
        seed: seed of the random sets of units and directions.
        device: where the model runs; auto takes a GPU if there is one.
    """
    # Imported here because scikit-learn takes seconds to import, and most commands do not need it.
    from gatescope.analysis.ablation import ablate_results

    where = device_of(device)
    model, states = model or _of_run(results, "model"), states or _of_run(results, "states.zarr")
    out, trained = out or results, load_model(model, where)
    records = ablate_results(results, trained, states, out, config, labels=labels, functions=functions, seed=seed)
    print_table(ablation_table(records), least=120)
    say(f"ablation: {out / ABLATION}" + f"; {_for_the_report(out)}" * (out == results))


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
    """Train the paper's models, probe its hypotheses and compare our numbers with its own. Repeat the command to go on.

    Args:
        experiment: which of the paper's corpora.
        corpus: path of the text, UTF-8; see the README.
        out: folder for a run of each cell, reproduction.json and the report.
        steps: windows of 128 x 200 characters to train on; default: 2,000 for Shakespeare, 20,000 for Linux.
        sequences: sampled texts of 500 characters; probes are tested on a twentieth of them.
        seed: seed of every random choice.
        device: where the models run; auto takes a GPU if there is one.
        overwrite: start over, replacing what --out holds.
    """
    paper = EXPERIMENTS[experiment]
    tables: list[list[dict[str, Any]]] = []
    for cell in CELLS:
        settings = conditions(paper, cell, paper.steps if steps is None else steps, sequences)
        records = run_stages(
            out / cell,
            Run(str(corpus), *settings, seed),
            device=device_of(device),
            overwrite=overwrite,
            advice=("give more --sequences",),
            say=say,
            warn=warn,
        )
        if overwrite:
            # That file belongs to the earlier runs.
            remove(out / REPRODUCTION)
        nats = read_config(out / cell)["facts"]["training"]["validation_nats"]
        tables.append(compared(paper, cell, records, nats))
    remove_partial_of(out / REPRODUCTION)
    write_json(out / REPRODUCTION, [row for rows in tables for row in rows])
    for rows in tables:
        print_table(reproduction_table(rows))
    say(LEGEND)
    say(f"comparison: {out / REPRODUCTION}")
    _report([out / cell for cell in CELLS], out)


def hypotheses(show: str | None = None, text: Path | None = None, functions: Path | None = None) -> None:
    """List the hypotheses, or paint one on a text.

    Args:
        show: hypothesis to paint: its name, or NAME=REGEX.
        text: path of a UTF-8 text to paint it on.
        functions: a Python file with hypotheses of your own.
    """
    if (show is None) != (text is None):
        raise InputError("--show and --text belong together: give both to paint, neither to list")
    if functions:
        load_functions(functions)
    if text and not Console().is_terminal:
        warn("labels are shown as colours, which are not written to a pipe or file: set FORCE_COLOR=1")
    print_table(list_hypotheses() if show is None or text is None else paint_hypothesis(show, text))


def unit(
    states: States,
    array: Positional[Annotated[str, arg(metavar="ARRAY")]],
    number: Positional[Annotated[int, arg(metavar="UNIT")]],
    hypotheses: tuple[str, ...] = ("auto",),
    pattern: UseAppendAction[tuple[str, ...]] = (),
    functions: Path | None = None,
    labels: Path | None = None,
    read: ReadConfig = ReadConfig(),  # noqa: B008
) -> None:
    """Show what one unit does: what it predicts, how long it remembers, where it is highest and lowest.

    Args:
        states: a state dump, or another program's .npy, folder of .npy, .npz, .h5, .safetensors or Zarr (or its URL).
        array: the states that it belongs to, such as layer0/c.
        number: its number, counted from 0.
        hypotheses: names (of --labels too) or sets (c, python, english, any); auto: all labels if given, else the
            default set of the text's language.
        pattern: NAME=REGEX, positive where a match covers the character; repeatable.
        functions: a Python file with functions marked by @hypothesis.
        labels: .npz, .csv, .tsv, .jsonl or .parquet with a hypothesis in each column and a row for each state.
        read: which states to use, and what their file lacks.
    """
    from gatescope.analysis.unit_page import unit_page
    from gatescope.analysis.unit_view import view_unit

    asked = ProbeConfig(hypotheses=hypotheses, pattern=pattern, functions=functions)
    dump, table = states_and_labels(states, read, labels, asked)
    # Words show by themselves what a unit does, though no hypothesis is about them.
    is_enough = table is None and dump.of_each_row == "token" and asked == ProbeConfig()
    view = view_unit(dump, array, number, [] if is_enough else planned(dump, asked, table)[0], table)
    for line in reasons(view.not_evaluated):
        warn(line)
    print_table(unit_page(view))


def report(
    results: Positional[Annotated[tuple[Path, ...], arg(metavar="RESULTS...", help_behavior_hint="(required)")]],
    out: Path | None = None,
) -> None:
    """Write one HTML report and the figures of one or several results.

    Several results are shown side by side, and each is compared with the first where both were tested on the same text.

    Args:
        results: folders that `gatescope probe` or `gatescope run` wrote.
        out: folder of report.html and figures/; default: the first folder of results.
    """
    if not results:
        raise InputError("no results: give at least one folder that `gatescope probe` or `gatescope run` wrote")
    # Imported here because SciPy takes a second to import, and most commands do not need it.
    from gatescope.analysis.difference import pairs_of
    from gatescope.analysis.difference_table import LEGEND as OF_DIFFERENCES
    from gatescope.analysis.difference_table import difference_table
    from gatescope.analysis.overview import courses_of
    from gatescope.analysis.overview_table import overview_columns, overview_table

    read = read_results(results)
    pairs = pairs_of(read)
    if courses := courses_of(read):
        print_table(overview_table(read, courses), least=max(80, overview_columns(len(read))))
    for pair in pairs:
        if pair.differences:
            print_table(difference_table(pair))
        else:
            say(f"{pair.second} is not compared with {pair.first}: {pair.why_none}")
    if any(pair.differences for pair in pairs):
        print_table(Text(f"* the whole interval is on one side of 0; {OF_DIFFERENCES}"))
    _report(list(results), out or results[0])


def info(path: Positional[Annotated[str, arg(metavar="PATH")]], model: Path | None = None) -> None:
    """Describe a model, states or a results folder, and check that it is whole.

    Args:
        path: the folder, or another program's states; Zarr by its URL too.
        model: folder of the model that a state dump should come from: the weights are compared.
    """
    say(about(path, model))


def _of_run(results: Path, name: str) -> Path:
    """Return a file of the run; without flags, the results folder is taken to be a run."""
    if not (results / name).exists():
        # A folder without any results is refused for that reason.
        read_records(results)
        flag = name.partition(".")[0]
        raise InputError(f"{results} is not a run: it has no {name}; give that of the results with --{flag}")
    return results / name


def _for_the_report(results: Path) -> str:
    return f"for the report: gatescope report {shlex.quote(str(results))}"


def _report(results: list[Path], out: Path) -> None:
    # Imported here because Matplotlib takes a second to import, and most commands draw nothing.
    from gatescope.analysis.report import write_report

    say(f"report: {write_report(results, out)}")
