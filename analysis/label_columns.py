"""The columns of a file of labels.

The file may be .npz, .csv or .tsv (also compressed, as .csv.gz), .jsonl or .parquet. In an .npz a matrix [N, K] makes
the columns `name_0`, `name_1`, ..., or those of `label_names` [K]; beside states [T, B, H] (or [B, T, H]) a matrix
[T, B] is one column, and [T, B, K] makes K. An .npz that has `labels` may hold the states and anything else as well.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.engine.errors import InputError
from gatescope.engine.location import UNREADABLE, unreadable
from gatescope.engine.other_sequences import IDS, Cube

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".npz", *SEPARATORS, ".jsonl", ".parquet")


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Read the columns of a file by name: of booleans, numbers or words, or of objects, None where missing.

    Returns:
        Columns [N]; those of an .npz as they are there, to be divided by `divided`.

    Raises:
        InputError: the file cannot be read, or has two columns of one name.
    """
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        raise InputError(f"--labels {path} has an unknown format: expected {', '.join(SUFFIXES)}")
    if not path.exists():
        raise InputError(f"--labels {path} does not exist: give the path of a table")
    try:
        return _npz_columns(path) if suffix == ".npz" else _table_columns(path, suffix)
    except InputError:
        raise
    # pandas and pyarrow derive their errors from ValueError, OSError and others of these.
    except UNREADABLE as error:
        raise unreadable(f"--labels {path}", error) from error


def divided(path: Path, columns: dict[str, np.ndarray], cube: Cube | None) -> dict[str, np.ndarray]:
    """Divide the arrays of an .npz into columns [N], and require all columns to have the same length.

    Args:
        path: of the file, for messages.
        columns: as `read_columns` returns them.
        cube: how sequences lie in the states, where these have three dimensions.

    Raises:
        InputError: arrays of other shapes, two columns of one name, or columns of different lengths.
    """
    found: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if name == "label_names":
            continue
        if cube is not None and values.shape[:2] == cube.shape:
            values = cube.rows(values)
        if values.ndim not in (1, 2):
            raise InputError(f"--labels {path}: {name} has {values.ndim} dimensions, expected [N] or [N, K]")
        named = [name]
        if values.ndim == 2:
            named = [f"{name}_{k}" for k in range(values.shape[1])]
            if name == "labels" and "label_names" in columns:
                named = [str(label) for label in columns["label_names"]]
            if len(named) != values.shape[1]:
                raise InputError(f"--labels {path}: {len(named)} label_names for {values.shape[1]} labels")
        for label, column in zip(named, np.atleast_2d(values.T), strict=True):
            if label in found:
                raise InputError(f"--labels {path}: two hypotheses are called {label!r}: give one another name")
            found[label] = column
    lengths = {len(values) for values in found.values()}
    if len(lengths) > 1:
        raise InputError(
            f"--labels {path}: its columns have {min(lengths)} to {max(lengths)} rows, expected the same number"
        )
    return found


def _suffix(path: Path) -> str:
    """Return the suffix that gives the kind of the file: also .csv for table.csv.gz."""
    name = Path(path.name.lower())
    packed = name.suffix == ".gz" and Path(name.stem).suffix in SEPARATORS
    return Path(name.stem).suffix if packed else name.suffix


def _npz_columns(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        wanted = {"labels", "label_names", *IDS} if "labels" in archive.files else set(archive.files)
        return {name: archive[name] for name in archive.files if name in wanted}


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
