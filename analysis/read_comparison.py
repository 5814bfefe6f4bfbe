"""Reading of the paper's scores beside ours, which `gatescope reproduce` writes next to the folders of its cells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from gatescope.analysis.read_results import read_list
from gatescope.analysis.record_fields import check_fields, is_number
from gatescope.analysis.reproduction import CELLS, METRICS, REPRODUCTION
from gatescope.analysis.results import Record
from gatescope.engine.errors import InputError
from gatescope.engine.location import local_path


def read_comparison(folders: Iterable[str | os.PathLike[str]]) -> list[list[Record]]:
    """Read the paper's scores beside ours for those folders that `gatescope reproduce` wrote for its cells.

    Returns:
        The return value of `reproduction.compared` for each cell.

    Raises:
        InputError: `reproduction.json`, in the folder above, is not JSON or lacks a required field.
    """
    tables = []
    for folder in map(local_path, folders):
        cell, path = folder.resolve().name, folder.resolve().parent / REPRODUCTION
        if cell in CELLS and path.exists():
            rows = read_list(path, _check_compared, "reproduce")
            tables.append([row for row in rows if row["cell"] == cell])
    return [rows for rows in tables if rows]


def _check_compared(row: Any, where: str) -> None:
    check_fields(row, where, ("cell", "figure", "name"))
    groups = [row.get(key) for key in ("hypotheses", "validation_nats", "paper", "legacy", "corrected")]
    hypotheses, nats, *scores = groups
    found = [each for each in scores if each is not None]
    if not (
        isinstance(hypotheses, dict)
        and "legacy" in hypotheses
        and isinstance(nats, dict)
        and all(isinstance(nats.get(key), int | float) for key in ("paper", "ours"))
        and all(
            isinstance(each, dict) and all(isinstance(each.get(metric), dict) for metric in METRICS) for each in found
        )
        and all(is_number(value) for each in found for pair in each.values() for value in pair.values())
    ):
        raise InputError(f"{where}: expected hypotheses, validation_nats, and scores of paper, legacy and corrected")
