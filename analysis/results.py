"""Results of the probe stage as the table, the figures and the report read them, and what counts as known.

A results folder holds `probes.json` (a list of records, one per hypothesis x state set x weighting), `excerpts.json`
(for each hypothesis one text with label, prediction and activation of every character), `config.json` (facts about
model, text and dump) and `ablation.json` (what the model loses while units are held). Only `probes.json` must be there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gatescope.engine.errors import InputError
from gatescope.engine.location import local_path

Record = Mapping[str, Any]

# The file in a results folder that says what the model loses without the units named there.
ABLATION = "ablation.json"
# The status of a fit that reached its tolerance; every other status is shown.
CONVERGED = "converged"

KINDS = {"boolean": ("plain", "balanced"), "continuous": ("none",)}
WORDS = ("hypothesis", "kind", "states", "weighting", "status")
SCORES = (
    *("n_train", "n_test", "prevalence", "accuracy", "precision", "recall", "f1", "f1_low", "f1_high", "mcc"),
    *("balanced_accuracy", "auroc", "auroc_low", "auroc_high", "auroc_over_text_low", "auroc_over_text_high"),
    *("average_precision", "log_loss_bits", "brier", "ece"),
    *("r2", "r2_low", "r2_high", "r2_over_text_low", "r2_over_text_high", "pearson"),
    *("baseline_majority_f1", "baseline_text_f1", "baseline_text_auroc", "baseline_text_r2"),
    *("best_unit_f1", "best_unit_auroc", "best_unit_pearson", "localisation", "participation"),
    *("control_score", "selectivity", "best_unit_p", "best_unit_q", "compression"),
    *("untrained_score", "above_untrained_low", "above_untrained_high"),
)
HELD_WORDS = ("hypothesis", "ranking", "method")
HELD_NUMBERS = (
    *("change_holds", "change_holds_low", "change_holds_high", "change_elsewhere"),
    *("random_sets", "random_change_holds", "random_change_elsewhere", "p_holds", "p_difference"),
)
UNIT_NUMBERS = ("coefficient", "importance", "auroc", "correlation")
# By what a hypothesis of each kind is judged, and what chance reaches of it.
MEASURES = {"boolean": ("auroc", 0.5), "continuous": ("r2", 0.0)}


class Verdict(StrEnum):
    """What a probe's score says beside its baselines: see `verdict`."""

    KNOWN = "known"
    UNDECIDED = "undecided"
    BELOW = "below a baseline"
    UNSCORED = "not scored"


@dataclass(frozen=True)
class Excerpt:
    """One hypothesis on one text of n characters: its label, the probe's prediction and one unit's activation.

    `value` is None where the hypothesis is undefined; `prediction` and `activation` are None where there is no probe.
    """

    hypothesis: str
    kind: str
    states: str
    weighting: str
    description: str
    sees: str
    sequence: int
    text: str
    value: tuple[float | None, ...]  # [n]
    prediction: tuple[float | None, ...]  # [n]
    unit: str | None
    activation: tuple[float | None, ...]  # [n]


@dataclass(frozen=True)
class Result:
    """One results folder: a name to tell it from the others, its records, excerpts by hypothesis, and facts.

    `ablation` has what is lost while units are held, a record for each set of units; nothing where nobody asked.
    """

    name: str
    records: tuple[Record, ...]
    excerpts: Mapping[str, Excerpt]
    facts: Mapping[str, Any]
    ablation: tuple[Record, ...]


def read_results(folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Result]:
    """Read results folders and give each the shortest name that tells it from the others.

    Args:
        folders: folders that `gatescope probe` or `gatescope run` wrote, or one of them.

    Returns:
        One Result per folder, in the order given.

    Raises:
        InputError: no folder at all, one folder twice, a file that is missing, is not JSON, or lacks what it must have.
    """
    folders = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    if not folders:
        raise InputError("no results: give at least one folder that holds probes.json")
    resolved = [local_path(folder).resolve() for folder in folders]
    for position, folder in enumerate(resolved):
        if folder in resolved[:position]:
            raise InputError(f"{folders[position]} is given twice: name each results folder once")
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return [_read_result(path, "/".join(path.parts[-depth:])) for path in resolved]


def read_records(folder: Path) -> tuple[Record, ...]:
    """Read the records of a results folder, and nothing else of it.

    Raises:
        InputError: `probes.json` is missing, is not JSON, or lacks what it must have.
    """
    records = _read_json(folder / "probes.json", list)
    for position, record in enumerate(records):
        _check_record(record, f"{folder / 'probes.json'}, record {position}")
    return tuple(records)


def _read_result(folder: Path, name: str) -> Result:
    records = read_records(folder)
    excerpts = _read_json(folder / "excerpts.json", list) if (folder / "excerpts.json").exists() else []
    parsed = [_excerpt(item, f"{folder / 'excerpts.json'}, entry {i}") for i, item in enumerate(excerpts)]
    config = _read_json(folder / "config.json", dict) if (folder / "config.json").exists() else {}
    facts = config.get("facts", {})
    if not isinstance(facts, dict):
        raise InputError(f"{folder / 'config.json'}: facts is a {type(facts).__name__}, expected an object")
    held = _read_json(folder / ABLATION, list) if (folder / ABLATION).exists() else []
    for position, record in enumerate(held):
        _check_held(record, f"{folder / ABLATION}, record {position}")
    return Result(name, records, {excerpt.hypothesis: excerpt for excerpt in parsed}, facts, tuple(held))


def _read_json(path: Path, expected: type) -> Any:
    again = f"run `gatescope {'ablate' if path.name == ABLATION else 'probe'}` again"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not there: give a folder that `gatescope probe` wrote") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is a file: give the folder that holds {path.name}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): {again}") from None
    if not isinstance(value, expected):
        wanted = "a list" if expected is list else "an object"
        raise InputError(f"{path} holds a {type(value).__name__}, expected {wanted}: {again}")
    return value


def _check_record(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where} is a {type(record).__name__}, expected an object")
    for key in WORDS:
        if not isinstance(record.get(key), str):
            raise InputError(f"{where}: {key} is {record.get(key)!r}, expected text")
    if record["kind"] not in KINDS:
        raise InputError(f"{where}: kind is {record['kind']!r}, expected boolean or continuous")
    if record["weighting"] not in KINDS[record["kind"]]:
        wanted = " or ".join(KINDS[record["kind"]])
        raise InputError(f"{where}: weighting is {record['weighting']!r}, expected {wanted}")
    for key in SCORES:
        if not _is_number(record.get(key)):
            raise InputError(f"{where}: {key} is {record[key]!r}, expected a number or null")
    for key in ("top_units", "largest_weights"):
        units = record.get(key) or []
        if not isinstance(units, list) or not all(_is_unit(unit) for unit in units):
            raise InputError(f"{where}: {key} must be a list of objects with states, unit and numbers")


def _check_held(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where} is a {type(record).__name__}, expected an object")
    for key in HELD_WORDS:
        if not isinstance(record.get(key), str):
            raise InputError(f"{where}: {key} is {record.get(key)!r}, expected text")
    for key in HELD_NUMBERS:
        if not _is_number(record.get(key)):
            raise InputError(f"{where}: {key} is {record[key]!r}, expected a number or null")
    units = record.get("units")
    known = isinstance(units, list) and all(isinstance(unit, dict) for unit in units)
    if not known or not units or not all(type(unit.get(key)) is int for unit in units for key in ("layer", "unit")):
        raise InputError(f"{where}: units must be a list of objects with layer and unit")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_unit(unit: Any) -> bool:
    return (
        isinstance(unit, dict)
        and isinstance(unit.get("states"), str)
        and type(unit.get("unit")) is int
        and all(_is_number(unit.get(key)) for key in UNIT_NUMBERS)
    )


def _excerpt(item: Any, where: str) -> Excerpt:
    if not isinstance(item, dict):
        raise InputError(f"{where} is a {type(item).__name__}, expected an object")
    for key in ("hypothesis", "kind", "states", "weighting", "description", "sees", "text"):
        if not isinstance(item.get(key), str):
            raise InputError(f"{where}: {key} is {item.get(key)!r}, expected text")
    if item["kind"] not in KINDS:
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
    if not isinstance(numbers, list) or not all(map(_is_number, numbers)):
        raise InputError(f"{where}: {key} must be a list of numbers or nulls, one per character")
    if len(numbers) != length:
        raise InputError(f"{where}: {key} has {len(numbers)} numbers for a text of {length} characters")
    return tuple(None if value is None or not math.isfinite(value) else value for value in numbers)


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A metric of a record, or None where it does not apply: missing, null, NaN or infinite."""
    value = record.get(key)
    return value if value is not None and math.isfinite(value) else None


def json_number(value: float) -> float | None:
    """Return a metric as records hold it: six decimals, None where it does not apply."""
    return round(float(value), 6) if math.isfinite(value) else None


def score(value: float | None) -> str:
    """Write a score as the field's tables do: two decimals, no leading zero, a dash where it does not apply."""
    if value is None or not math.isfinite(value):
        return "–"
    # Adding zero turns minus zero into zero.
    text = f"{round(value, 2) + 0.0:.2f}"
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    return sign + (digits[1:] if digits.startswith("0.") else digits)


def interval(record: Record, measure: str) -> str | None:
    """Write the 95% interval of a score, or None where it has none."""
    low, high = number(record, f"{measure}_low"), number(record, f"{measure}_high")
    return None if low is None or high is None else f"{score(low)}–{score(high)}"


def unit_name(unit: Mapping[str, Any]) -> str:
    """The name of a unit: its states and its number there, such as `layer0/c 17`."""
    return f"{unit['states']} {unit['unit']}"


def best_unit(record: Record) -> str | None:
    """The name of the unit that the ranking puts first, or None where no probe was fitted."""
    return unit_name(record["top_units"][0]) if record.get("top_units") else None


def best_unit_alone(record: Record) -> float | None:
    """What the best unit tells alone on the test rows: AUROC, or Pearson's r of a continuous hypothesis."""
    return number(record, "best_unit_auroc" if record["kind"] == "boolean" else "best_unit_pearson")


def verdict(record: Record) -> Verdict:
    """Say whether states are known to carry a hypothesis, by how far a score lies above chance and the text baseline.

    The score is AUROC, which needs no threshold, with 1/2 by chance; of continuous hypotheses R2, with 0. It has a 95%
    interval, and so has its difference from the table's, of resamples in which both are scored on the same sequences.
    `known`: the whole of both lies above. `below a baseline`: the whole of one lies below. `undecided`: neither, or an
    interval is missing. `not scored`: there is no score, or the training rows had one class.
    """
    measure, chance = MEASURES[record["kind"]]
    if number(record, measure) is None or record["status"] == "one_class":
        return Verdict.UNSCORED
    names = (f"{measure}_low", f"{measure}_high", f"{measure}_over_text_low", f"{measure}_over_text_high")
    low, high, over_low, over_high = (number(record, name) for name in names)
    if low is None or high is None or over_low is None or over_high is None:
        return Verdict.UNDECIDED
    if low > chance and over_low > 0:
        return Verdict.KNOWN
    return Verdict.BELOW if high < chance or over_high < 0 else Verdict.UNDECIDED


def headline(records: Iterable[Record], states: str = "all") -> dict[str, dict[str, Record]]:
    """Choose one state set per hypothesis, without looking at its scores.

    Args:
        records: records of one result.
        states: the state set to take; a hypothesis that lacks it is shown by the first state set that it has.

    Returns:
        For each hypothesis, in the order of the records, its record per weighting.
    """
    grouped: dict[str, dict[str, dict[str, Record]]] = {}
    for record in records:
        grouped.setdefault(record["hypothesis"], {}).setdefault(record["states"], {})[record["weighting"]] = record
    return {name: sets.get(states) or next(iter(sets.values())) for name, sets in grouped.items()}


def leading(weightings: Mapping[str, Record]) -> Record:
    """The record that speaks for a hypothesis: the plain fit, or whatever there is."""
    return weightings.get("plain") or next(iter(weightings.values()))


def ordered(results: Sequence[Result], kind: str) -> list[str]:
    """Names of the hypotheses of one kind, best known first.

    A hypothesis stands where the first result that has it puts it: by verdict, then AUROC (R2 for continuous ones) from
    high to low, then name.
    """
    first: dict[str, Record] = {}
    for result in results:
        for name, weightings in headline(result.records).items():
            first.setdefault(name, leading(weightings))
    measure, _ = MEASURES[kind]

    def place(name: str) -> tuple[int, float, str]:
        value = number(first[name], measure)
        return list(Verdict).index(verdict(first[name])), math.inf if value is None else -value, name

    return sorted((name for name, record in first.items() if record["kind"] == kind), key=place)
