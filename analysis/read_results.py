"""Reading and checking of results folders.

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

from gatescope.analysis.results import (
    ABLATION,
    ERASE,
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

WORDS = ("hypothesis", "kind", "states", "weighting", "status")
SCORES = (
    *("C", "n_train", "n_test", "n_holds", "n_sequences"),
    *("prevalence", "accuracy", "precision", "recall", "f1", "f1_low", "f1_high", "mcc"),
    *("balanced_accuracy", "auroc", "auroc_low", "auroc_high", "auroc_over_text_low", "auroc_over_text_high"),
    *("average_precision", "log_loss_bits", "brier", "ece"),
    *("r2", "r2_low", "r2_high", "r2_over_text_low", "r2_over_text_high", "pearson"),
    *("baseline_majority_f1", "baseline_text_f1", "baseline_text_auroc", "baseline_text_r2"),
    *("best_unit_f1", "best_unit_auroc", "best_unit_pearson", "localisation", "participation"),
    *("control_score", "selectivity", "character_split_score", "leak", "leak_low", "leak_high"),
    *("best_unit_p", "best_unit_q", "top_units_overlap", "compression"),
    *("untrained_score", "above_untrained_low", "above_untrained_high", "units_needed", "folds", "best_unit_share"),
)
HELD_WORDS = ("hypothesis", "ranking", "method")
HELD_NUMBERS = (
    *("change_holds", "change_holds_low", "change_holds_high", "change_elsewhere"),
    *("n_sequences", "n_characters", "n_holds", "random_sets", "random_change_holds", "random_change_elsewhere"),
    *("p_holds", "q_holds", "p_difference", "q_difference", "auroc_left", "auroc_once"),
    "auroc_undisturbed",
)
UNIT_NUMBERS = ("coefficient", "importance", "auroc", "correlation")


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
    return tuple(read_list(folder / RECORDS, _check_record))


def read_ablation(folder: Path) -> tuple[Record, ...]:
    """Read the records of an ablation.

    Raises:
        InputError: `ablation.json` is missing, is not JSON, or lacks a required field.
    """
    return tuple(read_list(folder / ABLATION, _check_held, "ablate"))


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
    gates = read_list(folder / GATES, _check_gate) if (folder / GATES).exists() else []
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


def check_fields(record: Any, where: str, words: Iterable[str], numbers: Iterable[str] = ()) -> None:
    """Refuse a record that is not an object, lacks a text field, or has something else in a field for a number."""
    if not isinstance(record, dict):
        raise InputError(f"{where} is a {type(record).__name__}, expected an object")
    for key in words:
        if not isinstance(record.get(key), str):
            raise InputError(f"{where}: {key} is {record.get(key)!r}, expected text")
    for key in numbers:
        if not is_number(record.get(key)):
            raise InputError(f"{where}: {key} is {record[key]!r}, expected a number or null")


def _check_record(record: Any, where: str) -> None:
    check_fields(record, where, WORDS, SCORES)
    if record["kind"] not in WEIGHTINGS:
        raise InputError(f"{where}: kind is {record['kind']!r}, expected boolean or continuous")
    if record["weighting"] not in WEIGHTINGS[record["kind"]]:
        wanted = " or ".join(WEIGHTINGS[record["kind"]])
        raise InputError(f"{where}: weighting is {record['weighting']!r}, expected {wanted}")
    if not isinstance(record.get("tested_sha256", ""), str):
        raise InputError(f"{where}: tested_sha256 is {record['tested_sha256']!r}, expected text")
    if "baseline_ngram_f1" in record:
        raise InputError(f"{where} is from an earlier gatescope with other baselines: probe again with --overwrite")
    for key in ("top_units", "largest_weights", "selected_units"):
        units = record.get(key) or []
        if not isinstance(units, list) or not all(_is_unit(unit) for unit in units):
            raise InputError(f"{where}: {key} must be a list of objects with states, unit and numbers")
    if isinstance(record.get("sparse"), dict) and "selected" not in record["sparse"]:
        raise InputError(
            f"{where} is from an earlier gatescope with other units of --sparse: probe again with --overwrite"
        )
    if "sparse" in record and not _is_sparse(record["sparse"]):
        raise InputError(
            f"{where}: sparse must have units, selected, random, rankings: a list of as many numbers or nulls each"
        )


def _check_held(record: Any, where: str) -> None:
    check_fields(record, where, HELD_WORDS, HELD_NUMBERS)
    units = record.get("units")
    known = isinstance(units, list) and all(isinstance(unit, dict) for unit in units)
    # A direction is erased from all units, so its record names none.
    known &= bool(units) == (record["method"] != ERASE)
    if not known or not all(type(unit.get(key)) is int for unit in units for key in ("layer", "unit")):
        raise InputError(f"{where}: units must be a list of objects with layer and unit, empty for {ERASE}")


def _is_sparse(value: Any) -> bool:
    """Whether this has the form that `gatescope.analysis.sparse` writes for a hypothesis."""
    if not isinstance(value, dict) or not {"units", "selected", "random"} < value.keys():
        return False
    lists = [each for each in value.values() if isinstance(each, list) and all(map(is_number, each))]
    return len(lists) == len(value) and len({len(each) for each in lists}) == 1


def _check_gate(record: Any, where: str) -> None:
    if not isinstance(record, dict) or type(record.get("layer")) is not int or not isinstance(record.get("gate"), str):
        raise InputError(f"{where} is {record!r:.60}, expected an object with layer and gate")
    shares = [record.get("open"), record.get("shut")]
    lists = [each for each in shares if isinstance(each, list) and each and all(map(_is_share, each))]
    of_units = len(lists) == 2 and len(lists[0]) == len(lists[1])
    if not of_units or any(sum(pair) > 1 + 1e-5 for pair in zip(*lists, strict=True)):
        raise InputError(f"{where}: open and shut must be lists of shares that add up to at most 1, one for each unit")


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def is_number(value: Any) -> bool:
    """Whether a field for a number may hold this: a number, or null."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_unit(unit: Any) -> bool:
    return (
        isinstance(unit, dict)
        and isinstance(unit.get("states"), str)
        and type(unit.get("unit")) is int
        and all(is_number(unit.get(key)) for key in UNIT_NUMBERS)
    )


def _excerpt(item: Any, where: str) -> Excerpt:
    check_fields(item, where, ("hypothesis", "kind", "states", "weighting", "description", "sees", "text"))
    if item["kind"] not in WEIGHTINGS:
        raise InputError(f"{where}: kind is {item['kind']!r}, expected boolean or continuous")
    if not isinstance(item.get("sequence"), int):
        raise InputError(f"{where}: sequence is {item.get('sequence')!r}, expected an integer")
    unit = item.get("unit")
    if unit is not None and not _is_unit(unit):
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
