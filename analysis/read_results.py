"""Reading of results folders; what the records in them must have is checked by `record_fields`.

A results folder holds `probes.json` (a list of records, one per hypothesis x state set x weighting), `excerpts.json`
(for each hypothesis one text with label, prediction and activation of every character), `config.json` (facts about
model, text and dump), `ablation.json` (how much the loss rises while units are held or directions erased) and
`gates.json` (how often gates are open and shut). Only `probes.json` is required.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from gatescope.analysis.record_fields import check_fields, check_gate, check_held, check_record, is_number, is_unit
from gatescope.analysis.results import (
    ABLATION,
    EXCERPTS,
    GATES,
    NOT_EVALUATED,
    PROBING,
    RECORDS,
    WEIGHTINGS,
    Excerpt,
    Record,
    Result,
    unit_name,
)
from gatescope.engine.errors import InputError
from gatescope.engine.location import local_path
from gatescope.engine.stage_folder import CONFIG, read_config


def read_results(folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Result]:
    """Read results folders and give each the shortest name that distinguishes it from the others.

    Args:
        folders: folders that `gatescope probe` or `gatescope run` wrote, or one of them.

    Returns:
        One Result per folder, in the order given.

    Raises:
        InputError: no folder at all, one folder twice, a file that is missing, is not JSON, or lacks a required field.
    """
    folders = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    if not folders:
        raise InputError(f"no results: give at least one folder that holds {RECORDS}")
    resolved = [local_path(folder).resolve() for folder in folders]
    for position, folder in enumerate(resolved):
        if folder in resolved[:position]:
            raise InputError(f"{folders[position]} is given twice: give each results folder once")
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return [_read_result(path, "/".join(path.parts[-depth:])) for path in resolved]


def read_records(folder: Path) -> tuple[Record, ...]:
    """Read only the records of a results folder.

    Raises:
        InputError: `probes.json` is missing, is not JSON, or lacks a required field.
    """
    return tuple(read_list(folder / RECORDS, check_record))


def read_ablation(folder: Path) -> tuple[Record, ...]:
    """Read the records of an ablation.

    Raises:
        InputError: `ablation.json` is missing, is not JSON, or lacks a required field.
    """
    return tuple(read_list(folder / ABLATION, check_held, "ablate"))


def read_list(path: Path, check: Callable[[Any, str], None], stage: str = "probe") -> list[Any]:
    """Read a list that a stage wrote; `check` is called with each record and its place, and may refuse it."""
    records = _read_json(path, list, stage)
    for position, record in enumerate(records):
        check(record, f"{path}, record {position}")
    return records


def _read_result(folder: Path, name: str) -> Result:
    records = read_records(folder)
    excerpts = _read_json(folder / EXCERPTS, list) if (folder / EXCERPTS).exists() else []
    parsed = [_excerpt(item, f"{folder / EXCERPTS}, entry {i}") for i, item in enumerate(excerpts)]
    config = _read_json(folder / CONFIG, dict) if (folder / CONFIG).exists() else {}
    facts = config.get("facts", {})
    if not isinstance(facts, dict):
        raise InputError(f"{folder / CONFIG}: facts is a {type(facts).__name__}, expected an object")
    if not isinstance(facts.get(NOT_EVALUATED, {}), dict):
        raise InputError(f"{folder / CONFIG}: {NOT_EVALUATED} is not an object of names and reasons")
    if not isinstance(facts.get("probe", {}), dict) or not isinstance(facts.get("probe", {}).get("C", []), list):
        raise InputError(f"{folder / CONFIG}: probe is not an object of settings, with a list of C")
    held = read_ablation(folder) if (folder / ABLATION).exists() else ()
    gates = read_list(folder / GATES, check_gate) if (folder / GATES).exists() else []
    return Result(name, folder, records, {excerpt.hypothesis: excerpt for excerpt in parsed}, facts, held, tuple(gates))


def _read_json(path: Path, expected: type, stage: str = "probe") -> Any:
    again = f"run `gatescope {stage}` again"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path.name == RECORDS and (path.parent / CONFIG).exists():
            stage = read_config(path.parent)["stage"]
            raise InputError(
                f"{path.parent} has no results: `gatescope {stage}` "
                + ("has not finished there: repeat the command to continue" if stage in PROBING else "makes none")
            ) from None
        # As in a folder of `gatescope reproduce`.
        within = sorted(str(each.parent) for each in path.parent.glob(f"*/{path.name}"))
        folder = f"one of {', '.join(within[:5])}" if within else "a folder that `gatescope probe` wrote"
        raise InputError(f"{path} is missing: give {folder}") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is a file: give the folder that holds {path.name}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): {again}") from None
    if not isinstance(value, expected):
        wanted = "a list" if expected is list else "an object"
        raise InputError(f"{path} holds a {type(value).__name__}, expected {wanted}: {again}")
    return value


def _excerpt(item: Any, where: str) -> Excerpt:
    check_fields(item, where, ("hypothesis", "kind", "states", "weighting", "description", "sees", "text"))
    if item["kind"] not in WEIGHTINGS:
        raise InputError(f"{where}: kind is {item['kind']!r}, expected boolean or continuous")
    if not isinstance(item.get("sequence"), int):
        raise InputError(f"{where}: sequence is {item.get('sequence')!r}, expected an integer")
    unit = item.get("unit")
    if unit is not None and not is_unit(unit):
        raise InputError(f"{where}: unit must be null or an object with states and unit")
    length = len(item["text"])
    return Excerpt(
        hypothesis=item["hypothesis"],
        kind=item["kind"],
        states=item["states"],
        weighting=item["weighting"],
        description=item["description"],
        sees=item["sees"],
        sequence=item["sequence"],
        text=item["text"],
        value=_per_character(item, "value", length, where),
        prediction=_per_character(item, "prediction", length, where),
        unit=None if unit is None else unit_name(unit),
        activation=_per_character(item, "activation", length, where),
    )


def _per_character(item: Mapping[str, Any], key: str, length: int, where: str) -> tuple[float | None, ...]:
    numbers = item.get(key)
    if numbers is None:
        return (None,) * length
    if not isinstance(numbers, list) or not all(map(is_number, numbers)):
        raise InputError(f"{where}: {key} must be a list of numbers or nulls, one per character")
    if len(numbers) != length:
        raise InputError(f"{where}: {key} has {len(numbers)} numbers for a text of {length} characters")
    return tuple(None if value is None or not math.isfinite(value) else value for value in numbers)
