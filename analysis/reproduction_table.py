"""The paper's tables in the terminal, our numbers beside its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from gatescope.analysis.reproduction import METRICS, WEIGHTINGS
from gatescope.analysis.results import score

COLUMNS = {"paper": "the paper", "legacy": "its labels", "corrected": "correct labels"}


def reproduction_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out what `reproduction.compared` returns: three lines for each hypothesis, pairs plain/balanced.

    Args:
        rows: of one or several cells.

    Returns:
        A table for `rich.print`, readable from 80 columns on.
    """
    table = Table(
        caption="pairs are plain/balanced fits on the states before each character, on unseen sequences",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for heading in ("figure", "hypothesis", "scores"):
        table.add_column(heading, no_wrap=True)
    for heading in ("accuracy", "precision", "recall", "F1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        for place, (key, name) in enumerate(COLUMNS.items()):
            first = f"{row['cell'].upper()}, {row['figure']}" if place == 0 and row["name"] == rows[0]["name"] else ""
            table.add_row(*map(Text, [first, row["name"] if place == 0 else "", name, *_cells(row, key)]))
    return table


def _cells(row: Mapping[str, Any], key: str) -> list[str]:
    scores = row[key]
    if scores is None:
        cannot = key == "legacy" and row["hypotheses"]["legacy"] is None
        return ["not reproducible" if cannot else "not evaluated", "", "", ""]
    return ["/".join(score(scores[metric].get(name)) for name in WEIGHTINGS) for metric in METRICS]
