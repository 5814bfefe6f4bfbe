"""Probing of a state dump: labels, fits, baselines, metrics and responsible units of every hypothesis.

On each state set (each recorded array, and all h and c together) every boolean hypothesis is fitted twice, plain and
with balanced classes, and every continuous one by ridge regression.

The results folder gets `probes.json` (the records), `excerpts.json` (texts to paint), `coefficients.safetensors`,
`config.json` and, if gates were recorded, `gates.json`.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from gatescope.analysis.asked import labelled_rows, planned, reasons, states_and_labels, unanswerable
from gatescope.analysis.excerpts import excerpts
from gatescope.analysis.fit_files import Fit, holds_fit, load_fit, save_fit
from gatescope.analysis.hypothesis import Hypothesis, is_built_in
from gatescope.analysis.label_table import LabelTable
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import CONTROL_DRAWS, ProbeConfig, probe_settings, sha256_of
from gatescope.analysis.read_results import read_results
from gatescope.analysis.results import (
    ABLATION,
    COEFFICIENTS,
    EXCERPTS,
    GATES,
    NOT_EVALUATED,
    RECORDS,
    WEIGHTINGS,
    json_number,
)
from gatescope.analysis.saturation import saturation
from gatescope.analysis.significance import benjamini_hochberg
from gatescope.analysis.split import FEWEST_DOCUMENTS, divides_documents, groups_of, split_sequences
from gatescope.analysis.state_sets import state_sets
from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove, write_atomic, write_json
from gatescope.engine.location import local_path
from gatescope.engine.log import log
from gatescope.engine.other_dumps import ReadConfig
from gatescope.engine.progress import progress_bar
from gatescope.engine.stage_folder import CONFIG, claimed, record_facts
from gatescope.engine.state_source import StateSource
from gatescope.engine.untrained import untrained_states

if TYPE_CHECKING:
    from gatescope.analysis.study import Study

FITS = "fits"
UNTRAINED = "untrained.zarr"
UNFINISHED = (FITS, UNTRAINED)
OUTPUTS = (RECORDS, EXCERPTS, COEFFICIENTS, *UNFINISHED, ABLATION, GATES)
# With more words than this, a column of labels may be one that nobody meant to probe.
MANY_WORDS = 100
# Bytes per row of the dump that a fit of one hypothesis takes: labels, weights, predictions and the text baseline.
BYTES_OF_EACH = 40
# With folds a fit takes this many times as much, since all rows, and not just a fifth, have predictions.
FOLDS_TIMES = 3


def probe_dump(
    states: str | os.PathLike[str],
    results: str | os.PathLike[str],
    config: ProbeConfig,
    *,
    read: ReadConfig | None = None,
    labels: str | os.PathLike[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Fit and score every hypothesis on recorded states and write the results folder; a finished one is only read.

    Args:
        states: a dump, or states of another program: see `gatescope.engine.other_dumps`.
        results: the folder of the results.
        config: the hypotheses and the method.
        read: which states to use, and what their file lacks.
        labels: a file with further hypotheses: see `gatescope.analysis.label_table`.
        seed: of the split and of the bootstrap.
        overwrite: start over, replacing what the folder holds.
        say: is called with a line on how the states are read: rows, sequences, language.
        warn: is called with one line for each hypothesis that could not be evaluated or is found to look ahead, for a
            column of very many words, if no interval can be given, and for each end of a range of C that is chosen as
            best.

    Returns:
        The records, as in `probes.json`.

    Raises:
        InputError: an unusable dump, hypothesis or setting, or a folder of other settings.
    """
    read, results = read or ReadConfig(), local_path(results)
    labels = local_path(labels) if labels else None
    dump, table = states_and_labels(states, read, labels, config)
    if table:
        _warn_of_columns(table, warn)
    dump.require_whole()
    plan = planned(dump, config, table)
    split_sequences(groups_of(dump), config.test_share, seed, config.folds)
    if config.alignment == "pre":
        for name in {name for arrays in state_sets(dump.names, "pre").values() for name in arrays}:
            dump.initial(name)
    settings = {**probe_settings(config, seed), "read": read, "dump": dump.identity()}
    if labels:
        settings["labels_sha256"] = sha256_of(labels)
    is_new = overwrite or not (results / CONFIG).exists()
    with claimed(results, "probe", settings, OUTPUTS, overwrite):
        try:
            log_path = results / "log.jsonl"
            return study_dump(dump, results, config, plan, table, seed=seed, log_path=log_path, say=say, warn=warn)
        except InputError:
            # A user who corrects the mistake must not be refused because of the settings that contained it.
            if is_new:
                for name in (CONFIG, *UNFINISHED):
                    remove(results / name)
            raise


def study_dump(
    dump: StateSource,
    results: Path,
    config: ProbeConfig,
    plan: tuple[list[Hypothesis], str],
    table: LabelTable | None = None,
    *,
    seed: int,
    log_path: Path,
    say: Callable[[str], None],
    warn: Callable[[str], None],
    advice: Sequence[str] = ("give more", "test all with --folds 5"),
) -> list[dict[str, Any]]:
    """Do the work of `probe_dump` in a folder that is already claimed.

    The plan has the hypotheses and the language; `advice` is what to do if too few sequences are tested: how to get
    more, and how to test all.
    """
    hypotheses, language = plan
    if (results / RECORDS).exists():
        finished = _finished(results, hypotheses, say, warn)
        if finished is not None:
            return finished
    boolean, continuous, failed = labelled_rows(dump, hypotheses, language, table, log_path, warn)
    labelled = [each.name for each in (*boolean.hypotheses, *continuous.hypotheses)]
    # The solver and scikit-learn take seconds to import: commands that fit nothing should not wait for them.
    from sklearn.exceptions import ConvergenceWarning

    from gatescope.analysis.facts import facts_of, reading
    from gatescope.analysis.study import Study

    untrained = untrained_states(dump, results / UNTRAINED, seed=seed, log_path=log_path) if config.controls else None
    study = Study(dump, config, seed, untrained)
    say(reading(study, language))
    record_facts(results, facts_of(study, language, failed))
    _warn_of_few(study, advice, warn)
    with warnings.catch_warnings():
        # The records and the table show the status of each hypothesis.
        warnings.simplefilter("ignore", ConvergenceWarning)
        records, coefficients, painted = _fitted(study, boolean, continuous, results / FITS, log_path)
    # With one class only, there is no loss to choose C by.
    chosen = [record["C"] for record in records if "C" in record and record["status"] != "one_class"]
    _warn_of_ends(chosen, config.C, warn)
    names = [*(each.name for each in hypotheses), *(table.names if table else ())]
    order = {name: place for place, name in enumerate(names)}
    records.sort(key=lambda record: order[record["hypothesis"]])
    if config.controls:
        # Over all hypotheses and state sets together: the more are tested, the more pass by chance.
        p = np.array([record.get("best_unit_p") or np.nan for record in records])
        for record, q in zip(records, benjamini_hochberg(p), strict=True):
            record["best_unit_q"] = json_number(q)
    contents = {"boolean": [each.name for each in boolean.hypotheses], "ridge": labelled[len(boolean.hypotheses) :]}
    columns = {name: study.columns(name) for name in study.state_sets}
    header = json.dumps({"hypotheses": contents, "columns": columns})
    arrays = {**coefficients, "fold_that_tests": study.fold_that_tests}
    write_atomic(results / COEFFICIENTS, save(arrays, {"gatescope": header}))
    write_json(results / EXCERPTS, sorted(painted, key=lambda item: order[item["hypothesis"]]))
    gates = saturation(dump)
    if gates:
        write_json(results / GATES, gates)
    # The records are written last: a folder that has them is finished.
    write_json(results / RECORDS, records)
    _tidy(results)
    return records


def _finished(
    results: Path, hypotheses: list[Hypothesis], say: Callable[[str], None], warn: Callable[[str], None]
) -> list[dict[str, Any]] | None:
    """Return the records of a finished probe, or None if more can be evaluated now, so that all is probed again."""
    _tidy(results)
    found = read_results([results])[0]
    failed = found.facts.get(NOT_EVALUATED, {})
    # The tagger's data may have been installed meanwhile; a function of the user is the same as before.
    lacking = [each for each in hypotheses if each.name in failed and is_built_in(each.function)]
    still = unanswerable(lacking)
    mended = [each.name for each in lacking if each.name not in still]
    if not mended:
        for line in reasons(failed):
            warn(line)
        return list(map(dict, found.records))
    say(f"{', '.join(mended)}: could not be evaluated before, but can be now: all hypotheses are probed again")
    remove(results / RECORDS)
    return None


def _warn_of_few(study: Study, advice: Sequence[str], warn: Callable[[str], None]) -> None:
    """Warn if documents or sequences are too few for the reported numbers; `advice` is as in `study_dump`."""
    from gatescope.analysis.scorer import FEWEST_GROUPS

    if divides_documents(study.dump):
        documents = counted(len(study.dump.document_starts) - 1, "document is", "documents are")
        warn(
            f"{documents} too few to keep each whole: neighbouring sequences both train and test probes, and count as "
            f"independent; with {FEWEST_DOCUMENTS} documents they do not"
        )
    n_columns, n_training = len(study.columns(study.main_set)), len(np.unique(study.group_of[study.train]))
    if study.config.standard_errors and n_training <= n_columns:
        warn(
            f"--standard-errors: {n_training} sequences (documents) for {n_columns} units: the errors will be too small"
        )
    if study.n_tested < FEWEST_GROUPS:
        tested = counted(study.n_tested, "sequence (document) is", "sequences (documents) are")
        # Folds test all, and all may be too few.
        remedy = ", or ".join(advice if len(np.unique(study.group_of)) >= FEWEST_GROUPS else advice[:1])
        warn(f"{tested} tested, but intervals, without which nothing counts as known, need {FEWEST_GROUPS}: {remedy}")


def _warn_of_columns(table: LabelTable, warn: Callable[[str], None]) -> None:
    """Warn of columns that were probably meant otherwise: with many words, or with two numbers other than 0 and 1."""
    (column, count), *_ = Counter(name.partition("=")[0] for name in table.names).most_common(1)
    if count > MANY_WORDS:
        warn(f"--labels: each of {count} words of {column!r} is a hypothesis: choose some with --hypotheses")
    two = []
    for k, each in enumerate(table.continuous.hypotheses):
        values = table.continuous.values[table.continuous.defined[:, k], k]
        low, high = values.min(), values.max()
        if low < high and ((values == low) | (values == high)).all():
            two.append(f"{each.name!r}, {low:g} and {high:g}")
    if two:
        warn(
            f"--labels: {len(two)} continuous column(s) have only two values (the first is {two[0]}): write them as 0 "
            "and 1, or as words, to make them boolean"
        )


def _warn_of_ends(chosen: list[float], Cs: Sequence[float], warn: Callable[[str], None]) -> None:
    """Warn of fits whose best penalty is the first or last one offered, so that a better one may lie beyond it."""
    for end, beyond in ((min(Cs), "smaller"), (max(Cs), "larger")):
        if end in chosen:
            warn(f"--C: {end:g} is the best for {chosen.count(end)} of {len(chosen)} fits: give {beyond} values, too")


def _tidy(results: Path) -> None:
    """Remove files that only an unfinished probe needs."""
    for name in UNFINISHED:
        # Finished results may be in a read-only folder.
        if (results / name).exists():
            remove(results / name)


def _fitted(study: Study, boolean: Labels, continuous: Labels, folder: Path, log_path: Path) -> Fit:
    """Fit every state set, continuing after the fits in a folder; return all, coefficients by set and weighting.

    As many hypotheses are fitted at a time as memory has room for. Each such part is fitted on every state set before
    the next part, and each fit is saved to a file.
    """
    from gatescope.analysis.study_fit import fit_study

    records: list[dict[str, Any]] = []
    coefficients: dict[str, list[np.ndarray]] = {}
    painted: list[dict[str, Any]] = []
    at_once = (1 + CONTROL_DRAWS * study.config.controls) * (FOLDS_TIMES if study.config.folds > 1 else 1)
    size = max(1, study.config.memory_bytes // 2 // (BYTES_OF_EACH * at_once * study.dump.n_rows))
    kinds = [(boolean, WEIGHTINGS["boolean"]), (continuous, WEIGHTINGS["continuous"])]
    todo = [
        fit
        for labels, names in kinds
        for part in labels.parts(size)
        for fit in product([part], study.state_sets, names)
    ]
    with progress_bar("probe", sum(len(labels.hypotheses) for labels, _, _ in todo), "fits") as advance:
        for number, (labels, name, weighting) in enumerate(todo):
            path = folder / f"{number}.safetensors"
            advance(0, f"{number + 1} of {len(todo)}: {len(labels.hypotheses)} x {name}, {weighting}")
            if not holds_fit(path, [each.name for each in labels.hypotheses]):
                started = time.perf_counter()
                found, weights, predicted = fit_study(study, name, labels, weighting)
                # Without the text there is nothing to paint.
                is_shown = name == study.main_set and weighting != "balanced" and study.dump.vocabulary is not None
                texts = excerpts(study.dump, labels, study.test, predicted, study.activation) if is_shown else []
                save_fit(path, (found, weights, texts))
                statuses = [record["status"] for record in found]
                seconds = round(time.perf_counter() - started, 3)
                log(log_path, "probe", states=name, weighting=weighting, seconds=seconds, statuses=statuses)
            found, weights, texts = load_fit(path)
            records += found
            painted += texts
            for part, array in weights.items():
                coefficients.setdefault(f"{name}/{weighting}/{part}", []).append(array)
            advance(len(labels.hypotheses))
    return records, {name: np.concatenate(arrays) for name, arrays in coefficients.items()}, painted
