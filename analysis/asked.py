"""What is probed: hypotheses about the text of a dump and the user's labels, and their values at each row."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from gatescope.analysis.foresight import LONGEST, looks_ahead
from gatescope.analysis.hypotheses import did_you_mean, known_names, select
from gatescope.analysis.hypothesis import Hypothesis, is_built_in
from gatescope.analysis.label_columns import read_columns
from gatescope.analysis.label_table import LabelTable, ids_of, labels_of
from gatescope.analysis.labels import Labels, label_dump, side_by_side
from gatescope.analysis.language import detect_language
from gatescope.analysis.own_hypotheses import load_functions, pattern
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError
from gatescope.engine.log import log
from gatescope.engine.other_dumps import ReadConfig, open_states
from gatescope.engine.state_source import StateSource

LANGUAGE_SAMPLE = 1 << 20  # characters of the dump's text from which its language is detected


def chosen_hypotheses(config: ProbeConfig, language: str) -> list[Hypothesis]:
    """Return the hypotheses that a configuration names, for a text in the given language.

    All functions of a file are included unless some are named, and so are all patterns.

    Raises:
        InputError: an unknown name, a bad pattern, an unusable file of functions, or a name given twice.
    """
    own = load_functions(config.functions) if config.functions else []
    patterns = [pattern(specification) for specification in config.pattern]
    named = [each for each in patterns if each.name in config.hypotheses]
    of_patterns = {each.name for each in patterns}
    chosen = select([name for name in config.hypotheses if name not in of_patterns], language) + (named or patterns)
    if not any(each in chosen for each in own):
        chosen += own
    names = [each.name for each in chosen]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice:
        raise InputError(f"two hypotheses are called {twice!r}: give the pattern or function another name")
    return chosen


def columns_asked(table: LabelTable, config: ProbeConfig) -> LabelTable:
    """Return the labels of a table that a configuration names, or all if it names none.

    Raises:
        InputError: a name that is neither in the table nor known otherwise.
    """
    # A file of functions may define further names.
    elsewhere = known_names() | {each.partition("=")[0] for each in config.pattern}
    known = elsewhere.union(table.names, table.columns)
    unknown = next((name for name in config.hypotheses if name not in known), None)
    if unknown and not config.functions:
        hint = did_you_mean(unknown, known, f"the labels are {', '.join(table.names[:10])}")
        raise InputError(f"no label, hypothesis or set is named {unknown!r}; {hint}")
    # A column of words is named for all of its words.
    named = [name for name in table.names if {name, name.partition("=")[0]} & set(config.hypotheses)]
    return table.only(named) if named and "auto" not in config.hypotheses else table


def states_and_labels(
    states: str | os.PathLike[str], read: ReadConfig, labels: Path | None, config: ProbeConfig
) -> tuple[StateSource, LabelTable | None]:
    """Open states, and the table of labels for them, if there is one.

    Raises:
        InputError: either cannot be read, a name that is nowhere known, or labels of another number of rows.
    """
    if not labels:
        return open_states(states, read), None
    columns = read_columns(labels)
    dump = open_states(states, read, ids_of(columns))
    asked = () if "auto" in config.hypotheses else config.hypotheses
    table = columns_asked(labels_of(labels, columns, asked, dump.cube), config)
    if len(table.boolean.values) != dump.n_rows:
        or_shaped = (
            f", or in an .npz an array whose shape begins as theirs: {list(dump.cube.shape)}" if dump.cube else ""
        )
        raise InputError(
            f"--labels {labels} has {counted(len(table.boolean.values), 'row')}, and {states} has {dump.n_rows:,}: "
            f"give a row for each state, after a line of column names{or_shaped}"
        )
    return dump, table


def planned(dump: StateSource, config: ProbeConfig, table: LabelTable | None) -> tuple[list[Hypothesis], str]:
    """Return the hypotheses about the text of a dump (none if only labels are requested), and its language."""
    of_table = set(table.names if table else ())
    if table:
        # Columns of the table override hypotheses of the same name; by default only the table is probed.
        of_text = tuple(name for name in config.hypotheses if name not in ("auto", *of_table, *table.columns))
        config = replace(config, hypotheses=of_text)
    asked = config.hypotheses or config.pattern or config.functions
    if dump.vocabulary is None:
        if (asked or table is None) and dump.words is not None:
            raise InputError(
                f"{dump.name} is of words, and these hypotheses are about characters: give your own with --labels"
            )
        if asked or table is None:
            raise InputError(
                f"{dump.name} has no text to evaluate hypotheses on: give a text of "
                f"{counted(dump.n_rows, 'character')} with --text, or your own hypotheses with --labels, which may be "
                "the same file"
            )
        return [], "any"
    language = language_of(dump)
    hypotheses = chosen_hypotheses(config, language)
    twice = next((each.name for each in hypotheses if each.name in of_table), None)
    if twice:
        raise InputError(f"two hypotheses are called {twice!r}: give the column of --labels another name")
    return hypotheses, language


def language_of(dump: StateSource) -> str:
    """Return the language of a dump's text.

    Raises:
        InputError: the dump has no text.
    """
    # A model writes in the language of its corpus; a text that it reads may be in another.
    written = (dump.attributes.get("corpus") or {}) if dump.attributes.get("kind") == "sample" else {}
    return written.get("language") or detect_language(dump.text(0, min(dump.n_rows, LANGUAGE_SAMPLE)))


def unanswerable(hypotheses: Iterable[Hypothesis]) -> dict[str, str]:
    """Return the built-in hypotheses that cannot be evaluated for lack of data, each with the reason."""
    failed = {}
    for each in hypotheses:
        if is_built_in(each.function):
            try:
                each.label("")
            except InputError as error:
                failed[each.name] = str(error)
    return failed


def reasons(failed: Mapping[str, str]) -> list[str]:
    """Return a line for each reason why hypotheses could not be evaluated, after the names of the hypotheses."""
    whys = dict.fromkeys(failed.values())
    return [f"{', '.join(name for name in failed if failed[name] == why)}: {why}" for why in whys]


def labelled_rows(
    dump: StateSource,
    hypotheses: list[Hypothesis],
    language: str,
    table: LabelTable | None,
    log_path: Path,
    warn: Callable[[str], None],
) -> tuple[Labels, Labels, dict[str, str]]:
    """Return the boolean and the continuous labels of a dump's rows, those of the table last.

    The third value maps each hypothesis that could not be evaluated to the reason.
    """
    started = time.perf_counter()
    hypotheses = [_as_seen(each, dump, warn) for each in hypotheses]
    boolean, continuous, failed = label_dump(dump, hypotheses)
    if table:
        boolean, continuous = side_by_side(boolean, table.boolean), side_by_side(continuous, table.continuous)
    seconds = round(time.perf_counter() - started, 3)
    for line in reasons(failed):
        warn(line)
    labelled = [each.name for each in (*boolean.hypotheses, *continuous.hypotheses)]
    log(log_path, "label", seconds=seconds, language=language, hypotheses=labelled, failed=failed)
    if not labelled:
        raise InputError("no hypothesis could be evaluated: see the lines above")
    return boolean, continuous, failed


def _as_seen(hypothesis: Hypothesis, dump: StateSource, warn: Callable[[str], None]) -> Hypothesis:
    """Return a hypothesis; a user's that turns out to look ahead is changed to `sees="future"`."""
    if hypothesis.sees != "past" or is_built_in(hypothesis.function):
        return hypothesis
    bounds = itertools.pairwise(dump.document_starts.tolist())
    texts = (dump.text(start, min(stop, start + LONGEST)) for start, stop in bounds)
    found = looks_ahead(hypothesis, texts, dump.attributes.get("prime", ""))
    if found is None:
        return hypothesis
    warn(f"{hypothesis.name}: {found}; it is treated as sees='future'")
    return replace(hypothesis, sees="future")
