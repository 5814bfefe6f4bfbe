"""The fields that the records of a results folder have, and what these may hold.

A check is called with a record and its place, which the message of a refusal begins with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gatescope.analysis.results import ERASE, WEIGHTINGS
from gatescope.engine.errors import InputError

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


def check_record(record: Any, where: str) -> None:
    """Refuse what is not a record of `probes.json`."""
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
        if not isinstance(units, list) or not all(is_unit(unit) for unit in units):
            raise InputError(f"{where}: {key} must be a list of objects with states, unit and numbers")
    if isinstance(record.get("sparse"), dict) and "selected" not in record["sparse"]:
        raise InputError(
            f"{where} is from an earlier gatescope with other units of --sparse: probe again with --overwrite"
        )
    if "sparse" in record and not _is_sparse(record["sparse"]):
        raise InputError(
            f"{where}: sparse must have units, selected, random, rankings: a list of as many numbers or nulls each"
        )


def check_held(record: Any, where: str) -> None:
    """Refuse what is not a record of `ablation.json`."""
    check_fields(record, where, HELD_WORDS, HELD_NUMBERS)
    units = record.get("units")
    known = isinstance(units, list) and all(isinstance(unit, dict) for unit in units)
    # A direction is erased from all units, so its record names none.
    known &= bool(units) == (record["method"] != ERASE)
    if not known or not all(type(unit.get(key)) is int for unit in units for key in ("layer", "unit")):
        raise InputError(f"{where}: units must be a list of objects with layer and unit, empty for {ERASE}")


def check_gate(record: Any, where: str) -> None:
    """Refuse what is not a record of `gates.json`."""
    if not isinstance(record, dict) or type(record.get("layer")) is not int or not isinstance(record.get("gate"), str):
        raise InputError(f"{where} is {record!r:.60}, expected an object with layer and gate")
    shares = [record.get("open"), record.get("shut")]
    lists = [each for each in shares if isinstance(each, list) and each and all(map(_is_share, each))]
    of_units = len(lists) == 2 and len(lists[0]) == len(lists[1])
    if not of_units or any(sum(pair) > 1 + 1e-5 for pair in zip(*lists, strict=True)):
        raise InputError(f"{where}: open and shut must be lists of shares that add up to at most 1, one for each unit")


def is_number(value: Any) -> bool:
    """Whether a field for a number may hold this: a number, or null."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def is_unit(unit: Any) -> bool:
    """Whether this names a unit, with its numbers."""
    return (
        isinstance(unit, dict)
        and isinstance(unit.get("states"), str)
        and type(unit.get("unit")) is int
        and all(is_number(unit.get(key)) for key in UNIT_NUMBERS)
    )


def _is_sparse(value: Any) -> bool:
    """Whether this has the form that `gatescope.analysis.sparse` writes for a hypothesis."""
    if not isinstance(value, dict) or not {"units", "selected", "random"} < value.keys():
        return False
    lists = [each for each in value.values() if isinstance(each, list) and all(map(is_number, each))]
    return len(lists) == len(value) and len({len(each) for each in lists}) == 1


def _is_share(value: Any) -> bool:
    return value is not None and is_number(value) and 0 <= value <= 1
