"""Labels given in a file instead of computed from a text, one row for each state.

Every column of the file (`label_columns`) is a hypothesis. A column of booleans, or of 0 and 1, is a boolean one; a
column of other numbers is continuous; a column of words, such as parts of speech, makes one boolean hypothesis
`column=word` for each word. A missing value, NaN or an empty word is undefined. A column `sequence_id` (or
`sequence_ids`) gives the sequences, which no split cuts, and `token` the token that was read; neither is a hypothesis.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.label_columns import divided, read_columns
from gatescope.analysis.labels import Labels
from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError
from gatescope.engine.location import local_path
from gatescope.engine.other_sequences import IDS, Cube

NOT_LABELS = {*IDS, "token", "tokens", "label_names"}
# A column with more different words than this is an identifier or a text, not a set of classes.
MOST_WORDS = 1000


@dataclass(frozen=True)
class LabelTable:
    """Labels of N rows.

    Args:
        boolean: the boolean ones.
        continuous: the continuous ones.
    """

    boolean: Labels
    continuous: Labels

    def only(self, names: Iterable[str]) -> LabelTable:
        """Return a table of only the named hypotheses."""

        def of(labels: Labels) -> Labels:
            columns = [k for k, each in enumerate(labels.hypotheses) if each.name in chosen]
            kept = tuple(labels.hypotheses[k] for k in columns)
            return Labels(kept, labels.values[:, columns], labels.defined[:, columns])

        chosen = set(names)
        return LabelTable(of(self.boolean), of(self.continuous))

    @property
    def columns(self) -> set[str]:
        """The columns of words, each of which is a hypothesis such as `pos=DET`."""
        return {column for column, equals, _ in (name.partition("=") for name in self.names) if equals}

    @property
    def names(self) -> list[str]:
        """The hypotheses in the order of the file, boolean ones first."""
        return [each.name for labels in (self.boolean, self.continuous) for each in labels.hypotheses]


def read_labels(path: str | os.PathLike[str], asked: Collection[str] = ()) -> LabelTable:
    """Read a file of labels.

    Args:
        path: of the file.
        asked: names of hypotheses. If some of them are columns of the file, other columns that hold no labels, such as
            words of a text or dates, are skipped; otherwise all columns must hold labels.

    Raises:
        InputError: the file cannot be read, has no label, or columns of different lengths.
    """
    path = local_path(path)
    return labels_of(path, read_columns(path), asked)


def ids_of(columns: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return the sequence of each row [N], if some columns of `read_columns` say it."""
    return next((columns[name] for name in IDS if name in columns), None)


def labels_of(
    path: Path, columns: dict[str, np.ndarray], asked: Collection[str] = (), cube: Cube | None = None
) -> LabelTable:
    """Return the labels of columns from `read_columns`; arguments as `read_labels` and `divided` have them."""
    columns = divided(path, columns, cube)
    found: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {"boolean": [], "continuous": []}
    named = {each.partition("=")[0] for each in asked} | set(asked)
    needless = set(columns) - named if named & set(columns) else set()
    for name, values in columns.items():
        if name in NOT_LABELS:
            continue
        try:
            of_column = list(_labels_of(path, name, values))
        except InputError:
            if name in needless:
                continue
            raise
        for kind, label, numbers, defined in of_column:
            # A column without missing values needs no memory for this: there may be thousands of them.
            where = np.broadcast_to(np.True_, len(defined)) if defined.all() else defined
            found[kind].append((label, numbers, where))
    n_rows = len(next(iter(columns.values()), ()))
    boolean, continuous = (_gather(path, kind, found[kind], n_rows) for kind in found)
    table = LabelTable(boolean, continuous)
    if not table.names:
        raise InputError(
            f"--labels {path} has no column of labels, only {', '.join(columns) or 'none'}: expected labels"
        )
    twice = next((name for name, count in Counter(table.names).items() if count > 1), None)
    if twice:
        raise InputError(
            f"--labels {path}: two hypotheses are called {twice!r}: give one of their columns another name"
        )
    return table


def _labels_of(path: Path, name: str, values: np.ndarray) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield the hypotheses of a column: kind, name, values [N] and where they are defined [N]."""
    if values.dtype.kind == "O":
        defined = np.array([value is not None for value in values], dtype=bool)
        present = values[defined]
        several = next((value for value in present if isinstance(value, list | tuple | dict | set | np.ndarray)), None)
        if several is not None:
            raise InputError(
                f"--labels {path}: {name} holds a {type(several).__name__} in a row, expected a number or a word"
            )
        if all(isinstance(value, bool | int | float | Decimal | np.number | np.bool_) for value in present):
            numbers = np.zeros(len(values))
            numbers[defined] = present.astype(np.float64)
            yield _numbers(path, name, numbers, defined)
            return
        values = np.where(defined, values, "").astype(str)
        defined = values != ""
    elif values.dtype.kind == "b":
        yield "boolean", name, values, np.ones(len(values), dtype=bool)
        return
    elif values.dtype.kind in "iuf":
        defined = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), dtype=bool)
        yield _numbers(path, name, values, defined)
        return
    elif values.dtype.kind in "US":
        values = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        defined = values != ""
    else:
        raise InputError(f"--labels {path}: {name} is {values.dtype}, expected numbers, booleans or words")
    words = np.unique(values[defined])
    if len(words) > MOST_WORDS:
        raise InputError(
            f"--labels {path}: {name} has {counted(len(words), 'different word')}, such as {str(words[0])[:40]!r}: "
            f"expected numbers, or at most {MOST_WORDS:,} words; choose other columns with --hypotheses"
        )
    for word in words:
        yield "boolean", f"{name}={word}", values == word, defined


def _numbers(path: Path, name: str, values: np.ndarray, defined: np.ndarray) -> tuple[str, str, np.ndarray, np.ndarray]:
    """Return the hypothesis of a column of numbers."""
    present = values[defined].astype(np.float64)
    if ((present == 0) | (present == 1)).all():
        return "boolean", name, defined & (values == 1), defined
    numbers = np.where(defined, values, 0).astype(np.float64)
    with np.errstate(over="ignore"):
        wrong = np.flatnonzero(~np.isfinite(numbers.astype(np.float32)))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"--labels {path}: {name} is {values[row]} in row {row}, expected finite numbers or nothing")
    return "continuous", name, numbers, defined


def _gather(path: Path, kind: str, columns: list[tuple[str, np.ndarray, np.ndarray]], n_rows: int) -> Labels:
    description = f"from {path.name}"
    hypotheses = tuple(Hypothesis(name, "any", kind, "unknown", description, _not_of_a_text) for name, _, _ in columns)
    if not columns:
        return Labels(hypotheses, *np.zeros((2, n_rows, 0), dtype=bool))
    values = np.stack([numbers for _, numbers, _ in columns], axis=1)
    if all(defined.strides == (0,) for _, _, defined in columns):
        return Labels(hypotheses, values, np.broadcast_to(np.True_, values.shape))
    return Labels(hypotheses, values, np.stack([defined for _, _, defined in columns], axis=1))


def _not_of_a_text(text: str) -> Any:
    raise InputError("labels of a file belong to its rows and cannot be painted on another text")
