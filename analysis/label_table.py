"""Labels given in a file instead of computed from a text, one row for each state.

The file may be .npz, .csv or .tsv (also compressed, as .csv.gz), .jsonl or .parquet. Every column is a hypothesis. A
column of booleans, or of 0 and 1, is a boolean one; a column of other numbers is continuous; a column of words, such as
parts of speech, makes one boolean hypothesis `column=word` for each word. A missing value, NaN or an empty word is
undefined. A column `sequence_id` (or `sequence_ids`) gives the sequences, which no split cuts, and `token` the token
that was read; neither is a hypothesis. In an .npz a matrix [N, K] makes the columns `name_0`, `name_1`, ..., or those
of `label_names` [K]. An .npz that has `labels` may hold the states and anything else as well.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError
from gatescope.engine.location import UNREADABLE, local_path, unreadable

IDS = ("sequence_id", "sequence_ids")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".npz", *SEPARATORS, ".jsonl", ".parquet")
NOT_LABELS = {*IDS, "token", "tokens", "label_names"}
# A column with more different words than this is an identifier or a text, not a set of classes.
MOST_WORDS = 1000


@dataclass(frozen=True)
class LabelTable:
    """Labels of N rows.

    Args:
        boolean: the boolean ones.
        continuous: the continuous ones.
        sequence_ids: [N], the sequence of each row, or None.
    """

    boolean: Labels
    continuous: Labels
    sequence_ids: np.ndarray | None

    def only(self, names: Iterable[str]) -> LabelTable:
        """Return a table of only the named hypotheses."""

        def of(labels: Labels) -> Labels:
            columns = [k for k, each in enumerate(labels.hypotheses) if each.name in chosen]
            kept = tuple(labels.hypotheses[k] for k in columns)
            return Labels(kept, labels.values[:, columns], labels.defined[:, columns])

        chosen = set(names)
        return LabelTable(of(self.boolean), of(self.continuous), self.sequence_ids)

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
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        raise InputError(f"--labels {path} has an unknown format: expected {', '.join(SUFFIXES)}")
    if not path.exists():
        raise InputError(f"--labels {path} does not exist: give the path of a table")
    try:
        columns = _npz_columns(path) if suffix == ".npz" else _table_columns(path, suffix)
    except InputError:
        raise
    # pandas and pyarrow derive their errors from ValueError, OSError and others of these.
    except UNREADABLE as error:
        raise unreadable(f"--labels {path}", error) from error
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InputError(
            f"--labels {path}: its columns have {min(lengths)} to {max(lengths)} rows, expected the same number"
        )
    ids = next((columns[name] for name in IDS if name in columns), None)
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
    names = [label for columns_of_kind in found.values() for label, _, _ in columns_of_kind]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice:
        raise InputError(
            f"--labels {path}: two hypotheses are called {twice!r}: give one of their columns another name"
        )
    n_rows = max(lengths, default=0)
    boolean, continuous = (_gather(path, kind, found[kind], n_rows) for kind in found)
    if not (found["boolean"] or found["continuous"]):
        raise InputError(
            f"--labels {path} has no column of labels, only {', '.join(columns) or 'none'}: expected labels"
        )
    return LabelTable(boolean, continuous, ids)


def _suffix(path: Path) -> str:
    """Return the suffix that gives the kind of the file: also .csv for table.csv.gz."""
    name = Path(path.name.lower())
    packed = name.suffix == ".gz" and Path(name.stem).suffix in SEPARATORS
    return Path(name.stem).suffix if packed else name.suffix


def _npz_columns(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        wanted = {"labels", "label_names", *IDS} if "labels" in archive.files else set(archive.files)
        arrays = {name: archive[name] for name in archive.files if name in wanted}
    columns: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        if name == "label_names":
            continue
        if values.ndim not in (1, 2):
            raise InputError(f"--labels {path}: {name} has {values.ndim} dimensions, expected [N] or [N, K]")
        named = [name]
        if values.ndim == 2:
            named = [f"{name}_{k}" for k in range(values.shape[1])]
            if name == "labels" and "label_names" in arrays:
                named = [str(label) for label in arrays["label_names"]]
            if len(named) != values.shape[1]:
                raise InputError(f"--labels {path}: {len(named)} label_names for {values.shape[1]} labels")
        for label, column in zip(named, np.atleast_2d(values.T), strict=True):
            if label in columns:
                raise InputError(f"--labels {path}: two hypotheses are called {label!r}: give one another name")
            columns[label] = column
    return columns


def _table_columns(path: Path, suffix: str) -> dict[str, np.ndarray]:
    try:
        import pandas
    except ImportError:
        raise InputError(f"--labels {path}: tables need pandas and pyarrow: pip install 'gatescope[files]'") from None
    if suffix in SEPARATORS:
        table = _read_separated(pandas, path, SEPARATORS[suffix])
    elif suffix == ".jsonl":
        # The reader of pandas takes some words for dates.
        table = pandas.DataFrame(_records(path))
    else:
        table = pandas.read_parquet(path)
        # pandas makes row names of some columns of the file.
        names = [name for name in table.index.names if name in IDS]
        # Do not copy thousands of columns if there are none.
        table = table.reset_index(names) if names else table
    if not table.columns.is_unique:
        raise InputError(f"--labels {path}: two columns have the same name")
    # All but numbers become objects, with None for a missing value. A column without a name is an index.
    return {str(name): _plain(column) for name, column in table.items() if not str(name).startswith("Unnamed: ")}


def _records(path: Path) -> list[dict[str, Any]]:
    """Return the JSON object of each line; a field that a line lacks is missing there."""
    with path.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    wrong = next((record for record in records if not isinstance(record, dict)), None)
    if wrong is not None:
        raise InputError(
            f'--labels {path}: a line holds a {type(wrong).__name__}, expected an object such as {{"verb": 1}}'
        )
    return records


def _read_separated(pandas: Any, path: Path, separator: str) -> Any:
    def read(**options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            # Without `index_col` a comma at the end of each row would turn the first column into row names.
            return pandas.read_csv(path, sep=separator, index_col=False, low_memory=False, **options)

    called = "tabs" if separator == "\t" else "commas"
    # pandas renames columns that share a name.
    names = pandas.read_csv(path, sep=separator, header=None, nrows=1, dtype=str).iloc[0].dropna()
    if not names.is_unique:
        raise InputError(f"--labels {path}: two columns are called {names[names.duplicated()].iloc[0]!r}")
    try:
        table = read()
    except pandas.errors.ParserWarning:
        raise InputError(
            f"--labels {path}: its rows have more fields than its first line has names: separate columns with "
            f"{called}, and name each in the first line"
        ) from None
    if len(table.columns) == 1 and any(sign in table.columns[0] for sign in ";\t," if sign != separator):
        raise InputError(
            f"--labels {path}: its only column is called {table.columns[0]!r}: separate columns with {called}"
        )
    # Among numbers, and among True and False, "NA" and the like are missing values; among words, such as classes of
    # entities, "NA" and "None" are words.
    of_words = [
        place
        for place, (_, column) in enumerate(table.items())
        if column.dtype.kind not in "biuf" and not all(isinstance(value, bool) for value in column.dropna())
    ]
    if of_words:
        words = read(dtype=str, keep_default_na=False, na_values=["", "nan", "NaN"])
        table[table.columns[of_words]] = words.iloc[:, of_words]
    return table


def _plain(column: Any) -> np.ndarray:
    if column.dtype.kind in "biuf" and isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    values = column.astype(object)
    return values.where(column.notna(), None).to_numpy()


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
            yield from _numbers(path, name, numbers, defined)
            return
        values = np.where(defined, values, "").astype(str)
        defined = values != ""
    elif values.dtype.kind == "b":
        yield "boolean", name, values, np.ones(len(values), dtype=bool)
        return
    elif values.dtype.kind in "iuf":
        defined = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), dtype=bool)
        yield from _numbers(path, name, values, defined)
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


def _numbers(
    path: Path, name: str, values: np.ndarray, defined: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    present = values[defined].astype(np.float64)
    if ((present == 0) | (present == 1)).all():
        yield "boolean", name, defined & (values == 1), defined
        return
    numbers = np.where(defined, values, 0).astype(np.float64)
    with np.errstate(over="ignore"):
        wrong = np.flatnonzero(~np.isfinite(numbers.astype(np.float32)))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"--labels {path}: {name} is {values[row]} in row {row}, expected finite numbers or nothing")
    yield "continuous", name, numbers, defined


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
